"""What a number was made from, as hashes: sources, notebook, model, rows, versions, threads."""

import ast
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = tuple("matplotlib numpy pandas pillow scipy tokenizers torch transformers".split())
ANSWERING = tuple("numpy pillow tokenizers torch transformers".split())  # of these an answer's
INSTRUMENT = ("models", "staircase")  # what turns a row into answers, with all that they import
HANDED = ("store", "tasks")  # give it rows and folders, whose content is hashed itself


def fingerprint(value: object) -> str:
    """Return the sha256 of a value's JSON, its keys sorted.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sources(package: Path) -> str:
    """Return the sha256 of a package's Python files."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        digest.update(place.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def closure(names: Iterable[str], package: Path, *, leave: Iterable[str] = ()) -> list[Path]:
    """Return the files of these modules of a package and of all of it that they import, sorted.

    Read from every import in the sources, wherever it stands, so that none can be forgotten;
    modules in `leave` are not followed. Raises FileNotFoundError for a module that is not there.

    >>> [path.name for path in closure(["grids"], Path(__file__).parent)]
    ['grids.py']
    """
    found, waiting = set(), [(name,) for name in names]
    for name in names:
        if _file(package, (name,)) is None:
            raise FileNotFoundError(
                f"asked for the sources of {name!r}, found no such module in {package}; name one "
                "that is there"
            )
    while waiting:
        path = _file(package, waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                home = node.module or ""
                if node.level:  # relative: counted from the file's own package
                    above = path.relative_to(package.parent).parts[: -node.level]
                    home = ".".join([*above, *filter(None, [home])])
                named = [f"{home}.{alias.name}" for alias in node.names]
            for parts in (name.split(".") for name in named):
                inside = tuple(parts[1:])
                if parts[0] == package.name and inside and inside[0] not in leave:
                    waiting += [inside[: i + 1] for i in range(len(inside))]
    return sorted(found)


def instrument(package: Path = Path(__file__).parent) -> str:
    """Return the sha256 of the sources that turn a row into answers; plots and scores are none."""
    files = closure(INSTRUMENT, package, leave=HANDED)
    told = [[path.relative_to(package).as_posix(), path.read_text("utf-8")] for path in files]
    return fingerprint(told)


def _file(package: Path, name: tuple[str, ...]) -> Path | None:
    """Return the file of a module inside a package; None where the name is none of a module."""
    place = package.joinpath(*name)
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def notebook(path: Path) -> str | None:
    """Return the sha256 of a notebook's code, its outputs left out; None where there is none."""
    if not path.is_file():
        return None
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return fingerprint(["".join(c["source"]) for c in cells if c["cell_type"] == "code"])


def model(vlm) -> str:
    """Return what the weights are: a sha256 of a local folder's files, the hub's commit, or, for a
    model made in memory, a sha256 of its tensors."""
    folder = Path(vlm.model.name_or_path or "\0")
    digest = hashlib.sha256()
    if "\0" not in str(folder) and folder.is_dir():
        for path in sorted(folder.rglob("*")):  # InstructBLIP's second tokenizer is a folder
            told = path.name == "scores.json"  # what was measured of it, not what it is
            if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt") and not told:
                name, facts = path.relative_to(folder).as_posix(), path.stat()
                digest.update(name.encode() + b"\0")
                digest.update(_content(path, facts.st_size, facts.st_mtime_ns).encode())
        return digest.hexdigest()
    if commit := getattr(vlm.model.config, "_commit_hash", None):
        return f"commit {commit}"
    for name, tensor in sorted(vlm.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


@lru_cache
def _content(path: Path, size: int, changed: int) -> str:
    """The sha256 of a file as it was then: 14 GB of weights are read once, a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows(samples: Iterable) -> dict[str, dict]:
    """Return per task how many rows there are and the sha256 of all that is in them."""
    digests, counts = {}, {}
    for sample in samples:
        digest = digests.setdefault(sample.task, hashlib.sha256())
        counts[sample.task] = counts.get(sample.task, 0) + 1
        words = [sample.key, sample.question, sample.prompt, sample.kind, sample.max_new_tokens]
        boxes = [[box.label, box.x0, box.y0, box.x1, box.y1] for box in sample.boxes]
        digest.update(fingerprint([words, boxes, sample.reference]).encode())
        digest.update(_picture(sample.image))
    return {
        task: {"rows": counts[task], "sha256": digest.hexdigest()}
        for task, digest in sorted(digests.items())
    }


def asked(sample, *, max_new_tokens: int | None = None) -> str:
    """Return the sha256 of what a model is asked by a sample: words, picture, length of the answer.

    Its task, key, reference and boxes are no part of it: no answer hangs on them. Raises OSError
    for a picture that cannot be read and ValueError for something that is none.
    """
    limit = max_new_tokens or sample.max_new_tokens
    words = fingerprint([sample.question, sample.prompt, limit]).encode()
    return hashlib.sha256(words + _picture(sample.image)).hexdigest()


def _picture(image) -> bytes:
    """What of a picture is seen, whether it is open or a file."""
    if image is None:
        return b""
    if isinstance(image, str | Path):
        return b"file" + Path(image).read_bytes()
    if hasattr(image, "tobytes") and hasattr(image, "getexif"):
        upright = image.getexif().get(0x0112)  # the tag that says how a picture is to be turned
        palette = image.getpalette() if image.mode in ("P", "PA") else None
        return f"{image.mode}{image.size}{upright}{palette}".encode() + image.tobytes()
    raise ValueError(
        f"asked about the picture {image!r}, found a {type(image).__name__}; give a PIL picture or "
        "a path"
    )


def surroundings() -> dict[str, object]:
    """Return versions and thread count: what else can move the last digit of a float."""
    versions = {name: version(name) for name in PACKAGES}
    torch = sys.modules.get("torch")  # asked only where something has loaded it
    threads = torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS", 0))
    return {"threads": threads, "versions": {"python": platform.python_version(), **versions}}


def identity(value: object) -> object:
    """Return a parameter as JSON: numbers and strings themselves, lists and arrays of them.

    Raises TypeError for a value that it cannot tell from another of its kind.

    >>> identity({"layers": range(3), "keep": 0})
    {'layers': [0, 1, 2], 'keep': 0}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable):
        return [identity(item) for item in value]
    raise TypeError(
        f"save_figure was asked to tell the parameter {value!r}; it knows numbers, strings, and "
        "lists or dicts of them; pass what determines the figure as those."
    )
