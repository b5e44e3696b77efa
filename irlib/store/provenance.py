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

from irlib.faces import handed

PACKAGES = tuple("matplotlib numpy pandas pillow scipy tokenizers torch transformers".split())
ANSWERING = tuple("numpy pillow tokenizers torch transformers".split())  # of these an answer's
INSTRUMENT = (
    "models.loading",
    "interventions.staircase",
)  # what turns a row into answers, with all that they import
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

    Read from every import in the sources, wherever it stands, so that none can be forgotten; of
    what a room's face hands on, only the module that it comes from. Rooms in `leave` are not
    followed. Raises FileNotFoundError for a module that is not there.

    >>> [path.name for path in closure(["inputs.grids"], Path(__file__).parents[1])]
    ['grids.py']
    """
    found, waiting = set(), []
    for name in names:
        files = _files(package, tuple(name.split(".")))
        if not files:
            raise FileNotFoundError(
                f"asked for the sources of {name!r}, found no such module in {package}; name one "
                "that is there"
            )
        waiting += files
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for parts in _imported(node, path, package):
                if parts[0] == package.name and len(parts) > 1 and parts[1] not in leave:
                    waiting += _files(package, tuple(parts[1:]))
    return sorted(found)


def instrument(package: Path = Path(__file__).parents[1]) -> str:
    """Return the sha256 of the sources that turn a row into answers; plots and scores are none."""
    files = closure(INSTRUMENT, package, leave=HANDED)
    told = [[path.relative_to(package).as_posix(), path.read_text("utf-8")] for path in files]
    return fingerprint(told)


def _imported(node: ast.AST, path: Path, package: Path) -> list[list[str]]:
    """The dotted names of an import statement in the file `path`, in their parts."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".") for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    home = [*filter(None, [node.module])]
    if node.level:  # relative: counted from the file's own package
        home = [*path.relative_to(package.parent).parts[: -node.level], *home]
    return [[*".".join(home).split("."), alias.name] for alias in node.names]


def _files(package: Path, name: tuple[str, ...]) -> list[Path]:
    """Return the files behind a dotted name of a package: the module itself, the home of what a
    face hands on, all homes of a whole room; and every __init__ on the way that is no face."""
    files, place = [], package
    for i in range(len(name) + 1):
        place = package.joinpath(*name[:i])
        if i and (module := place.with_suffix(".py")).is_file():
            return [*files, module]
        if not (init := place / "__init__.py").is_file():
            break
        rest, homes = name[i:], handed(init)
        if not homes:
            files.append(init)
        elif not rest:
            asked = homes.values() if i else ()
            return files + [
                package.parent.joinpath(*h.split(".")).with_suffix(".py") for h in asked
            ]
        elif rest[0] in homes:
            home = homes[rest[0]].split(".")
            return [*files, package.parent.joinpath(*home).with_suffix(".py")]
    return files


def notebook(path: Path) -> str | None:
    """Return the sha256 of a notebook's code, its outputs left out; None where there is none."""
    if not path.is_file():
        return None
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return fingerprint(["".join(c["source"]) for c in cells if c["cell_type"] == "code"])


def model(vlm) -> str:
    """Return what the weights are: a sha256 of a local folder's files, the hub's commit, or, for a
    model made in memory, a sha256 of its tensors. With an adapter, of both, which says so."""
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
