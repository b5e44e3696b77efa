"""The six miniatures before training: stock transformers classes, one row a family.

All have a decoder of 12 layers and see pictures of 96 by 96 pixels or two views of about that size;
what differs is what differs between the families: projector, tiles, query tokens, positions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch
import transformers as tf
from torch import Tensor, nn

from data.generate.fitting import looks
from data.generate.fitting.words import HELPER, SPACE, chatml, tokenizer, vicuna
from irlib.models import processors

WIDTH, LAYERS = 128, 12


@dataclass(frozen=True)
class Mini:
    """One miniature: how it is built and what it is shown in training.

    `build()` and `processor()` make them; `look(pool, at)` is what the processor makes of training
    pictures and `classes(pool, at) [picture, token]` what stands at each image token (0: nothing);
    `patches(net, pixels) [view, patch, channel]` is what the projector gets to read of normalised
    views, `order(labels)` brings labels `[view, row, column, 3]` into the order of these patches.
    The tower, `tower(net)`, sees pictures at `side` pixels, `grid` patches a side, and where
    `tiles` their quarters at twice that. `marks` are put around the image tokens by the processor;
    `merged` is the side of the square of image tokens where positions have three dimensions.
    Its tokenizer writes `space` for the one before a word; `gap` stands between prompt and answer,
    and a packed row has `room` tokens for the questions about a picture.
    `tower_of` and `decoder_of` name the miniature whose trained part it starts from, "" for none;
    `recipe` are its own settings of `train.Recipe`.
    """

    title: str
    what: str
    build: Callable[[], nn.Module]
    processor: Callable[[], object]
    look: Callable
    classes: Callable
    patches: Callable[[nn.Module, Tensor], Tensor]
    order: Callable[[np.ndarray], np.ndarray] = lambda x: x.reshape(len(x), -1, *x.shape[3:])
    tower: Callable[[nn.Module], list[nn.Module]] = lambda net: [net.model.vision_tower]
    side: int = 96
    grid: int = 8
    tiles: bool = False
    marks: tuple[str, str] = ("", "")
    merged: int = 0
    space: str = SPACE
    gap: str = " "
    room: int = 144
    tower_of: str = ""
    decoder_of: str = "mini-llava"
    recipe: dict = field(default_factory=dict)


def _images(kind: type, **settings):
    plain = {"image_mean": [looks.MEAN] * 3, "image_std": [looks.STD] * 3}
    return kind(**plain, **settings)


def _text(tok, **more) -> dict:
    return {
        "vocab_size": len(tok), "hidden_size": WIDTH, "intermediate_size": 384,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 1024, "tie_word_embeddings": False,
        "bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id,
        "pad_token_id": tok.pad_token_id, **more,
    }  # fmt: skip


def _clip(side: int, patch: int) -> tf.CLIPVisionConfig:
    return tf.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        image_size=side, patch_size=patch, projection_dim=WIDTH,
    )  # fmt: skip


def _clip_patches(net, pixels: Tensor) -> Tensor:
    """The second last layer without CLS; the last layer, which nobody reads, is not run."""
    tower = getattr(net.model.vision_tower, "vision_model", net.model.vision_tower)
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    return hidden[:, 1:]


@cache
def _vicuna(name: str = "image_token", **special):
    return tokenizer(**{name: "<image>"}, **special)


def _llava(act: str = "gelu", **special) -> nn.Module:
    tok = _vicuna(**special)
    config = tf.LlavaConfig(
        vision_config=_clip(96, 12), text_config=tf.LlamaConfig(**_text(tok)),
        image_token_id=tok.image_token_id, vision_feature_layer=-2,
        vision_feature_select_strategy="default", image_seq_length=64, projector_hidden_act=act,
        tie_word_embeddings=False,
    )  # fmt: skip
    return tf.LlavaForConditionalGeneration(config)


def _llava_processor(image: str = "<image>\\n", **special):
    images = _images(
        tf.CLIPImageProcessorPil,
        size={"shortest_edge": 96},
        crop_size={"height": 96, "width": 96},
    )
    return tf.LlavaProcessor(
        image_processor=images, tokenizer=_vicuna(**special), patch_size=12,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=vicuna(image),
    )  # fmt: skip


SHIKRA = {"start_token": "<im_start>", "end_token": "<im_end>"}
PINPOINTS = [[72, 144], [144, 72], [144, 144], [216, 72], [72, 216]]


def _next() -> nn.Module:
    tok = _vicuna()
    config = tf.LlavaNextConfig(
        vision_config=_clip(72, 12), text_config=tf.LlamaConfig(**_text(tok)),
        image_token_index=tok.image_token_id, image_grid_pinpoints=PINPOINTS, image_seq_length=36,
        vision_feature_layer=-2, tie_word_embeddings=False,
    )  # fmt: skip
    return tf.LlavaNextForConditionalGeneration(config)


def _next_processor():
    images = _images(
        tf.LlavaNextImageProcessorPil, size={"shortest_edge": 72},
        crop_size={"height": 72, "width": 72}, image_grid_pinpoints=PINPOINTS,
    )  # fmt: skip
    return tf.LlavaNextProcessor(
        image_processor=images, tokenizer=_vicuna(), patch_size=12,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=vicuna(),
    )  # fmt: skip


@cache
def _internvl_words():
    return tokenizer(
        system="", bos=None, eos="<|im_end|>", turn_token="<|im_start|>",
        image_token="<IMG_CONTEXT>", context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>", end_image_token="</img>", video_token="<video>",
    )  # fmt: skip


def _internvl() -> nn.Module:
    tok = _internvl_words()
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": [96, 96], "patch_size": [12, 12],
        "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm",
        "layer_scale_init_value": 1.0,
    }  # fmt: skip
    config = tf.InternVLConfig(
        vision_config=vision, text_config=tf.Qwen2Config(**_text(tok)),
        image_token_id=tok.image_token_id, image_seq_length=16, downsample_ratio=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    return tf.InternVLForConditionalGeneration(config)


def _internvl_processor():
    images = _images(
        tf.GotOcr2ImageProcessorPil, size={"height": 96, "width": 96}, crop_to_patches=True,
        min_patches=1, max_patches=4,
    )  # fmt: skip
    return processors.InternVLProcessor(
        images, _internvl_words(), image_seq_length=16, chat_template=chatml("<IMG_CONTEXT>\\n")
    )


@cache
def _qwen_words():
    return tokenizer(
        system=HELPER, bos=None, eos="<|im_end|>", turn_token="<|im_start|>",
        image_token="<|image_pad|>", video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>", vision_eos_token="<|vision_end|>",
    )  # fmt: skip


def _qwen() -> nn.Module:
    tok = _qwen_words()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
    vision = {
        "depth": 4, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 4, "mlp_ratio": 4,
        "patch_size": 6, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    config = tf.Qwen2VLConfig(
        vision_config=vision, text_config=_text(tok, rope_parameters=rope, rms_norm_eps=1e-6),
        image_token_id=tok.image_token_id, video_token_id=tok.video_token_id,
        vision_start_token_id=tok.vision_bos_token_id, vision_end_token_id=tok.vision_eos_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    return tf.Qwen2VLForConditionalGeneration(config)


def _qwen_processor():
    images = _images(
        tf.Qwen2VLImageProcessorPil, patch_size=6, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 48 * 48, "longest_edge": 96 * 96},
    )  # fmt: skip
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    return processors.Qwen2VLProcessor(images, _qwen_words(), chat_template=chatml(image, HELPER))


def _qwen_patches(net, pixels: Tensor) -> Tensor:
    side = pixels.shape[-1] // 6
    made = looks.qwen_patches(pixels, 6)
    grid = torch.tensor([[1, side, side]]).expand(len(pixels), -1)
    hidden = net.model.visual(made.to(pixels), grid_thw=grid).last_hidden_state
    return hidden.view(len(pixels), side * side, -1)


def _instructblip() -> nn.Module:
    tok = _vicuna("picture_token")  # its processor fails where a tokenizer knows an image_token
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 384, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 96, "patch_size": 12, "initializer_range": 0.02,
    }  # fmt: skip
    qformer = {
        "vocab_size": len(tok), "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 192, "max_position_embeddings": 128,
        "cross_attention_frequency": 1, "encoder_hidden_size": WIDTH, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "pad_token_id": tok.pad_token_id,
    }  # fmt: skip
    config = tf.InstructBlipConfig(
        vision_config=vision, qformer_config=qformer, text_config=tf.LlamaConfig(**_text(tok)),
        num_query_tokens=32, image_token_index=tok.picture_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    net = tf.InstructBlipForConditionalGeneration(config)
    nn.init.normal_(net.query_tokens, std=0.5)  # zeros would be 32 times the same query
    return net


def _instructblip_processor():
    images = _images(tf.BlipImageProcessorPil, size={"height": 96, "width": 96})
    tok = _vicuna("picture_token")
    return tf.InstructBlipProcessor(images, tok, tok, num_query_tokens=32)


WARM = {"pictures": 40_000, "steps": 500, "start": 0.0, "texts": (6, 4), "reading": 3.0}
MINIS = {
    "mini-llava": Mini(
        title="LLaVA-1.5",
        what="a CLIP tower of 4 layers (96 by 96 pixels, 64 image tokens), a two-layer projector",
        build=_llava,
        processor=_llava_processor,
        look=partial(looks.plain, side=96),
        classes=partial(looks.plain_classes, grid=8),
        patches=_clip_patches,
        decoder_of="",
    ),
    "mini-llava-next": Mini(
        title="LLaVA-1.6",
        what="a CLIP tower of 4 layers that sees a square picture at 72 by 72 pixels and in four "
        "tiles at twice that (36 + 144 image tokens and 12 newlines), a two-layer projector",
        build=_next,
        processor=_next_processor,
        look=partial(looks.next_look, side=72),
        classes=partial(looks.next_classes, grid=6),
        patches=_clip_patches,
        side=72,
        grid=6,
        tiles=True,
        recipe=WARM | {"steps": 700, "batch": 24, "texts": (4, 3)},
    ),
    "mini-instructblip": Mini(
        title="InstructBLIP",
        what="a ViT of 3 layers (96 by 96 pixels), a Q-Former of 2 layers whose 32 queries read it "
        "and the instruction (32 image tokens, on no grid), a linear projector",
        build=_instructblip,
        processor=_instructblip_processor,
        look=partial(looks.plain, side=96),
        classes=lambda pool, at: np.zeros((len(at), 32), np.int8),
        patches=lambda net, pixels: net.vision_model(pixels).last_hidden_state[:, 1:],
        tower=lambda net: [net.vision_model],
        recipe=WARM | {"query_steps": 600, "align": 0.0},
    ),
    "mini-internvl": Mini(
        title="InternVL",
        what="an InternViT of 3 layers that sees a square picture in four tiles of 96 by 96 pixels "
        "and as a thumbnail, pixel unshuffle (5 x 16 image tokens), a two-layer projector",
        build=_internvl,
        processor=_internvl_processor,
        look=partial(looks.internvl_look, side=96),
        classes=partial(looks.internvl_classes, grid=8),
        patches=lambda net, pixels: net.model.vision_tower(pixels).last_hidden_state[:, 1:],
        tiles=True,
        marks=("<img>", "</img>"),
        decoder_of="",
        recipe={"pictures": 40_000, "tower_steps": 1400, "steps": 1300, "reading": 6.0},
    ),
    "mini-qwen2vl": Mini(
        title="Qwen2-VL",
        what="a ViT of 4 layers with rotary positions (a square picture at 96 by 96 pixels in "
        "patches of 6), merged two by two (64 image tokens), positions in three dimensions",
        build=_qwen,
        processor=_qwen_processor,
        look=partial(looks.qwen_look, side=96, patch=6),
        classes=partial(looks.plain_classes, grid=8),
        patches=_qwen_patches,
        order=looks.merge_order,
        tower=lambda net: [net.model.visual.patch_embed, net.model.visual.blocks],
        grid=16,
        merged=8,
        recipe=WARM | {"tower_steps": 600, "tower_batch": 40, "reading": 1.0},
    ),
    "mini-shikra": Mini(
        title="Shikra",
        what="the CLIP tower of mini-llava (96 by 96 pixels, 64 image tokens between <im_start> "
        "and <im_end>), a linear projector",
        build=partial(_llava, "linear", **SHIKRA),
        processor=partial(_llava_processor, "<im_start><image><im_end> ", **SHIKRA),
        look=partial(looks.plain, side=96),
        classes=partial(looks.plain_classes, grid=8),
        patches=_clip_patches,
        tower_of="mini-llava",
        recipe=WARM | {"steps": 300},
    ),
}


def make(name: str, seed: int = 0) -> nn.Module:
    """Return the untrained miniature of that name."""
    torch.manual_seed(seed)
    return MINIS[name].build()
