"""`load` a model by name; what differs between families is in families.py."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

import httpx2
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig

from irlib import store
from irlib.models.families import FAMILIES, SITES, VICUNA, Family
from irlib.models.placement import keep_gradients, placement
from irlib.models.processors import read_processor
from irlib.models.vlm import VLM

__all__ = ["FAMILIES", "SITES", "VICUNA", "Family", "load"]


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    device_map: str | Mapping | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: str | None = None,
    revision: str | None = None,
) -> VLM:
    """The model of that name: a bundled miniature, else a local folder, else a hub id.

    `device` defaults to a GPU if there is one, `dtype` to the checkpoint's own. `device_map="auto"`
    spreads a model over all GPUs, and what they cannot hold over CPU and disk; "balanced",
    "sequential" and a dict `{module: device}` are transformers' too. `quantization` is "4bit" (nf4)
    or "8bit", packed by bitsandbytes as the weights are read. Only safetensors are read and no
    remote code is run. Raises `ValueError` for a name that is none of the three, for a model that
    is no vision-language model of a known family and for a device or dtype that is not there,
    `OSError` where it cannot be read, `ImportError` for quantization without bitsandbytes.

    >>> load("mini-llava").n_layers >= 12
    True
    """
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"asked for the model {name!r}; give the name of a bundled model, a folder or a hub id"
        )
    bundled = {path.parent.name: path.parent for path in minis().glob("*/config.json")}
    path, local = bundled.get(name, Path(name)), False
    try:
        local = path.is_dir()
        source = str(path) if local else name
        _check_name(name, local, revision, bundled)
        if local:
            _check_readable(path)
        else:
            _check_hub(name, revision)
        config = _config(source, revision)
        family = family_of(name, config)
        _check_weights(name, path)
        where = placement(device, device_map, dtype, quantization, config)
        processor, model = _read(family, source, revision, where)
    except OSError as error:
        missing = "check what is in the folder" if local else "check the name, the network"
        raise OSError(
            f"asked for the model {name!r}, found that {str(path)!r} cannot be read "
            f"({' '.join(str(error).split())}); "
            f"{missing}, or use a bundled model: {sorted(bundled)}"
        ) from error
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")  # greedy: no sampling defaults
    ends = {key: getattr(model.generation_config, key) for key in kept}
    ends = {key: getattr(processor.tokenizer, key) if v is None else v for key, v in ends.items()}
    for part in model.modules():  # InstructBLIP's decoder generates by one of its own
        if getattr(part, "generation_config", None) is not None:
            part.generation_config = GenerationConfig(do_sample=False, **ends)
    model = keep_gradients(model.eval().requires_grad_(False))
    return VLM(path.resolve().name if local else name, model, processor, family)


def _read(family, source, revision, where):
    """Processor and model of a folder or hub id, every weight of the model among its files."""
    try:
        processor = read_processor(family.processor, source, revision=revision)
        model, told = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
    except (ImportError, RuntimeError, ValueError, SafetensorError) as error:
        map_too = "" if "" in where["device_map"] else ", and look over the device_map"
        raise ValueError(
            f"asked for the model {source!r}, found a folder of {family.title} whose files do not "
            f"fit together ({' '.join(str(error).split())}); take config, weights and processor "
            f"from one checkpoint{map_too}"
        ) from error
    if missing := sorted(told["missing_keys"]):
        raise ValueError(
            f"asked for the model {source!r}, found no weights for {len(missing)} tensors of its "
            f"config, {', '.join(missing[:3])} among them; they would be random: take config and "
            "weights from one checkpoint"
        )
    return processor, model


def _check_name(name, local, revision, bundled):
    """Refuse a name that is neither here nor a hub id, and a folder's revision."""
    if local and revision is not None:
        raise ValueError(
            f"asked for the revision {revision!r} of {name!r}, found a local folder, which holds "
            "one; leave revision out, or give the hub id"
        )
    if not local and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        near = difflib.get_close_matches(name, bundled, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"asked for the model {name!r}, found no bundled model, no local folder and no hub id "
            f"of that name{hint}; use one of {sorted(bundled)}, a folder, or owner/name"
        )


def _check_readable(path):
    """Raise `OSError` for a folder, or a file in it, that may not be read."""
    for file in path.iterdir():
        if file.is_file():
            file.open("rb").close()


def _config(source, revision) -> dict:
    """The raw config.json; raises `OSError` where it holds no JSON object."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    except TypeError:  # of transformers, which takes it for one
        config = None
    if not isinstance(config, dict):
        raise OSError("its config.json holds no JSON object")
    return config


def _check_hub(name, revision):
    """Raise `OSError` where the hub does not answer and nothing of the model is here.

    One question of five seconds; transformers would repeat its own for half a minute.
    """
    here = try_to_load_from_cache(name, "config.json", revision=revision)
    if constants.HF_HUB_OFFLINE or isinstance(here, str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision), timeout=5)
    except httpx2.TransportError as error:
        raise OSError(f"the hub does not answer: {error}") from error
    except HfHubHTTPError:
        return  # it does, and transformers tells what it says


def minis():
    return store.root() / "data" / "minis"


def family_of(name, config) -> Family:
    """The family of a raw config.json, before any default of transformers fills its gaps."""
    if not config:
        raise FileNotFoundError("it has no config.json")
    if "auto_map" in config:
        raise ValueError(
            f"asked for the model {name!r}, found that its config.json names code of its own "
            "(auto_map), which is never run; use the checkpoint converted for transformers, often "
            "named ...-hf"
        )
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
    text = config.get("text_config", {})
    if not isinstance(text, dict):
        raise ValueError(
            f"asked for the model {name!r}, found text_config {text!r} in its config.json; take a "
            "config that describes the language model"
        )
    family, decoder = FAMILIES[kind], text.get("model_type")
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
