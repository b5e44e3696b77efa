"""Tiny random models of the families of issue 18, as families.py has those before them."""

from dataclasses import replace

import transformers as hf
from families import (
    CLIP,
    PINPOINTS,
    PLAIN,
    SIGLIP,
    TILE,
    VICUNA_TURNS,
    Tiny,
    _clip,
    _qwen,
    llava,
    make_tokenizer,
)

from irlib.models import processors, substitutes

INST = (
    "<s>{% for message in messages %}{{ '[INST]' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '[IMG]' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '[/INST]' }}{% endfor %}"
)
HUMAN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}{% else %}"
    "{{ '###Human: ' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{{ '###Assistant:' }}"
)
COHERE = (
    "<s>{% for message in messages %}{{ '<|USER_TOKEN|>' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}{{ '<|CHATBOT_TOKEN|>' }}"
)
GLM = (
    "[gMASK]<sop>{% for message in messages %}{{ '<|user|>\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}"
    "{{ '<|begin_of_image|><|image|><|end_of_image|>' }}"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{{ '<|assistant|>\n' }}"
)
EXPERTS = {"moe_intermediate_size": 48, "num_experts_per_tok": 2}


def qwen3_vl_moe() -> Tiny:
    """Qwen3-VL MoE: as Qwen3-VL, but in all layers but one the MLP is two of four experts."""
    vision = {
        "depth": 3, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    return _qwen(
        processors.Qwen3VLProcessor, vision, head_dim=16, rope={"mrope_interleaved": True},
        num_experts=4, mlp_only_layers=[2], **EXPERTS,
    )  # fmt: skip


def vipllava() -> Tiny:
    """VipLLaVA: as LLaVA-1.5, but for features of several layers of the tower and a norm."""
    config = {"vision_config": CLIP, "image_seq_length": 16, "vision_feature_layer": [-2, -3, 1]}
    return replace(llava(), config=config, template=HUMAN)


def llava_next_video() -> Tiny:
    """LLaVA-NeXT-Video: on pictures it is LLaVA-1.6."""
    names = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = make_tokenizer([*names.values()], extra=names)
    processor = processors.LlavaNextVideoProcessor(
        _clip(hf.LlavaNextImageProcessorPil, image_grid_pinpoints=PINPOINTS), tokenizer,
        patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    processor.video_token = "<video>"  # as the hub's folders say
    config = {"vision_config": CLIP, "image_seq_length": 16, "image_grid_pinpoints": PINPOINTS}
    ids = {"video_token_index": tokenizer.convert_tokens_to_ids("<video>")}
    return Tiny(processor, config | ids, template=VICUNA_TURNS.replace("IMAGE", "<image>\n"))


WINDOWS = {  # windows shorter than the picture, and a layer without positions that sees all
    "sliding_window": 12, "logit_scale": 0.8,
    "layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention"],
}  # fmt: skip


def aya_vision() -> Tiny:
    """Aya Vision: tiles of 4 x 4 tokens and a thumbnail; attention and MLP side by side."""
    marks = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "TILE_GLOBAL"]
    marks += ["<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"]
    tokenizer = make_tokenizer(marks)
    images = hf.GotOcr2ImageProcessorPil(
        size=TILE, crop_to_patches=True, min_patches=1, max_patches=6
    )
    return Tiny(
        hf.AyaVisionProcessor(images, tokenizer, patch_size=14, img_size=56),
        {"vision_config": SIGLIP, "downsample_factor": 2},
        text=WINDOWS,
        kind="cohere2",
        image_token="<|IMG_PATCH|>",
        template=COHERE.replace("IMAGE", "<image>"),
    )


