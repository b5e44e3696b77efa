"""`Family`: what can differ between model families, and what some of them need for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers import AutoProcessor

from irlib.models import pixels, several

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"


@dataclass(frozen=True)
class TokenTypes:
    """The argument that tells tokens apart, and its value at image tokens and in an answer."""

    name: str
    image: int
    answer: int


def whole(model: nn.Module, batch: dict) -> tuple[nn.Module, dict]:
    """The model that turns a batch into logits and what it is called with: as they are."""
    return model, batch


def embedded(model: nn.Module, batch: dict) -> tuple[nn.Module, dict]:
    """The language model inside, and the batch with its pictures put among the embeddings.

    For a model whose own forward and generate cannot do without pixels.
    """
    batch = dict(batch)
    ids, mask = batch.pop("input_ids"), batch.pop("attention_mask")
    encoded = batch.pop("mm_encoder_outputs", {}).get("image")
    if "pixel_values" in batch:
        encoded = model.get_image_features(**batch, return_dict=True)
    states = model.get_input_embeddings()(ids)
    if encoded is not None:
        image = (ids == model.config.image_token_id)[..., None]
        states = states.masked_scatter(image, encoded.pooler_output.to(states))
    return model.language_model, {"inputs_embeds": states, "attention_mask": mask}


def class_and_patches(config) -> dict:
    """What LLaVA's processors must know to count image tokens: the patches, and CLIP's class."""
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": selected(config),
        "num_additional_image_tokens": int(config.vision_config.model_type == CLIP),
    }


def selected(config) -> str:
    """Which features of a view are taken: "full", or "default", all but the first.

    VipLLaVA's config does not say, and takes all but the first.
    """
    return getattr(config, "vision_feature_select_strategy", "default")


def downsampled(config) -> dict:
    """The same for Aya Vision's: the side of a tile, and of a token in it."""
    vision = config.vision_config
    return {
        "img_size": vision.image_size,
        "patch_size": vision.patch_size * config.downsample_factor,
    }


def merged(config) -> dict:
    """The same for Pixtral's: a patch, and how many of them along a token's side."""
    return {
        "patch_size": config.vision_config.patch_size,
        "spatial_merge_size": config.spatial_merge_size,
    }


def tokens_of_a_view(config) -> dict:
    """The same for OneVision's, which is told the tokens of a view themselves."""
    vision = config.vision_config
    return {
        "num_image_tokens": (vision.image_size // vision.patch_size) ** 2,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "vision_aspect_ratio": config.vision_aspect_ratio,
    }


def tokens_of_a_square(config) -> dict:
    """The same for GOT-OCR's, which otherwise takes every tower for one of 1024 pixels."""
    sizes = (config.vision_config.image_size, config.vision_config.patch_size)
    patches = [size // patch for size, patch in zip(*(pair(size) for size in sizes), strict=True)]
    return {"num_image_tokens": math.prod(math.ceil(count / 4) for count in patches)}


def pair(size) -> tuple[int, int]:
    """Height and width, of which a config may tell one for both."""
    return (size, size) if isinstance(size, int) else tuple(size)


@dataclass(frozen=True)
class Family:
    """What must be known of a model family beyond what transformers tells of every model.

    `layout(vlm, visual, size) -> Grid` lays the image tokens of a picture of `size` (width, height)
    on it; `processor` is the class that reads its folder. The prompt is the folder's chat template;
    where it has none, `prompt` with the picture's placeholder and `bare` without a picture.
    `placeholders` is how often that placeholder stands in the text of a prompt with a picture.
    `system` is the system prompt of the checkpoints whose turns end in `turn`. `types` are passed
    to the model for all tokens. `decoders` are the only language models, by model_type, that are
    supported, `because` says why; `towers` the same of vision towers. `facts(config)` is what the
    processor must know of the model, where its own file is silent. `call(model, batch)`
    gives the module and arguments that make logits; `noise` is drawn in the layout of the pixels;
    `bridge(model)` tells what stands between image tokens and patches where they are not the same;
    `refuse(config)` says in words what of a checkpoint cannot be had and what to use, or None;
    `capped` that the model itself bounds its logits as the language model's config says.
    `several(vlm, visual, pictures)` gives the tensors of each of a prompt's pictures, for `layout`;
    None where a prompt has one. `lacks` is what cannot be had of a family whose checkpoints load,
    in words.
    """

    title: str
    layout: Callable
    processor: type = AutoProcessor
    prompt: str | None = None
    bare: str | None = None
    placeholders: int = 1
    system: str | None = None
    turn: str = ""
    types: TokenTypes | None = None
    decoders: tuple[str, ...] = ()
    because: str = ""
    towers: tuple[str, ...] = ()
    facts: Callable = lambda config: {}
    call: Callable = whole
    noise: Callable = pixels.on_pixels
    bridge: Callable | None = None
    refuse: Callable = lambda config: None
    capped: bool = False
    several: Callable | None = several.alone
    lacks: str = ""

    @property
    def limits(self) -> str:
        """What cannot be had, in words: other towers, other language models, instruments."""
        towers = ", ".join(tower.removesuffix("_vision_model") for tower in self.towers)
        told = [f"no tower but {towers}"] if towers else []
        if self.several is None:
            told.append("one picture a prompt")
        if self.decoders:
            told.append(f"no language model but {', '.join(self.decoders)}: {self.because}")
        return "; ".join([*told, self.lacks] if self.lacks else told)

    @property
    def placing(self) -> str:
        """Where its image tokens lie, in words: what the layout says of itself."""
        told = (self.layout.__doc__ or "").strip().partition("\n")[0]
        return told.partition(": ")[2].rstrip(".")
