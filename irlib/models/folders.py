"""What a folder, or a hub id, holds: read and judged before anything of it is used."""

import json
import re
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import safe_open

from irlib.models.shards import DTYPES, INDEX

READ = (".json", ".safetensors", ".jinja", ".model", ".txt")  # the files that are read
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
HUB_ID = r"[\w.-]+/[\w.-]+"
CODE = "auto_map"  # names code of a checkpoint's own in a json file of it
TOLD = (  # the files that transformers looks for such code in
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "qformer_tokenizer/tokenizer_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
)


def names_hub(name: str) -> bool:
    """Whether a name can be a hub id, OWNER/NAME, as the hub itself spells them.

    >>> names_hub("llava-hf/llava-1.5-7b-hf"), names_hub("./rows"), names_hub("../rows")
    (True, False, False)
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return re.fullmatch(HUB_ID, name) is not None


def file_of(source: str, file: str, *, revision: str | None = None) -> Path | None:
    """The path of a file of a folder or hub id; None where there is no such file.

    >>> from irlib.models.loading import minis
    >>> file_of(str(minis() / "mini-llava"), "no.json") is None
    True
    """
    if Path(source).is_dir():
        path = Path(source) / file
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(source, file, revision=revision))
    except EntryNotFoundError:  # also where the hub is not asked, and the file not in its cache
        return None


def told(source: str, file: str, *, revision: str | None = None) -> dict | None:
    """What a json file of a folder or hub id holds; None where there is no such file.

    Raises `OSError` where it holds no JSON object, or the hub refuses it.

    >>> from irlib.models.loading import minis
    >>> told(str(minis() / "mini-llava"), "config.json")["model_type"]
    'llava'
    """
    path = file_of(source, file, revision=revision)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"its {file} holds no JSON object: {error}") from error
    if not isinstance(found, dict):
        raise OSError(f"its {file} holds no JSON object")
    return found


def check_readable(folder: Path) -> None:
    """Raise `OSError` for a folder with a file that may not be read, or a link to nothing."""
    for file in [*folder.glob("*"), *folder.glob("*/*")]:
        if file.is_symlink() and not file.exists() and file.suffix in READ:
            raise FileNotFoundError(
                f"its {file.relative_to(folder)} is a link to {file.readlink()}, which is not there"
            )
        if file.is_file() and file.suffix in READ:
            file.open("rb").close()


def check_code(name: str, source: str, *, revision: str | None = None) -> None:
    """Refuse a model whose json files name code of their own, wherever in them: `ValueError`."""
    for file in TOLD:
        if _names_code(told(source, file, revision=revision)):
            raise ValueError(
                f"asked for the model {name!r}, found that its {file} names code of its own "
                f"({CODE}), which is never run; use the checkpoint converted for transformers, "
                "often named ...-hf, or take that entry out where transformers has the class"
            )


def check_weights(name: str, folder: Path) -> None:
    """Refuse a folder with weights of the kinds that can hold code, and none of safetensors."""
    files = sorted(found.name for found in folder.iterdir()) if folder.is_dir() else []
    files = [file for file in files if not file.startswith("adapter_")]
    others = [file for file in files if file.endswith(PICKLES)]
    if others and not any(file.endswith(".safetensors") for file in files):
        raise ValueError(
            f"asked for the model {name!r}, found its weights in {others} and none in safetensors; "
            "convert them: pickled files can hold code and are not read"
        )


def weights_of(source: str, *, revision: str | None = None) -> list[Path]:
    """The safetensors files of a folder or hub id, those of its index where it has one."""
    index = told(source, INDEX, revision=revision)
    files = set(index["weight_map"].values()) if index else {"model.safetensors"}
    found = (file_of(source, file, revision=revision) for file in sorted(files))
    return [path for path in found if path]


def check_numbers(name: str, source: str, *, revision: str | None = None) -> None:
    """Refuse weights that are no plain floating point numbers, which would be taken for such.

    Packed weights, whose config says how they are packed, are not for this.
    """
    for path in weights_of(source, revision=revision):
        with safe_open(path, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                kind = weights.get_slice(key).get_dtype()
                if kind not in DTYPES and key.endswith((".weight", ".bias")):
                    raise ValueError(
                        f"asked for the model {name!r}, found {key} as {kind} and no "
                        "quantization_config that says how it is packed; take a checkpoint in one "
                        f"of {sorted(DTYPES)}"
                    )


def _names_code(value) -> bool:
    if isinstance(value, dict):
        return bool(value.get(CODE)) or any(map(_names_code, value.values()))
    return isinstance(value, list) and any(map(_names_code, value))
