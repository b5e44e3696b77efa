"""Tiny random models, real in everything but their size: the default subjects of the tests."""

import copy
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from irlib.models import VICUNA, load
from irlib.tasks import Box, Sample

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
WORDS = "What is in the picture? Is there a red cat? Describe it. USER: ASSISTANT: yes no ."


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the system prompt and a few words as whole tokens."""
    special = ["<pad>", "<s>", "</s>", "<image>"]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [VICUNA, WORDS] * 4,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=special),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )


def make_processor() -> LlavaProcessor:
    """LLaVA-1.5's processor for 28 x 28 pixels in patches of 7: 4 x 4 image tokens."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    return LlavaProcessor(
        images,
        make_tokenizer(),
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


@torch.no_grad()
def randomise(model, seed: int = 0):
    """Weights large enough that attention is uneven and that hiding the image moves the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise)
        elif weight.ndim < 2:
            weight.copy_(0.1 * noise)
        elif "embed_tokens" in name:
            weight.copy_(noise)
        else:
            weight.copy_(1.5 * noise / weight[0].numel() ** 0.5)
    return model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A random LLaVA of 4 layers, saved as any checkpoint is."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    processor = make_processor()
    tokenizer = processor.tokenizer
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28, "patch_size": 7,
        "projection_dim": 32,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        image_seq_length=16,
    )
    torch.manual_seed(0)
    randomise(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llava(tiny_folder):
    """The tiny random LLaVA, loaded by its folder."""
    return load(str(tiny_folder), device="cpu")


@pytest.fixture
def picture():
    """A noisy picture, wider than high."""
    return noise_picture(60, 40, seed=0)


@pytest.fixture
def sample(picture):
    """A sample with a picture."""
    return make_sample(picture)


@pytest.fixture
def samples(picture):
    """Two samples of different length and picture."""
    other = noise_picture(40, 50, seed=1)
    return [make_sample(picture), make_sample(other, "Is there a red cat in the picture?", "b")]


@pytest.fixture
def text_sample():
    """A sample without a picture."""
    return make_sample(None, key="text")


@pytest.fixture(scope="session")
def photograph():
    """The path of a real photograph."""
    return matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)


@torch.no_grad()
def eager_attention(vlm, inputs) -> torch.Tensor:
    """Oracle: every attention matrix `[layer, row, head, query, key]`, from eager attention."""
    model = copy.deepcopy(vlm.model)
    model.set_attn_implementation({"text_config": "eager"})
    return torch.stack(model(**inputs.batch, output_attentions=True).attentions)


def hooks_on(model) -> int:
    """How many forward hooks and pre-hooks the model and its modules carry."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def noise_picture(width: int, height: int, *, seed: int) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_sample(image, question: str = "What is in the picture?", key: str = "a") -> Sample:
    """A sample of POPE's kind; its box is the upper left part of a 60 x 40 picture."""
    return Sample(
        task="pope", key=key, kind="random", question=question, prompt=question + " yes or no.",
        image=image, boxes=(Box(label="cat", x0=0, y0=0, x1=30, y1=20),), max_new_tokens=4,
        reference={"label": "yes"},
    )  # fmt: skip
