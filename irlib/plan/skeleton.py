"""`skeleton`, a model without its weights: its shape is all that planning needs."""

import json
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BaseImageProcessor,
    PreTrainedConfig,
)

from irlib import store
from irlib.models.family import Family
from irlib.models.loading import minis
from irlib.models.reading import family_of


def skeleton(name: str) -> tuple[nn.Module, Family, dict]:
    """The model of that name without its weights, its family and what its image processor is told.

    Nothing is downloaded: the config is that of a bundled miniature, of a local folder, of the
    hub's cache, or, for the checkpoints of the paper's profile, of irlib/plan/shapes. The model
    is on the meta device, in its checkpoint's dtype. Raises `ValueError` for any other name and
    what `load` refuses of a config.

    >>> model, family, _ = skeleton("llava-hf/llava-1.5-7b-hf")
    >>> family.title, sum(weight.numel() for weight in model.parameters())
    ('LLaVA-1.5', 7063427072)
    """
    shapes = Path(__file__).parent / "shapes"
    local = minis() / name if (minis() / name / "config.json").is_file() else Path(name)
    local = store.bundles()[name] / "parts" if name in store.bundles() else local
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
    family, told = family_of(name, told), dict(told)
    config = AutoConfig.for_model(told.pop("model_type"), **told)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=config.dtype, trust_remote_code=False
        )
    return model, family, images
