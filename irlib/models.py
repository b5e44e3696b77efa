"""`load` a model by name. One row of `FAMILIES` holds everything that differs between families."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    PreTrainedConfig,
)

from irlib import grids, store
from irlib.vlm import VLM

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
SITES = {  # where a decoder layer can be read: module inside the layer, by the names of figure 7
    "input_norm": "input_layernorm",
    "attention": "self_attn",
    "post_attention": "post_attention_layernorm",
    "mlp": "mlp",
    "block": "",
}


@dataclass(frozen=True)
class Family:
    """What must be known of a model family beyond what transformers tells of every model.

    `grid(vlm, batch, row, size) -> Grid` lays its image tokens on a picture of `size` (width,
    height); `placeholder` marks the picture in the chat template's text; `system` is the system
    prompt handed to that template; `sites` are the modules inside a decoder layer.
    """

    title: str
    grid: Callable
    placeholder: str = "<image>"
    system: str | None = None
    sites: Mapping[str, str] = field(default_factory=lambda: SITES)


FAMILIES = {  # by the model_type of config.json
    "llava": Family("LLaVA-1.5", grid=grids.llava_grid, system=VICUNA),
}


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
        processor = AutoProcessor.from_pretrained(source, revision=revision)
        model = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=dtype or "auto",
            attn_implementation="sdpa",
            use_safetensors=True,
        )
    except OSError as error:
        raise OSError(
            f"asked for the model {name!r}, found that {source!r} cannot be read ({error}); "
            f"check the name and the network, or use a bundled model: {sorted(bundled)}"
        ) from error
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")  # greedy: no sampling defaults
    ends = {key: getattr(model.generation_config, key) for key in kept}
    ends = {key: getattr(processor.tokenizer, key) if v is None else v for key, v in ends.items()}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval().requires_grad_(False)
    return VLM(path.resolve().name if path.is_dir() else name, model, processor, family)


def _minis():
    return store.root() / "data" / "minis"


def _family(name, config, _):
    """The family of a raw config.json, before any default of transformers fills its gaps."""
    if not config:
        raise FileNotFoundError("it has no config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(
            f"asked for the model {name!r}, found the family {kind!r}; known are "
            f"{sorted(FAMILIES)}: use one of them or add a row to FAMILIES in models.py"
        )
    if config.get("image_token_id", config.get("image_token_index")) is None:
        raise ValueError(
            f"asked for the model {name!r}, found no image token in its config.json; "
            "add image_token_id, the id that stands for one image feature in the prompt"
        )
    return FAMILIES[kind]
