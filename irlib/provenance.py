"""What a number was made from, as hashes: sources, notebook, model, rows, versions, threads."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

PACKAGES = tuple("matplotlib numpy pandas pillow scipy tokenizers torch transformers".split())
DRAWING = (
    "across",
    "cli",
    "listing",
    "plots",
    "reproduce",
    "store",
    "verdict",
    "widgets",
)  # no table hangs on these


def fingerprint(value: object) -> str:
    """Return the sha256 of a value's JSON, its keys sorted.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sources(package: Path, *, skip: Iterable[str] = ()) -> str:
    """Return the sha256 of a package's Python files; `skip` names modules right inside it."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0].removesuffix(".py") not in skip:
            digest.update(place.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


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
                name = path.relative_to(folder).as_posix()
                digest.update(name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()
    if commit := getattr(vlm.model.config, "_commit_hash", None):
        return f"commit {commit}"
    for name, tensor in sorted(vlm.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def rows(samples: Iterable) -> dict[str, dict]:
    """Return per task how many rows there are and the sha256 of all that is in them."""
    digests, counts = {}, {}
    for sample in samples:
        digest = digests.setdefault(sample.task, hashlib.sha256())
        counts[sample.task] = counts.get(sample.task, 0) + 1
        words = [sample.key, sample.question, sample.prompt, sample.kind, sample.max_new_tokens]
        boxes = [[box.label, box.x0, box.y0, box.x1, box.y1] for box in sample.boxes]
        digest.update(fingerprint([words, boxes, sample.reference]).encode())
        if isinstance(sample.image, str | Path):
            digest.update(Path(sample.image).read_bytes())
        elif sample.image is not None:
            digest.update(f"{sample.image.mode}{sample.image.size}".encode())
            digest.update(sample.image.tobytes())
    return {
        task: {"rows": counts[task], "sha256": digest.hexdigest()}
        for task, digest in sorted(digests.items())
    }


def surroundings() -> dict[str, object]:
    """Return versions and thread count: what else can move the last digit of a float."""
    versions = {name: version(name) for name in PACKAGES}
    torch = sys.modules.get("torch")  # asked only where something has loaded it
    threads = torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS", 0))
    return {"threads": threads, "versions": {"python": platform.python_version(), **versions}}


def identity(value: object) -> object:
    """Return what a value is, as JSON: numbers and strings themselves, models and rows by hash.

    Raises TypeError for a value that it cannot tell from another of its kind.

    >>> identity({"layers": range(3), "keep": 0})
    {'layers': [0, 1, 2], 'keep': 0}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if hasattr(value, "reference"):
        return rows([value])
    if hasattr(value, "model") and hasattr(value, "processor"):
        dtype, device = str(value.model.dtype), str(value.model.device)
        packed = getattr(value, "quantization", None)
        extra = {"quantization": packed} if packed else {}
        return {"model": model(value), "dtype": dtype, "device": device, **extra}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable):
        items = list(value)
        samples = items and all(hasattr(item, "reference") for item in items)
        return rows(items) if samples else [identity(item) for item in items]
    raise TypeError(
        f"cached was asked to key a table by {value!r}; it knows numbers, strings, models, samples "
        "and lists or dicts of them; pass what determines the table as those."
    )
