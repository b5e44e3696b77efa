"""A set on the hub as a folder: the card and the files of one split, and no more.

TextVQA's training pictures are tens of gigabytes that no score needs. What was fetched once is
found again without a network.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

TIMEOUT = 10.0  # seconds for the first question to the hub; without a network it fails at once


def fetch(
    what: str, place: str, files: Callable[[str], list[str]], *, revision: str | None = None
) -> Path:
    """Return the folder of a set, OWNER/NAME at a revision, with its card and some of its files.

    `files(commit)` says which, by their paths in the set. Raises ConnectionError where the hub
    cannot be reached and nothing was fetched before, ValueError for a set, revision or permission
    that there is not.
    """
    import httpx2  # half a second with the next: only rows of the hub pay it
    from huggingface_hub import HfApi, errors, snapshot_download

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        raise ValueError(
            f"{what} was asked for from the hub, {place!r}; that is no id; write hub:OWNER/NAME."
        )
    known = {"repo_type": "dataset", "revision": revision}
    try:
        commit = HfApi().dataset_info(place, revision=revision, timeout=TIMEOUT).sha
        wanted = ["README.md", "synonyms.txt", *files(commit)]
        return Path(snapshot_download(place, allow_patterns=wanted, **known))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise ValueError(
            f"{what} was asked for from the hub, {place}; it tells of no such set, or not to you; "
            "correct the id, or log in with `hf auth login` where it is gated."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{what} was asked for from the hub, {place} at revision {revision!r}; it has no such "
            "revision; name a branch, a tag or a commit, or none."
        ) from error
    except (httpx2.TransportError, errors.HfHubHTTPError, ConnectionError) as error:
        try:
            return Path(snapshot_download(place, local_files_only=True, **known))
        except (errors.LocalEntryNotFoundError, OSError):
            offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
            raise ConnectionError(
                f"{what} was asked for from the hub, {place}; it cannot be reached{offline} and "
                f'was not fetched before: {error}; go online, or give source="bundled" or a '
                "folder laid out like the hub's."
            ) from error
