"""CHAIR: which objects does a caption mention that are not there? (Rohrbach et al., 2018)

With COCO's word table this is chair.py of shikiw/OPERA, which the paper's authors use unchanged and
lmms-eval follows, to the digit: words in NLTK's base forms (lemmas.py), double words, toilet seats,
synonyms, counting. The first release (LisaAnne/Hallucination) reduces words by `pattern`, which is
not in here. A table that lists every form of its words says so, and words are taken as written.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irlib.scores import lemmas
from irlib.scores.pope import ratio

COUNTS = ("score", "mentions", "hallucinated", "found", "objects")
COCO = (  # the official table, as it was at the last commit of CHAIR's own repository
    "https://raw.githubusercontent.com/LisaAnne/Hallucination/"
    "6e4d33c4bedf6dfcd24c61bf527f40714717be47/data/synonyms.txt"
)
COCO_SHA256 = "b685537b36fe21b791c87151b96a991ceb582edff19f3da204dcc7a7905502f2"
LISTED = "# forms: listed"  # first line of a table that needs no base forms

# a word as it is written: hyphens, slashes and inner full stops bind, an apostrophe does not
_WORD = re.compile(r"\w+(?:[-/.]\w+)*|'\w*|[^\w\s]")
_PAIRS = """motor bike,motor cycle,air plane,traffic light,street light,traffic signal,stop light,
    fire hydrant,stop sign,parking meter,suit case,sports ball,baseball bat,baseball glove,
    tennis racket,wine glass,hot dog,cell phone,mobile phone,teddy bear,hair drier,potted plant,
    laptop computer,home plate,train track"""
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
_DOUBLE = (
    {pair: pair for pair in re.split(r",\s*", _PAIRS)}
    | {f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS}
    | {"passenger jet": "jet", "passenger train": "train"}
    | {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}
)


class Words(NamedTuple):
    """The word table: a class a line with its synonyms, the class first. `listed` tells that every
    form of a word is among them; otherwise words are looked up in NLTK's base form."""

    lines: tuple[tuple[str, ...], ...]
    listed: bool = False

    @property
    def classes(self) -> dict[str, str]:
        """The class of every word."""
        return {word: line[0] for line in self.lines for word in line}


def fetch_words(folder: str | Path, *, url: str = COCO) -> Path:
    """Return the path of COCO's word table in a folder, downloaded where it is not there yet.

    A file there with another checksum is replaced. Raises ConnectionError, which says what to put
    where, if the table can be neither found nor fetched.
    """
    import pooch  # only rows without a table of their own pay it

    pooch.get_logger().setLevel("WARNING")
    try:
        kept = pooch.retrieve(url, f"sha256:{COCO_SHA256}", fname="synonyms.txt", path=folder)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"CHAIR needs COCO's word table; it is not at {Path(folder) / 'synonyms.txt'} and did "
            f"not come from {url} ({type(error).__name__}: {str(error)[:80]}); put that file there "
            f"(sha256 {COCO_SHA256[:12]}...), or a synonyms.txt of your own beside the rows."
        ) from error
    return Path(kept)


def read_words(path: str | Path) -> Words:
    """Return the word table: a class a line, its synonyms after comma and space, the class first.

    Lines are cut as the official code cuts them, so a double space makes an entry that no caption
    can match. A first line "# forms: listed" tells that every form of a word is listed; a table
    without it is the official kind. Raises FileNotFoundError where there is no such file,
    ValueError for one without words or with another line of that kind.

    >>> from irlib.store import root
    >>> words = read_words(root() / "data/tasks/chair/synonyms.txt")
    >>> words.listed, words.classes["cats"]
    (True, 'cat')
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"CHAIR needs a word table; found none at {path}; put synonyms.txt there (for COCO: "
            "data/synonyms.txt of github.com/LisaAnne/Hallucination)."
        )
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    listed = lines[:1] == [LISTED]
    lines = lines[listed:]
    if not lines or any(line.startswith("#") for line in lines):
        raise ValueError(
            f"CHAIR was asked to read the word table {path}; found {len(lines)} lines, one of them "
            f"a remark or none a class; write a class a line, and no remark but {LISTED!r}, first."
        )
    return Words(tuple(tuple(line.strip().split(", ")) for line in lines), listed)


def mentions(text: str, words: Words) -> list[str]:
    """Return the classes that a caption mentions, in order, each as often as it is said.

    Raises LookupError where the table needs base forms and NLTK's data are not there.

    >>> mentions("Two puppies and a hot dog.", Words((("dog", "puppies"), ("hot dog",)), True))
    ['dog', 'hot dog']
    """
    classes = words.classes
    doubles = _DOUBLE | {word: word for word in classes if word.count(" ") == 1}
    tokens = _WORD.findall(text.lower()) if words.listed else lemmas.base_forms(text)
    found, i = [], 0
    while i < len(tokens):
        pair = " ".join(tokens[i : i + 2])
        found.append(doubles.get(pair, tokens[i]))
        i += 2 if pair in doubles else 1
    if "toilet" in found:
        found = [word for word in found if word != "seat"]
    return [classes[word] for word in found if word in classes]


def ground_truth(words: Words, objects, captions=()) -> tuple[str, ...]:
    """Return the classes that are there: annotated objects and what people's captions mention.

    Raises ValueError for an annotated object that the table does not have.

    >>> ground_truth(Words((("dog", "puppy"), ("cat",)), True), ["puppy"], ["A cat sleeps."])
    ('cat', 'dog')
    """
    classes = words.classes
    unknown = sorted(set(objects) - classes.keys())
    if unknown:
        raise ValueError(
            f"CHAIR was asked about objects {', '.join(unknown)}; its word table of "
            f"{len(words.lines)} classes has none of them; use the table that belongs to the task."
        )
    said = [name for caption in captions for name in mentions(caption, words)]
    return tuple(sorted({classes[name] for name in objects} | set(said)))


def score(reference, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return the counts of a caption; score is 1 where nothing is hallucinated.

    mentions counts every mention, hallucinated those not among reference["objects"], found the
    distinct ones that are, objects all that are there. reference["words"] is the word table.

    >>> words = Words((("dog",), ("cat",)), listed=True)
    >>> score({"objects": ("dog",), "words": words}, "A dog, a dog and a cat.")
    {'score': 0.0, 'mentions': 3.0, 'hallucinated': 1.0, 'found': 1.0, 'objects': 1.0}
    """
    there, said = set(reference["objects"]), mentions(text, reference["words"])
    wrong = [name for name in said if name not in there]
    numbers = (not wrong, len(said), len(wrong), len(there & set(said)), len(there))
    return dict(zip(COUNTS, map(float, numbers), strict=True))


def pool(counts: dict[str, np.ndarray], total) -> dict[str, np.ndarray]:
    """Return CHAIRs (captions with a hallucination), CHAIRi (of all mentions) and recall.

    CHAIRi is 0 where no caption mentions anything.
    """
    wrong = counts["hallucinated"]
    return {
        "CHAIRs": ratio(total(np.asarray(wrong > 0, float)), total(np.ones_like(wrong))),
        "CHAIRi": ratio(total(wrong), total(counts["mentions"])),
        "CHAIR recall": ratio(total(counts["found"]), total(counts["objects"])),
    }