def cohere2_vision() -> Tiny:
    """Command A Vision: as Aya Vision, with other tiles and a line break behind each."""
    names = {
        "image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>", "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }  # fmt: skip
    turns = ["<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"]
    tokenizer = make_tokenizer([*names.values(), *turns], extra=names)
    images = substitutes.Cohere2VisionImageProcessorPil(size=TILE, patch_size=4, max_patches=6)
    return Tiny(
        hf.Cohere2VisionProcessor(images, tokenizer),
        {"vision_config": SIGLIP, "downsample_factor": 2, "alignment_intermediate_size": 64},
        text=WINDOWS,
        kind="cohere2",
        image_token="<|IMG_PATCH|>",
        template=COHERE.replace("IMAGE", "<|IMG_PATCH|>"),
    )


def mistral3() -> Tiny:
    """Mistral 3: Pixtral's tower at the picture's own resolution, rows that end in breaks."""
    marks = ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"]
    tokenizer = make_tokenizer(marks)
    images = hf.PixtralImageProcessorPil(
        size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
    )
    tower = PLAIN | {"model_type": "pixtral", "image_size": 112, "num_hidden_layers": 4}
    return Tiny(
        substitutes.PixtralProcessor(images, tokenizer, patch_size=7, spatial_merge_size=2),
        {"vision_config": tower, "spatial_merge_size": 2},
        text={"head_dim": 16, "sliding_window": None},
        kind="mistral",
        image_token="[IMG]",
        template=INST,
    )


def _glm(processor, images, *, kind="", **text) -> Tiny:
    marks = ["<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
    names = {"image_token": "<|image|>", "video_token": "<|video|>"}
    turns = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]
    tokenizer = make_tokenizer([*names.values(), *marks, *turns], extra=names, bos=False)
    ids = dict(zip(marks, tokenizer.convert_tokens_to_ids(marks), strict=True))
    vision = {
        "depth": 4, "num_heads": 4, "hidden_size": 32, "out_hidden_size": 64, "image_size": 56,
        "intermediate_size": 48, "patch_size": 7, "spatial_merge_size": 2,
    }  # fmt: skip
    rope = {
        "rope_type": "default", "mrope_section": [1, 2, 1], "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    }  # fmt: skip
    size = {"shortest_edge": 2 * 14 * 14 * 6, "longest_edge": 2 * 14 * 14 * 40}
    return Tiny(
        processor(images(size=size, patch_size=7, merge_size=2, temporal_patch_size=2), tokenizer),
        {
            "vision_config": vision,
            "image_start_token_id": ids["<|begin_of_image|>"],
            "image_end_token_id": ids["<|end_of_image|>"],
            "video_start_token_id": ids["<|begin_of_video|>"],
            "video_end_token_id": ids["<|end_of_video|>"],
            "video_token_id": tokenizer.convert_tokens_to_ids("<|video|>"),
        },
        text={"rope_parameters": rope} | text,
        kind=kind,
        image_token="<|image|>",
        template=GLM,
    )


def glm4v() -> Tiny:
    """GLM-4.1V: half of each head turned by three positions a token, two norms more a layer."""
    return _glm(processors.Glm4vProcessor, hf.Glm4vImageProcessorPil)


def glm4v_moe() -> Tiny:
    """GLM-4.5V: behind the first layer two of four experts and a shared one."""
    images, experts = hf.Glm4vImageProcessorPil, EXPERTS | {"n_routed_experts": 4}
    return _glm(processors.Glm4vProcessor, images, first_k_dense_replace=1, **experts)


def glm46v() -> Tiny:
    """GLM-4.6V: GLM-4.1V's layers, with a processor of its own."""
    return _glm(processors.Glm46VProcessor, hf.Glm46VImageProcessorPil, kind="glm4v_text")


FAMILIES = {
    "qwen3_vl_moe": ("qwen3_vl_moe", qwen3_vl_moe),
    "vipllava": ("vipllava", vipllava),
    "llava_next_video": ("llava_next_video", llava_next_video),
    "aya_vision": ("aya_vision", aya_vision),
    "cohere2_vision": ("cohere2_vision", cohere2_vision),
    "mistral3": ("mistral3", mistral3),
    "glm4v": ("glm4v", glm4v),
    "glm4v_moe": ("glm4v_moe", glm4v_moe),
    "glm46v": ("glm46v", glm46v),
}
SIDE_BY_SIDE = ("aya_vision", "cohere2_vision")  # attention and MLP, no norm between them
VIDEO = {  # families whose hub folders hold a video processor too
    "qwen3_vl_moe": "Qwen3VLVideoProcessor",
    "llava_next_video": "LlavaNextVideoVideoProcessor",
    "glm4v": "Glm4vVideoProcessor",
    "glm4v_moe": "Glm4vVideoProcessor",
    "glm46v": "Glm46VVideoProcessor",
}
