"""A set on the hub as a folder: its card and the files of one split, and no more.

TextVQA's training pictures are tens of gigabytes that no score needs. What was fetched once is
found again without a network.
"""

import re
from collections.abc import Callable
from pathlib import Path

CARD = ("README.md", "synonyms.txt")


def home(folder: Path) -> Path:
    """Return the folder that a set's files lie in: its own, or in the hub's cache the one around
    it, as its files are links to others there.

    >>> home(Path("/data/pope")).name
    'pope'
    """
    around = (up.parent for up in folder.parents if up.name == "snapshots")
    return next((up for up in around if (up / "blobs").is_dir()), folder).resolve()


def fetch(
    what: str,
    place: str,
    wanted: Callable[[Path], list[str] | None],
    *,
    revision: str | None = None,
) -> Path:
    """Return the folder of a set, OWNER/NAME at a revision, with its card and some of its files.

    `wanted(folder)` reads the card in the folder and gives the patterns of the files, None for all.
    Raises ConnectionError where the hub cannot be reached and the files were not fetched before,
    ValueError for a set, revision or permission that there is not.
    """
    import httpx2  # half a second with the next: only rows of the hub pay it
    from huggingface_hub import constants, errors, snapshot_download

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        raise ValueError(
            f"{what} was asked for from the hub, {place!r}; that is no id; write hub:OWNER/NAME."
        )
    known = {"repo_type": "dataset", "revision": revision}
    try:
        files = wanted(Path(snapshot_download(place, allow_patterns=list(CARD), **known)))
        patterns = files and [*CARD, *files]
        return Path(snapshot_download(place, allow_patterns=patterns, **known))
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{what} was asked for from the hub, {place} at revision {revision!r}; it has no such "
            "revision; name a branch, a tag or a commit, or none."
        ) from error
    except errors.RepositoryNotFoundError as error:  # a gated one is told so, too
        raise ValueError(
            f"{what} was asked for from the hub, {place}; it knows no such set, or not for you; "
            "correct the id, or log in with `hf auth login` where it is gated."
        ) from error
    except (httpx2.HTTPError, errors.EntryNotFoundError, ConnectionError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        raise ConnectionError(
            f"{what} was asked for from the hub, {place}; it cannot be reached{offline} and these "
            f'rows were not fetched before ({type(error).__name__}); go online, or give source="'
            "bundled\" or a folder laid out like the hub's."
        ) from error
