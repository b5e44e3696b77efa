"""An adapter (LoRA and its kin) beside whole weights, or in a folder of its own: `apply`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import snapshot_download
from torch import nn

from irlib import doors
from irlib.models.folders import READ, file_of, names_hub, told

PROCESSOR = ("processor_config.json", "preprocessor_config.json")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """An adapter's own local folder, and the folder or hub id of the model that it was made for."""

    folder: Path
    base: str

    @property
    def processor(self) -> str:
        """The folder or hub id whose processor reads for it: its own where it has one.

        Raises `ValueError` for a part of one that is not the base's.
        """
        if any((self.folder / file).is_file() for file in PROCESSOR):
            return str(self.folder)
        for part in ("tokenizer.json", "chat_template.jinja"):
            mine, other = self.folder / part, file_of(self.base, part)
            same = other is not None and mine.is_file() and mine.read_bytes() == other.read_bytes()
            if mine.is_file() and not same:
                raise ValueError(
                    f"asked for the adapter in {str(self.folder)!r}, found a {part} in it that is "
                    f"not that of {self.base!r}, and no processor; save the whole processor there, "
                    f"or take {part} away"
                )
        return self.base


def adapter_of(name: str, source: str, *, revision: str | None = None) -> Adapter | None:
    """The adapter of a folder or hub id, None where it has none.

    With a config.json beside it, it belongs to the weights there, else to those that it names.
    Raises `ImportError` without peft, `ValueError` for an adapter without safetensors or base.
    """
    config = told(source, CONFIG, revision=revision)
    if config is None:
        return None
    asked = f"asked for the model {name!r}, found an adapter in it"
    if find_spec("peft") is None:
        raise ImportError(
            f"{asked} ({CONFIG}) and no peft, which applies it; install it: "
            f"pip install -c constraints.txt -e '.[peft]', or merge the adapter into its base"
        )
    folder = Path(source)
    if not folder.is_dir():
        wanted = [f"*{ending}" for ending in READ]
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    if not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{asked} without its {WEIGHTS}; convert its weights (pickled files can hold code and "
            f"are not read), or take {CONFIG} away where they are merged already"
        )
    if (folder / "config.json").is_file():
        return Adapter(folder, str(folder))
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{asked} for the base {base!r}; write the folder or hub id of its base model into "
            f"base_model_name_or_path of {CONFIG}"
        )
    base = str(doors.path("the base", base)) if base.startswith("~") else base
    if not Path(base).is_dir() and not names_hub(base):
        raise ValueError(
            f"{asked}, found the base {base!r} that it names to be no folder here and no hub id; "
            f"write where it is into base_model_name_or_path of {CONFIG}"
        )
    if told(base, CONFIG) is not None:
        raise ValueError(
            f"{asked} for {base!r}, which has an adapter itself; merge that one into its weights"
        )
    return Adapter(folder, base)


@contextmanager
def without_adapter(source: str) -> Iterator[str]:
    """A folder with links to all files of `source` but those of its adapter.

    transformers would apply it by itself, and then no longer tell which of the base's weights it
    missed.
    """
    if not (Path(source) / CONFIG).is_file():
        yield source
        return
    with tempfile.TemporaryDirectory() as view:
        for path in Path(source).iterdir():
            if not path.name.startswith("adapter_"):
                (Path(view) / path.name).symlink_to(path.resolve())
        yield view


def apply(name: str, model: nn.Module, adapter: Adapter) -> None:
    """Put the adapter into the model, beside its weights, which stay as they are.

    Raises `ValueError` where the two do not fit together, to the last tensor.
    """
    asked = f"asked for the model {name!r}, found an adapter"
    try:
        read = model.load_adapter(str(adapter.folder))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{asked} that cannot be put into {adapter.base!r} ({' '.join(str(error).split())}); "
            "take the base that it was made for"
        ) from error
    wrong = sorted(map(str, [*read.missing_keys, *read.unexpected_keys, *read.mismatched_keys]))
    if wrong:
        raise ValueError(
            f"{asked} with {len(wrong)} tensors that do not fit {adapter.base!r}, {wrong[0]} among "
            "them; take the base that it was made for"
        )
