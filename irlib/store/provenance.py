"""What a number was made from, as hashes: model, rows, versions, threads, parameters."""

import hashlib
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path, PureWindowsPath

from irlib.store import contents
from irlib.store.places import root

PACKAGES = tuple("matplotlib numpy pandas pillow scipy tokenizers torch transformers".split())
ANSWERING = tuple("numpy pillow tokenizers torch transformers".split())  # of these an answer's
PARTS = "parts.json"  # in a folder that was put together here: of what, and its files' sha256
_STEP = r"[\\/][^\s\\/:;,'\"()]+"
_PATH = re.compile(
    rf"(?<![\w./\\])(?:(?:~\w*|\.\.)(?:{_STEP})+|(?:file://|[A-Za-z]:)?(?:{_STEP}){{2,}})"
)


def fingerprint(value: object) -> str:
    """Return the sha256 of a value's JSON, its keys sorted.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def model(vlm) -> str:
    """Return what the weights are: a sha256 of a local folder's files, or of what it was put
    together of, the hub's commit, or, for a model made in memory, a sha256 of its tensors. With an
    adapter, of both, which says so."""
    place, base = vlm.model.name_or_path, getattr(vlm, "base", None)
    if base is None or base == place:
        told = _weights(vlm, place)
        return f"adapter and base {told}" if base else told
    return f"adapter {_weights(vlm, place)} on {_weights(vlm, base)}"


def _weights(vlm, place: str) -> str:
    """What the weights at one place are: a folder's files, a commit, or the tensors in memory."""
    folder = Path(place or "\0")
    digest = hashlib.sha256()
    if "\0" not in str(folder) and folder.is_dir():
        if made_of := parts(folder):
            return fingerprint(made_of)
        for path in sorted(folder.rglob("*")):  # InstructBLIP's second tokenizer is a folder
            told = path.name == "scores.json"  # what was measured of it, not what it is
            if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt") and not told:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
                digest.update(contents.file(path).encode())
        return digest.hexdigest()
    if commit := getattr(vlm.model.config, "_commit_hash", None):
        return f"commit {commit}"
    for name, tensor in sorted(vlm.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def parts(folder: Path) -> dict | None:
    """Return of what a folder was put together on this machine, as its parts.json tells.

    None where it was not, or where a file of it is another since.
    """
    try:
        told = json.loads((folder / PARTS).read_text(encoding="utf-8"))
        known, made_of = dict(told["files"]), dict(told["parts"])
        here = {path.name for path in folder.iterdir()} - {PARTS}
        same = here == known.keys()
        same = same and all(contents.file(folder / name) == known[name] for name in here)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made_of if same else None


def rows(samples: Iterable) -> dict[str, dict]:
    """Return per task how many rows there are and the sha256 of all that is in them."""
    digests, counts = {}, {}
    for sample in [samples] if hasattr(samples, "reference") else samples:
        digest = digests.setdefault(sample.task, hashlib.sha256())
        counts[sample.task] = counts.get(sample.task, 0) + 1
        words = [sample.key, sample.question, sample.prompt, sample.kind, sample.max_new_tokens]
        boxes = [[box.label, box.x0, box.y0, box.x1, box.y1] + [box.picture] * (box.picture > 0)
                 for box in sample.boxes]  # fmt: skip
        digest.update(fingerprint([words, boxes, sample.reference]).encode())
        digest.update(contents.picture(sample.image))
    return {
        task: {"rows": counts[task], "sha256": digest.hexdigest()}
        for task, digest in sorted(digests.items())
    }


def asked(sample, *, max_new_tokens: int | None = None) -> str:
    """Return the sha256 of what a model is asked by a sample: words, picture, length of the answer.

    Its task, key, reference and boxes are no part of it: no answer hangs on them. Raises OSError
    for a picture that cannot be read and ValueError for something that is none.
    """
    limit = sample.max_new_tokens if max_new_tokens is None else max_new_tokens
    words = fingerprint([sample.question, sample.prompt, limit]).encode()
    return hashlib.sha256(words + contents.picture(sample.image)).hexdigest()


def surroundings() -> dict[str, object]:
    """Return versions and thread count: what else can move the last digit of a float."""
    versions = {name: version(name) for name in PACKAGES}
    torch = sys.modules.get("torch")  # asked only where something has loaded it
    threads = torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS", 0))
    return {"threads": threads, "versions": {"python": platform.python_version(), **versions}}


def identity(value: object) -> object:
    """Return a value as JSON: numbers and strings themselves, lists and arrays of them.

    Floats have six significant digits, as in a csv, and are null where they are not finite. A path
    is told from the project's folder on, one that leads elsewhere by its last part alone: whose
    machine it was is nobody's business, and what lies there has a hash of its own. Raises TypeError
    for a value that it cannot tell from another of its kind.

    >>> identity({"layers": range(3), "keep": 0, "share": 1 / 3, "source": "/home/me/rows"})
    {'layers': [0, 1, 2], 'keep': 0, 'share': 0.333333, 'source': 'rows'}
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, str | Path):
        return _placeless(str(value))
    if isinstance(value, Mapping):
        return {str(identity(name)): identity(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return identity(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted((identity(item) for item in value), key=repr)
    if isinstance(value, Iterable):
        return [identity(item) for item in value]
    raise TypeError(
        f"save_figure was asked to tell the parameter {value!r}; it knows numbers, strings, and "
        "lists or dicts of them; pass what determines the figure as those."
    )


def _placeless(text: str) -> str:
    """The text without a place on this machine: as a path, or with paths among its words."""
    foreign, text = PureWindowsPath(text), text.removeprefix("file://")
    if Path(text).is_absolute() or text.startswith("~") or _upwards(foreign.parts):
        try:
            place = Path(os.path.normpath(Path(text).expanduser().absolute()))
        except RuntimeError:  # the home of nobody here
            return foreign.name if foreign.parts[1:] else "~"
        home = Path(os.path.normpath(root()))
        if place.is_relative_to(home) and place != home:
            return place.relative_to(home).as_posix()
        nobody = place.name == Path.home().name or place.parent.as_posix() in ("/home", "/Users")
        return "~" if nobody else place.name or text
    return foreign.name if foreign.drive and foreign.root else _PATH.sub(_shortened, text)


def _upwards(parts: tuple[str, ...]) -> bool:
    """Whether these are the steps of one path that goes up, and no words before one."""
    return ".." in parts and " " not in parts[0]


def _shortened(found: re.Match) -> str:
    return _placeless(found[0])
