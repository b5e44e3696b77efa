"""`load` a model by name; what differs between families is in families.py."""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BaseImageProcessor,
    GenerationConfig,
    PreTrainedConfig,
)

from irlib import store
from irlib.families import FAMILIES, SITES, VICUNA, Family
from irlib.processors import read_processor
from irlib.vlm import VLM

__all__ = ["FAMILIES", "SITES", "VICUNA", "Family", "load", "skeleton"]


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> VLM:
    """The model of that name: a bundled miniature, else a local folder, else a hub id.

    `device` defaults to a GPU if there is one, `dtype` to the checkpoint's own. Only safetensors
    are read and no remote code is run. Raises `ValueError` for a name that is none of the three and
    for a model that is no vision-language model of a known family, `OSError` where it cannot be
    read.

    >>> load("mini-llava").n_layers >= 12
    True
    """
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"asked for the model {name!r}; give the name of a bundled model, a folder or a hub id"
        )
    bundled = {path.parent.name: path.parent for path in _minis().glob("*/config.json")}
    path = bundled.get(name, Path(name))
    if not path.is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"asked for the model {name!r}, found no bundled model, no local folder and no hub id "
            f"of that name; use one of {sorted(bundled)}, a folder, or owner/name"
        )
    source = str(path) if path.is_dir() else name
    try:
        family = _family(name, *PreTrainedConfig.get_config_dict(source, revision=revision))
        _check_weights(name, path)
        processor, model = _read(family, source, revision, dtype)
    except OSError as error:
        missing = "check what is in the folder" if path.is_dir() else "check the name, the network"
        raise OSError(
            f"asked for the model {name!r}, found that {source!r} cannot be read ({error}); "
            f"{missing}, or use a bundled model: {sorted(bundled)}"
        ) from error
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")  # greedy: no sampling defaults
    ends = {key: getattr(model.generation_config, key) for key in kept}
    ends = {key: getattr(processor.tokenizer, key) if v is None else v for key, v in ends.items()}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval().requires_grad_(False)
    return VLM(path.resolve().name if path.is_dir() else name, model, processor, family)


def skeleton(name: str) -> tuple[nn.Module, Family, dict]:
    """The model of that name without its weights, its family and what its image processor is told.

    Nothing is downloaded: the config is that of a bundled miniature, of a local folder, of the
    hub's cache, or, for the checkpoints of the paper's profile, of irlib/shapes. The model is on
    the meta device, in its checkpoint's dtype. Raises `ValueError` for any other name and what
    `load` refuses of a config.

    >>> model, family, _ = skeleton("llava-hf/llava-1.5-7b-hf")
    >>> family.title, sum(weight.numel() for weight in model.parameters())
    ('LLaVA-1.5', 7063427072)
    """
    shapes = Path(__file__).parent / "shapes"
    local = _minis() / name if (_minis() / name / "config.json").is_file() else Path(name)
    source, shape = (
        str(local) if local.is_dir() else name,
        shapes / f"{name.replace('/', '--')}.json",
    )
    try:
        told, _ = PreTrainedConfig.get_config_dict(source, local_files_only=True)
        images, _ = BaseImageProcessor.get_image_processor_dict(source, local_files_only=True)
    except OSError as error:
        if not shape.is_file():
            known = sorted(path.stem.replace("--", "/") for path in shapes.glob("*.json"))
            raise ValueError(
                f"asked for the shape of the model {name!r}, found its config.json neither in a "
                f"folder nor in the hub's cache ({type(error).__name__}); download that one file "
                f"(`hf download {name} config.json preprocessor_config.json`), name a local "
                f"folder, or take one of {known}"
            ) from error
        kept = json.loads(shape.read_text(encoding="utf-8"))
        told, images = kept["config"], kept["image_processor"]
    family, told = _family(name, told, {}), dict(told)
    config = AutoConfig.for_model(told.pop("model_type"), **told)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=config.dtype)
    return model, family, images


def _read(family, source, revision, dtype):
    """Processor and model of a folder or hub id, every weight of the model among its files."""
    try:
        processor = read_processor(family.processor, source, revision=revision)
        model, told = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=dtype or "auto",
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"asked for the model {source!r}, found a folder of {family.title} whose files do not "
            f"fit together ({error}); take config, weights and processor from one checkpoint"
        ) from error
    if missing := sorted(told["missing_keys"]):
        raise ValueError(
            f"asked for the model {source!r}, found no weights for {len(missing)} tensors of its "
            f"config, {', '.join(missing[:3])} among them; they would be random: take config and "
            "weights from one checkpoint"
        )
    return processor, model


def _minis():
    return store.root() / "data" / "minis"


def _family(name, config, _) -> Family:
    """The family of a raw config.json, before any default of transformers fills its gaps."""
    if not config:
        raise FileNotFoundError("it has no config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"asked for the model {name!r}, found the family {kind!r}; known are "
            f"{sorted(FAMILIES)}: use one of them or add a row to FAMILIES in families.py"
        )
    if config.get("image_token_id", config.get("image_token_index")) is None:
        raise ValueError(
            f"asked for the model {name!r}, found no image token in its config.json; "
            "add image_token_id, the id that stands for one image feature in the prompt"
        )
    family, decoder = FAMILIES[kind], config.get("text_config", {}).get("model_type")
    if family.decoders and decoder not in family.decoders:
        raise ValueError(
            f"asked for the model {name!r}, found {family.title} with the language model "
            f"{decoder!r}: {family.because}; use a checkpoint with {' or '.join(family.decoders)}"
        )
    return family


def _check_weights(name, path):
    """Refuse a folder with weights of the kinds that can hold code, and none of safetensors."""
    files = sorted(found.name for found in path.iterdir()) if path.is_dir() else []
    others = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if others and not any(file.endswith(".safetensors") for file in files):
        raise ValueError(
            f"asked for the model {name!r}, found its weights in {others} and none in safetensors; "
            "convert them: pickled files can hold code and are not read"
        )
