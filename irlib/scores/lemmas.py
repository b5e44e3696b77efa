"""Base forms of a caption's words, as CHAIR's code takes them from NLTK.

Every word of `word_tokenize` is tagged by `pos_tag` and reduced by `WordNetLemmatizer` with that
part of speech, noun where WordNet has none: `caption_to_words` of chair.py in shikiw/OPERA, which
the paper's authors use unchanged, and of lmms-eval. CHAIR's first release had another reducer.

Read are punkt_tab (lists of text), the tagger's weights (JSON) and WordNet 3.0 (tables): no pickle,
as before NLTK 3.9. Each is taken only when whole, by the number of its entries.
"""

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from types import MappingProxyType
from zipfile import BadZipFile

_TAGGER = "averaged_perceptron_tagger_eng"
# Of each package where it lies in NLTK's data, and how many entries the files have that are read:
# WordNet's by wnstats(7WN) of its release 3.0; JSON is whole where it parses.
PACKAGES = MappingProxyType(
    {
        "punkt_tab": (
            "tokenizers/punkt_tab",
            {
                "english/abbrev_types.txt": 156,
                "english/collocations.tab": 37,
                "english/ortho_context.tab": 20366,
                "english/sent_starters.txt": 39,
            },
        ),
        _TAGGER: (
            f"taggers/{_TAGGER}",
            {f"{_TAGGER}.{part}.json": None for part in ("classes", "tagdict", "weights")},
        ),
        "wordnet": (
            "corpora/wordnet",
            {
                **{"index.noun": 117798, "index.verb": 11529, "index.adj": 21479},
                **{"index.adv": 4481, "index.sense": 206941, "data.adj": 18156},
                **{"noun.exc": 2054, "verb.exc": 2401, "adj.exc": 1490, "adv.exc": 7},
                **{"lexnames": 45},
            },
        ),
    }
)
_PARTS = {"J": "a", "V": "v", "N": "n", "R": "r"}  # of a Penn tag's first letter, as WordNet's


def base_forms(text: str) -> list[str]:
    """Return the words of a text, lower-cased and each in its base form; marks are words.

    "Skies" is "sky", "two cars" are "two", "car", a "seated" man is seated where the tagger reads
    an adjective and "seat" where it reads a verb. Raises LookupError where NLTK's data are not
    there or not whole: `fetch` brings them.
    """
    words, tag, lemma = _tools(tuple(_nltk().data.path))
    return [lemma(word, _PARTS.get(kind[:1], "n")) for word, kind in tag(words(text.lower()))]


def fetch(folder: str | Path, *, index: str | None = None) -> None:
    """Have NLTK's data: found where NLTK looks (NLTK_DATA) or in a folder, else fetched into it.

    What is missing or not whole is fetched by NLTK's own downloader, once; it writes into `folder`
    alone, and a package comes whole or not at all. `index` is another list of packages than
    NLTK's. Raises ConnectionError, which says what to put where, if that does not help.
    """
    nltk, folder, failed = _nltk(), Path(folder).resolve(), None
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))
    if lacks := _lacking():
        try:
            _download(list(lacks), folder, index)
        except (OSError, ValueError) as error:
            failed = error
        if lacks := _lacking():  # another process may have brought them meanwhile
            why = "; NLTK's downloader brought it, but another place comes first"
            if failed:
                why = f"; NLTK's downloader did not bring it ({str(failed)[:160]})"
            raise ConnectionError(_told(lacks, folder, why)) from failed


def _nltk():
    """NLTK, of a release that reads no pickles."""
    import nltk  # only a table that does not list its forms pays it

    if tuple(int(part) for part in nltk.__version__.split(".")[:2]) < (3, 9):
        raise ImportError(
            f"CHAIR was asked for NLTK's base forms; found NLTK {nltk.__version__}, which "
            "unpickles its models; install 3.9 or newer."
        )
    return nltk


@lru_cache(maxsize=1)
def _tools(places: tuple[str, ...]) -> tuple[Callable, Callable, Callable]:
    """Tokenizer, tagger and lemmatizer from the data in these places, once they are known whole."""
    if lacks := _lacking():
        raise LookupError(_told(lacks, Path("data/coco"), ""))
    from nltk import word_tokenize
    from nltk.stem import WordNetLemmatizer
    from nltk.tag import PerceptronTagger

    return word_tokenize, PerceptronTagger(lang="eng").tag, WordNetLemmatizer().lemmatize


def _lacking() -> dict[str, str]:
    """What is wrong with each package that is not there, or not whole, where NLTK looks first."""
    lacks = {}
    for package, (place, files) in PACKAGES.items():
        for file, wanted in files.items():
            try:
                found, entries = _entries(f"{place}/{file}")
            except LookupError as error:  # NLTK reads no folder that others can write, and says so
                refused = " ".join(str(error).split()).partition("Refused, ")[2]
                refused = f" (refused, {refused.partition(' then download')[0]})" if refused else ""
                lacks[package] = f"no {place}/{file}{refused}"
                break
            except (OSError, ValueError, BadZipFile) as error:
                lacks[package] = f"a {place}/{file} that does not read ({str(error)[:160]})"
                break
            if entries != wanted and (wanted or not entries):
                lacks[package] = f"{entries} entries in {found}, where {wanted or 'some'} belong"
                break
    return lacks


def _entries(name: str) -> tuple[str, int]:
    """Where NLTK finds a file, and how many entries it has, the licence of WordNet's left out."""
    with warnings.catch_warnings():  # a folder that NLTK refuses is told in the error
        warnings.simplefilter("ignore", RuntimeWarning)
        found = _nltk().data.find(name)
    with found.open() as file:
        if name.endswith(".json"):
            return str(found), len(json.load(file))
        return str(found), sum(not line.startswith((b"  ", b"\n")) for line in file)


def _download(packages: list[str], folder: Path, index: str | None) -> None:
    """Put these packages into the folder, each whole or not at all; raise OSError, ValueError."""
    from nltk.downloader import Downloader

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(folder.stat().st_mode & ~0o022)  # NLTK reads no folder that others can write
    paths = _nltk().data.path
    before = list(paths)
    try:
        with tempfile.TemporaryDirectory(prefix=".nltk-", dir=folder) as part:
            Downloader(index).download(
                packages,
                download_dir=part,
                quiet=True,
                raise_on_error=True,
                print_error_to=io.StringIO(),
                extract=True,
            )
            for place, _ in map(PACKAGES.get, packages):
                target = folder / place
                target.parent.mkdir(mode=0o755, exist_ok=True)
                rmtree(target, ignore_errors=True)
                (Path(part) / place).replace(target)
    finally:
        paths[:] = before


def _told(lacks: dict[str, str], folder: Path, tried: str) -> str:
    places = ", ".join(place for place, _ in PACKAGES.values())
    return (
        f"CHAIR's word table needs NLTK's data for base forms; found {'; '.join(lacks.values())}"
        f"{tried}; put {places} of NLTK's data into {folder} or a folder that NLTK_DATA names "
        "(Debian's packages wordnet-base and wordnet-sense-index have WordNet, all but its short "
        'list lexnames), or begin a table that lists every form itself with "# forms: listed".'
    )
