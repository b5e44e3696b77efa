"""A tiny random model of every family, saved in a folder laid out as the hub's are.

Four layers, a few dozen channels, pictures of 28 or 56 pixels in patches of 7, an own template and
special tokens; weights as conftest.randomise makes them, so that hiding the picture moves logits.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import families_two
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import processors as after
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from irlib.models import processors
from irlib.models.families import VICUNA

WORDS = (
    "What is in the picture? Is there a red cat? Describe it. USER: ASSISTANT: user assistant "
    "system model You are a helpful assistant. User: Assistant: yes no ."
)
VICUNA_TURNS = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ 'IMAGE' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UTTERANCES = (
    "<s>{% for message in messages %}{{ message['role'].capitalize() }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TURNS = (
    "<s>{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
CHAT = ("<|im_start|>", "<|im_end|>")
TILE = {"height": 56, "width": 56}
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28, "patch_size": 7,
    "projection_dim": 32,
}  # fmt: skip
PLAIN = {  # what other vision towers call the same
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 56, "patch_size": 7,
}  # fmt: skip
SIGLIP = PLAIN | {"model_type": "siglip_vision_model", "vision_use_head": False}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]


def make_tokenizer(special=(), *, extra=None, bos=True) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the system prompts and a few words as whole tokens."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    known = ["<pad>", "<s>", "</s>", *special]
    tokenizer.train_from_iterator(
        [VICUNA, WORDS] * 4,
        trainers.BpeTrainer(vocab_size=640, initial_alphabet=alphabet, special_tokens=known),
    )
    if bos:
        tokenizer.post_processor = after.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    others = [token for token in special if token not in (extra or {}).values()]
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        extra_special_tokens=extra or {},
    )
    made.add_special_tokens({"additional_special_tokens": others})
    return made


@dataclass(frozen=True)
class Tiny:
    """A processor, its chat template, and how the config is made of text config and token ids."""

    processor: object
    config: dict
    text: dict = field(default_factory=dict)
    kind: str = "llama"
    image_token: str = "<image>"
    template: str | None = None


def _clip(kind=hf.CLIPImageProcessorPil, **more):
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    return kind(**size | more)


def llava() -> Tiny:
    """LLaVA-1.5: the middle square in 4 x 4 tokens."""
    tokenizer = make_tokenizer(["<image>"], extra={"image_token": "<image>"})
    return Tiny(
        hf.LlavaProcessor(
            _clip(), tokenizer, patch_size=7, vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        {"vision_config": CLIP, "image_seq_length": 16},
        template=VICUNA_TURNS.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def shikra() -> Tiny:
    """Shikra: LLaVA's classes, a linear projector, the picture squashed and between markers."""
    marks = ["<image>", "<im_start>", "<im_end>"]
    tokenizer = make_tokenizer(marks, extra={"image_token": "<image>"})
    images = _clip(size={"height": 28, "width": 28}, do_center_crop=False)
    return Tiny(
        hf.LlavaProcessor(
            images, tokenizer, patch_size=7, vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        {"vision_config": CLIP, "image_seq_length": 16, "projector_hidden_act": "linear"},
        template=VICUNA_TURNS.replace("IMAGE", "<im_start><image><im_end> "),
    )  # fmt: skip


def llava_next() -> Tiny:
    """LLaVA-1.6: a base view of 4 x 4 tokens and up to four tiles of as many."""
    tokenizer = make_tokenizer(["<image>"], extra={"image_token": "<image>"})
    images = _clip(hf.LlavaNextImageProcessorPil, image_grid_pinpoints=PINPOINTS)
    return Tiny(
        hf.LlavaNextProcessor(
            images, tokenizer, patch_size=7, vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        {"vision_config": CLIP, "image_seq_length": 16, "image_grid_pinpoints": PINPOINTS},
        template=VICUNA_TURNS.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def llava_onevision() -> Tiny:
    """LLaVA-OneVision: a base view and tiles, at most two tiles' worth of tokens of these."""
    names = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = make_tokenizer([*names.values(), *CHAT], extra=names, bos=False)
    pinpoints = [[28, 28], *PINPOINTS, [28, 84], [84, 28]]
    images = hf.LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    return Tiny(
        processors.LlavaOnevisionProcessor(
            images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full",
            vision_aspect_ratio="anyres_max_2",
        ),
        {
            "vision_config": SIGLIP | {"image_size": 28},
            "image_grid_pinpoints": pinpoints,
            "vision_feature_layer": -1,
            "vision_aspect_ratio": "anyres_max_2",
        },
        kind="qwen2",
        template=CHATML.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def instructblip() -> Tiny:
    """InstructBLIP: 8 queries, before the first word, through a Q-Former of 4 layers."""
    images = hf.BlipImageProcessorPil(size=TILE)
    qformer = {
        "vocab_size": 640, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 48, "encoder_hidden_size": 32, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return Tiny(
        hf.InstructBlipProcessor(
            images, make_tokenizer(["<image>"]), make_tokenizer(), num_query_tokens=8
        ),
        {"vision_config": PLAIN, "qformer_config": qformer, "num_query_tokens": 8},
    )


def internvl() -> Tiny:
    """InternVL: tiles of 4 x 4 tokens and a thumbnail."""
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    tokenizer = make_tokenizer([*names.values(), *CHAT], extra=names, bos=False)
    images = hf.GotOcr2ImageProcessorPil(
        size=TILE, crop_to_patches=True, min_patches=1, max_patches=6
    )
    return Tiny(
        processors.InternVLProcessor(images, tokenizer, image_seq_length=16),
        {
            "vision_config": PLAIN | {"image_size": [56, 56], "patch_size": [7, 7]},
            "image_seq_length": 16,
        },
        kind="qwen2",
        image_token="<IMG_CONTEXT>",
        template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )


def _qwen(kind, vision, **text) -> Tiny:
    names = {"image_token": QWEN[0], "video_token": QWEN[1]}
    tokenizer = make_tokenizer([*QWEN, *CHAT], extra=names, bos=False)
    images = hf.Qwen2VLImageProcessorPil(
        patch_size=7, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 14 * 14 * 6, "longest_edge": 14 * 14 * 40},
    )  # fmt: skip
    known = {"depth": 2, "num_heads": 4, "in_channels": 3, "patch_size": 7}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    ids = tokenizer.convert_tokens_to_ids
    return Tiny(
        kind(images, tokenizer),
        {
            "vision_config": known | {"spatial_merge_size": 2, "temporal_patch_size": 2} | vision,
            "video_token_id": ids(QWEN[1]),
            "vision_start_token_id": ids(QWEN[2]),
            "vision_end_token_id": ids(QWEN[3]),
        },
        text={"rope_parameters": rope | text.pop("rope", {})} | text,
        kind="",
        image_token=QWEN[0],
        template=CHATML.replace("IMAGE", QWEN[2] + QWEN[0] + QWEN[3]),
    )


def qwen2_vl() -> Tiny:
    """Qwen2-VL: the picture's own resolution, four patches a token."""
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "hidden_act": "quick_gelu"}
    return _qwen(processors.Qwen2VLProcessor, vision)


def qwen2_5_vl() -> Tiny:
    """Qwen2.5-VL: windows in the vision tower, whose tokens it puts into another order."""
    vision = {
        "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48, "window_size": 28,
        "fullatt_block_indexes": [1], "hidden_act": "silu",
    }  # fmt: skip
    return _qwen(processors.Qwen25VLProcessor, vision)


def qwen3_vl() -> Tiny:
    """Qwen3-VL: vision features also go into the first two decoder layers."""
    vision = {
        "depth": 3, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    rope = {"mrope_interleaved": True}
    return _qwen(processors.Qwen3VLProcessor, vision, head_dim=16, rope=rope)


def _idefics(processor, images) -> Tiny:
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    marks += ["<video>", *(f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5))]
    names = {"image_token": "<image>", "fake_image_token": marks[0]}
    tokenizer = make_tokenizer(marks, extra=names)
    size = {"size": {"longest_edge": 168}, "max_image_size": {"longest_edge": 56}}
    return Tiny(
        processor(images(**size), tokenizer, image_seq_len=16),
        {"vision_config": PLAIN, "scale_factor": 2},
        template=UTTERANCES,
    )


def idefics3() -> Tiny:
    """Idefics3: tiles of 4 x 4 tokens between markers, and the whole picture last."""
    return _idefics(hf.Idefics3Processor, hf.Idefics3ImageProcessorPil)


def smolvlm() -> Tiny:
    """SmolVLM: as Idefics3."""
    return _idefics(processors.SmolVLMProcessor, hf.SmolVLMImageProcessorPil)


def gemma3() -> Tiny:
    """Gemma 3: 4 x 4 tokens that see each other; every third layer sees all, the others a window.

    The window of 12 positions is shorter than the picture.
    """
    names = {
        "image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }  # fmt: skip
    tokenizer = make_tokenizer([*names.values(), "<start_of_turn>", "<end_of_turn>"], extra=names)
    layers = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    ids = tokenizer.convert_tokens_to_ids
    return Tiny(
        hf.Gemma3Processor(
            hf.Gemma3ImageProcessorPil(size=TILE), tokenizer, image_seq_length=16
        ),
        {
            "vision_config": SIGLIP, "mm_tokens_per_image": 16,
            "boi_token_index": ids(names["boi_token"]), "eoi_token_index": ids(names["eoi_token"]),
        },
        text={
            "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 12,
            "layer_types": layers,
        },
        kind="gemma3_text",
        image_token="<image_soft_token>",
        template=TURNS,
    )  # fmt: skip


def paligemma() -> Tiny:
    """PaliGemma: 8 x 8 tokens before the first word; the prompt is seen both ways."""
    tokenizer = make_tokenizer(["<image>"], extra={"image_token": "<image>"}, bos=False)
    images = hf.SiglipImageProcessorPil(size=TILE, image_seq_length=64)
    images.image_seq_length = 64
    return Tiny(
        hf.PaliGemmaProcessor(images, tokenizer),
        {"vision_config": SIGLIP, "projection_dim": 64, "hidden_size": 64},
        text={"head_dim": 16},
        kind="gemma",
    )


FAMILIES = {  # the folder's name, its model_type and what it is made of
    "llava": ("llava", llava),
    "llava_next": ("llava_next", llava_next),
    "instructblip": ("instructblip", instructblip),
    "internvl": ("internvl", internvl),
    "qwen2_vl": ("qwen2_vl", qwen2_vl),
    "shikra": ("llava", shikra),
    "qwen2_5_vl": ("qwen2_5_vl", qwen2_5_vl),
    "qwen3_vl": ("qwen3_vl", qwen3_vl),
    "llava_onevision": ("llava_onevision", llava_onevision),
    "smolvlm": ("smolvlm", smolvlm),
    "idefics3": ("idefics3", idefics3),
    "gemma3": ("gemma3", gemma3),
    "paligemma": ("paligemma", paligemma),
}
FAMILIES |= families_two.FAMILIES
VIDEO = {  # families whose hub folders hold a video processor too
    "internvl": "InternVLVideoProcessor",
    "qwen2_vl": "Qwen2VLVideoProcessor",
    "qwen2_5_vl": "Qwen2VLVideoProcessor",
    "qwen3_vl": "Qwen3VLVideoProcessor",
    "llava_onevision": "LlavaOnevisionVideoProcessor",
    "smolvlm": "SmolVLMVideoProcessor",
}

from families_one import FAMILIES as ONE  # noqa: E402  (it is made of what stands above)
from families_one import SIDE_BY_SIDE  # noqa: E402, F401
from families_one import VIDEO as VIDEO_ONE  # noqa: E402

FAMILIES |= ONE
VIDEO |= VIDEO_ONE
# One family of each decoder: what eager attention is there is that decoder's own code
EAGER = (
    "llava", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "paligemma", "idefics2",
    "aria", "gemma4", "qwen3_vl_moe", "aya_vision", "glm4v", "glm4v_moe",
)  # fmt: skip
every_way = pytest.mark.parametrize(
    ("name", "attention"),
    [*((name, "sdpa") for name in FAMILIES), *((name, "eager") for name in EAGER)],
)


def save(name: str, folder: Path, *, randomise, combined: bool = False, tiny=None) -> Path:
    """Write the family's tiny model to a folder as the hub lays it out.

    `combined=True` puts all of the processor into one processor_config.json, as transformers 5
    does; else there are preprocessor_config.json and others, as in most hub folders. `tiny` is what
    to make instead of the family's own.
    """
    model_type, build = FAMILIES[name]
    tiny = tiny or build()
    tokenizer = tiny.processor.tokenizer
    text = {
        "model_type": tiny.kind or f"{model_type}_text", "vocab_size": len(tokenizer),
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = AutoConfig.for_model(
        model_type,
        text_config=text | tiny.text,
        image_token_id=tokenizer.convert_tokens_to_ids(tiny.image_token),
        **{"tie_word_embeddings": False} | tiny.config,
    )
    torch.manual_seed(0)
    model = randomise(AutoModelForImageTextToText.from_config(config))
    if "gemma" in tiny.kind:  # embeddings times the root of their width, norms by 1 + weight
        model.get_input_embeddings().weight.data /= text["hidden_size"] ** 0.5
        for weight_name, weight in model.get_decoder().named_parameters():
            weight.data -= float("norm" in weight_name and tiny.kind != "gemma4_text")
    model.save_pretrained(folder)
    tiny.processor.chat_template = tiny.template
    tiny.processor.save_pretrained(folder)
    whole = json.loads((folder / "processor_config.json").read_text())
    video = {"video_processor_type": VIDEO[name]} if name in VIDEO else None
    if combined:
        whole |= {"video_processor": video} if video else {}
        (folder / "processor_config.json").write_text(json.dumps(whole))
    else:
        images = whole.pop("image_processor") | {"processor_class": whole["processor_class"]}
        (folder / "processor_config.json").write_text(json.dumps(whole))
        (folder / "preprocessor_config.json").write_text(json.dumps(images))
        if video:
            (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    return folder
