"""Processor and model of a folder or hub id: read whole, or refused by the part at fault."""

import re
from collections.abc import Mapping

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, ProcessorMixin

from irlib.models.adapters import without_adapter
from irlib.models.families import FAMILIES
from irlib.models.family import Family
from irlib.models.processors import fill, read_processor
from irlib.models.refusals import REFUSED, unreadable
from irlib.models.scaling import scale_head, unscalable

BROKEN = (
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)  # what transformers raises over files that do not fit
PARTS = {"text_config": "language model", "vision_config": "vision tower"}


def family_of(name: str, config: Mapping | None) -> Family:
    """The family of a raw config.json, before any default of transformers fills its gaps.

    Raises `FileNotFoundError` without one, `ValueError` for a family, a language model or a vision
    tower that is not known.
    """
    if not config:
        raise FileNotFoundError("it has no config.json")
    asked = f"asked for the model {name!r}, found"
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in REFUSED:
        raise ValueError(
            f"{asked} the family {kind!r} with {REFUSED[kind]}; use one of {sorted(FAMILIES)}"
        )
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"{asked} the family {kind!r}; known are {sorted(FAMILIES)}: use one of them or add a "
            "row to FAMILIES in families.py"
        )
    if config.get("image_token_id", config.get("image_token_index")) is None:
        raise ValueError(
            f"{asked} no image token in its config.json; add image_token_id, the id that stands "
            "for one image feature in the prompt"
        )
    family, kinds = FAMILIES[kind], {}
    for part, words in PARTS.items():
        told = config.get(part, {})
        if not isinstance(told, dict):
            raise ValueError(
                f"{asked} {part} {told!r} in its config.json; take a config that describes the "
                f"{words}"
            )
        kinds[part] = told.get("model_type")
    if family.decoders and kinds["text_config"] not in family.decoders:
        raise ValueError(
            f"{asked} {family.title} with the language model {kinds['text_config']!r}: "
            f"{family.because}; use a checkpoint with {' or '.join(family.decoders)}"
        )
    tower = kinds["vision_config"]  # none told is the family's own
    if family.towers and tower and tower not in family.towers:
        raise ValueError(
            f"{asked} {family.title} with the vision tower {tower!r}, whose patches irlib cannot "
            f"place; use a checkpoint with {' or '.join(family.towers)}"
        )
    return family


def read(
    family: Family,
    source: str,
    *,
    processor: str | None = None,
    revision: str | None = None,
    **where,
) -> tuple[ProcessorMixin, nn.Module]:
    """Processor and model of a folder or hub id, every weight of the model among its files.

    `processor` is another folder or hub id whose processor is read; `where` what `placement` gives.
    Raises `ValueError` for what does not fit together or cannot be watched.
    """
    try:
        reader = read_processor(family.processor, processor or source, revision=revision)
        with without_adapter(source) as bare:
            model, told = AutoModelForImageTextToText.from_pretrained(
                bare,
                revision=revision,
                trust_remote_code=False,
                attn_implementation={"text_config": "sdpa"},  # a tower may know only its own
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
    except BROKEN as error:
        if unknown := _unknown(source, revision):
            raise ValueError(f"asked for the model {source!r}, found {unknown}") from error
        map_too = "" if "" in where["device_map"] else ", and look over the device_map"
        raise ValueError(
            f"asked for the model {source!r}, found a folder of {family.title} whose files do not "
            f"fit together ({' '.join(str(error).split())}); take config, weights and processor "
            f"from one checkpoint{map_too}"
        ) from error
    model.name_or_path = source
    if why := family.refuse(model.config):
        raise ValueError(f"asked for the model {source!r}, found {family.title} {why}")
    if missing := sorted(told["missing_keys"]):
        raise ValueError(
            f"asked for the model {source!r}, found no weights for {len(missing)} tensors of its "
            f"config, {', '.join(missing[:3])} among them; they would be random: take config and "
            "weights from one checkpoint"
        )
    _check_decoder(source, model, told["unexpected_keys"])
    fill(reader, family.facts(model.config), processor or source, revision=revision)
    return reader, scale_head(model, caps=family.capped)


def _unknown(source, revision) -> str | None:
    """Which part of a model cannot be had here as it is, in words; None where each of them can.

    Asked only where reading failed: each part is built anew, without weights.
    """
    config, _ = transformers.PreTrainedConfig.get_config_dict(source, revision=revision)
    for part, words in PARTS.items():
        told = dict(config.get(part) or {})
        kind = told.pop("model_type", None)
        if kind is None:
            continue
        if kind not in transformers.CONFIG_MAPPING:
            return (
                f"the {words} {kind!r}, which transformers {transformers.__version__} does not "
                "know; use a checkpoint with one that it knows"
            )
        try:
            with torch.device("meta"):
                AutoModel.from_config(
                    AutoConfig.for_model(kind, **told),
                    attn_implementation="sdpa",
                    trust_remote_code=False,
                )
        except BROKEN as error:
            return (
                f"the {words} {kind!r}, which cannot be built with the attention that irlib reads, "
                f"sdpa ({' '.join(str(error).split())}); use a checkpoint with another {words}"
            )
    return None


def _check_decoder(source, model, unexpected):
    """Refuse a language model whose layers cannot be watched, and weights of layers left out."""
    decoder = model.get_decoder()
    layers = list(getattr(decoder, "layers", ()))
    bare = [i for i, layer in enumerate(layers) if not hasattr(layer, "self_attn")]
    if not layers or bare:
        found = f"layers without attention ({bare})" if layers else "no list of layers"
        raise ValueError(
            f"asked for the model {source!r}, found the language model "
            f"{decoder.config.model_type!r} with {found}; use a checkpoint whose language model "
            "has decoder.layers with self_attn in each"
        )
    if why := unreadable(decoder) or unscalable(decoder.config):
        raise ValueError(
            f"asked for the model {source!r}, found the language model "
            f"{decoder.config.model_type!r} with {why}; use a checkpoint with another language "
            "model"
        )
    numbers = {  # of the layers whose weights have no place
        int(found[1])
        for key in unexpected
        if not re.search("vision|visual|tower|qformer", key)
        and (found := re.search(r"\blayers\.(\d+)\.", key))
    }
    if beyond := sorted(number for number in numbers if number >= len(layers)):
        raise ValueError(
            f"asked for the model {source!r}, found weights of {beyond[-1] + 1} decoder layers and "
            f"{len(layers)} of them in its config; take config and weights from one checkpoint"
        )
