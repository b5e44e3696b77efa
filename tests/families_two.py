"""More tiny random models, laid out as those of families.py, and the prompts that they read."""

import copy
from dataclasses import replace

import families as one
import numpy as np
import torch
import transformers as hf

from irlib.models import processors


def got_ocr2():
    """GOT-OCR 2: two convolutions bring 16 x 16 patches to 4 x 4 tokens."""
    marks = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"]
    images = hf.GotOcr2ImageProcessorPil(size={"height": 112, "width": 112})
    processor = hf.GotOcr2Processor(images, one.make_tokenizer(marks, bos=False))
    vision = {
        "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 112, "patch_size": 7, "window_size": 5, "global_attn_indexes": [1],
        "mlp_dim": 48,
    }  # fmt: skip
    return one.Tiny(
        processor, {"vision_config": vision, "image_seq_length": 16}, kind="qwen2",
        image_token="<imgpad>",
    )  # fmt: skip


def ovis2():
    """Ovis2: a thumbnail of 2 x 2 tokens, each a mixture of visual words, and tiles of as many."""
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    special = ["<image>", "<IMG_ATOM>", *marks, *one.CHAT]
    tokenizer = one.make_tokenizer(special, extra={"image_token": "<image>"}, bos=False)
    images = hf.Ovis2ImageProcessorPil(size=one.TILE, crop_to_patches=True, max_patches=6)
    vision = one.PLAIN | {
        "patch_size": 14, "hidden_stride": 2, "vocab_size": 40, "qkv_bias": True,
    }  # fmt: skip
    return one.Tiny(
        hf.Ovis2Processor(images, tokenizer, image_seq_length=4),
        {
            "vision_config": vision, "hidden_size": 64, "vocab_size": len(tokenizer),
            "visual_indicator_token_ids": tokenizer.convert_tokens_to_ids(marks),
        },
        kind="qwen2",
        image_token="<IMG_ATOM>",
        template=one.CHATML.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def deepseek_vl():
    """DeepSeek-VL: the picture padded to a square, 8 x 8 tokens."""
    tokenizer = one.make_tokenizer(["<image>"], extra={"image_token": "<image>"})
    images = hf.DeepseekVLImageProcessorPil(size=one.TILE)
    return one.Tiny(
        hf.DeepseekVLProcessor(images, tokenizer, num_image_tokens=64),
        {"vision_config": one.SIGLIP},
        template=one.VICUNA_TURNS.replace("IMAGE", "<image>\n"),
    )


def idefics2():
    """Idefics2: 8 latents read each quarter of the picture and the whole, padded to one size."""
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    names = {"image_token": "<image>", "image_boundary_token": marks[0]}
    images = hf.Idefics2ImageProcessorPil(
        size={"shortest_edge": 21, "longest_edge": 56}, do_image_splitting=True
    )
    perceiver = {
        "hidden_size": 64, "resampler_n_latents": 8, "resampler_depth": 2, "resampler_n_heads": 4,
        "resampler_head_dim": 16, "num_key_value_heads": 2,
    }  # fmt: skip
    return one.Tiny(
        hf.Idefics2Processor(images, one.make_tokenizer(marks, extra=names), image_seq_len=8),
        {"vision_config": one.PLAIN, "perceiver_config": perceiver},
        text={"sliding_window": None},
        kind="mistral",
        template=one.UTTERANCES,
    )


def aria():
    """Aria: 12 queries read 14 x 14 patches of a square; its decoder is a mixture of experts."""
    tokenizer = one.make_tokenizer(["<image>", *one.CHAT], extra={"image_token": "<image>"})
    processor = hf.AriaProcessor(
        hf.AriaImageProcessorPil(), tokenizer, size_conversion={490: 6, 980: 12}
    )
    vision = one.PLAIN | {"model_type": "idefics3_vision", "image_size": 980, "patch_size": 70}
    return one.Tiny(
        processor,
        {
            "vision_config": vision, "projector_patch_to_query_dict": {49: 6, 196: 12},
            "vision_feature_layer": -2,
        },
        text={"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
        kind="aria_text",
        template=one.CHATML.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def gemma4():
    """Gemma 4: the picture's own proportions, a token 3 x 3 patches; they see each other in some
    layers, whose window of 12 positions is shorter than the picture."""
    names = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    marks = [*names.values(), "<|video|>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = one.make_tokenizer(marks, extra=names)
    ids = tokenizer.convert_tokens_to_ids
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "patch_size": 4,
        "position_embedding_size": 128,
    }  # fmt: skip
    return one.Tiny(
        processors.Gemma4Processor(
            hf.Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70), tokenizer
        ),
        {
            "vision_config": vision, "audio_config": None,
            "boi_token_id": ids(names["boi_token"]), "eoi_token_id": ids(names["eoi_token"]),
            "audio_token_id": ids(names["audio_token"]), "boa_token_id": ids(names["boa_token"]),
            "eoa_token_index": ids(names["eoa_token"]), "video_token_id": ids("<|video|>"),
        },
        text={
            "head_dim": 16, "global_head_dim": 16, "sliding_window": 12,
            "hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision",
            "final_logit_softcapping": 3.0,
            "layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"],
        },
        kind="gemma4_text",
        image_token="<|image|>",
        template=one.TURNS.replace("<start_of_image>", "<|image|>"),
    )  # fmt: skip


FAMILIES = {
    "got_ocr2": ("got_ocr2", got_ocr2),
    "ovis2": ("ovis2", ovis2),
    "deepseek_vl": ("deepseek_vl", deepseek_vl),
    "idefics2": ("idefics2", idefics2),
    "aria": ("aria", aria),
    "gemma4": ("gemma4", gemma4),
}
PROMPTS = {  # what each family reads, the image tokens of one run written once
    "got_ocr2": "<|im_start|>system\nYou should follow the instructions carefully and explain your "
    "answers in detail.<|im_end|><|im_start|>user\n<img><imgpad></img>\n%s<|im_end|><|im_start|>"
    "assistant\n",
    "ovis2": "{system}user\n<IMG_START><IMG_ATOM><IMG_GRID><IMG_ATOM><IMG_COL><IMG_ATOM><IMG_ROW>"
    "<IMG_ATOM><IMG_COL><IMG_ATOM><IMG_END>\n%s{end}",
    "deepseek_vl": "<s>USER: <image>\n%s ASSISTANT:",
    "gemma4": "<s><start_of_turn>user\n<|image><|image|><image|>%s<end_of_turn>\n"
    "<start_of_turn>model\n",
    "aria": "<s>{system}user\n<image>\n%s{end}",
    "idefics2": "<s>User:"
    + "<fake_token_around_image><image>" * 5
    + "<fake_token_around_image> %s<end_of_utterance>\nAssistant:",
}
OFF_BY_ONE = {  # as in models/test_bad_models.py
    "got_ocr2": ("processor_config.json", {"num_image_tokens": 15}),
    "ovis2": ("processor_config.json", {"image_seq_length": 5}),
    "deepseek_vl": ("processor_config.json", {"num_image_tokens": 63}),
    "idefics2": ("processor_config.json", {"image_seq_len": 7}),
    "gemma4": ("preprocessor_config.json", {"pooling_kernel_size": 2}),
    "aria": ("processor_config.json", {"size_conversion": {"490": 6, "980": 11}}),
}
OTHER_SIZE = {
    "got_ocr2": {"size": {"height": 56, "width": 56}},
    "ovis2": {"size": {"height": 28, "width": 28}},
    "deepseek_vl": {"size": {"height": 28, "width": 28}},
}


def laid_through(vlm, inputs):
    """Oracle: the grid to lay heat on, by the slow attention of what reads the patches, and loops.

    What each cell gets of a token is the mean over all patches, each as much as they have of it.
    """
    grid, vision = inputs.grid, vlm.model.config.vision_config
    width = inputs.batch["pixel_values"].shape[-1] // vision.patch_size
    weights = read_by(vlm, inputs.batch)
    made, views = [np.zeros((*grid.shape, len(grid.boxes))) for _ in range(2)], np.zeros(grid.shape)
    for view in sorted({crop.view for crop in grid.crops}):
        total, area, at = np.zeros_like(made[0]), np.zeros(grid.shape), 0
        for crop, weight in zip(grid.crops, weights, strict=True):
            tokens = slice(at, at + len(weight))
            at += len(weight)
            if crop.view != view:
                continue
            for r, c in np.ndindex(len(crop.y) - 1, len(crop.x) - 1):
                patch = [crop.x[c], crop.y[r], crop.x[c + 1], crop.y[r + 1]]
                for place in np.ndindex(grid.shape):
                    x0, y0, x1, y1 = grid.cells[place]
                    shared = max(0, min(x1, patch[2]) - max(x0, patch[0])) * max(
                        0, min(y1, patch[3]) - max(y0, patch[1])
                    )
                    total[place][tokens] += shared * weight[:, r * width + c]
                    area[place] += shared
        made[view] = total / np.maximum(area, 1e-9)[..., None]
        views += area > 0
    return replace(grid, weights=sum(made) / views.clip(1)[..., None], finest=made[0])


@torch.no_grad()
def read_by(vlm, batch):
    """Oracle: head-averaged weights `[crop, token, key]` by which tokens read patches."""
    model, kept = copy.deepcopy(vlm.model), []
    if vlm.model.config.model_type == "aria":
        reader = model.model.multi_modal_projector.cross_attn.multihead_attn

        def keep(module, args, kwargs):
            query, key, value = args
            heads, size = module.num_heads, module.head_dim
            q, k, _ = (
                torch.nn.functional.linear(x, w, b).unflatten(-1, (heads, size)).transpose(1, 2)
                for x, w, b in zip(
                    (query, key, value), module.in_proj_weight.chunk(3),
                    module.in_proj_bias.chunk(3), strict=True,
                )
            )  # fmt: skip
            scores = q @ k.mT / size**0.5
            hidden = kwargs["attn_mask"].unflatten(0, (-1, heads))
            kept.append(scores.masked_fill(hidden, -torch.inf).softmax(-1))

        reader.register_forward_pre_hook(keep, with_kwargs=True)
        keys = ("pixel_values", "pixel_mask")
    else:
        reader = model.model.connector.perceiver_resampler
        reader.set_attn_implementation("eager")
        for layer in reader.layers:
            layer.self_attn.register_forward_hook(lambda m, args, out: kept.append(out[1]))
        keys = ("pixel_values", "pixel_attention_mask")
    told = {"vision_feature_layer": -2} if "pixel_mask" in keys else {}
    model.get_image_features(**{key: batch[key] for key in keys} | told)
    return torch.stack(kept).mean((0, 2)).numpy()
