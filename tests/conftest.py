"""Tiny random models, real in everything but their size: the default subjects of the tests."""

import copy
import functools
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import families
import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from irlib.models.loading import load
from irlib.scores.chair import Words, read_words
from irlib.tasks.samples import Box, Sample


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
        elif "embed_tokens" in name or "embeddings_table" in name:
            weight.copy_(noise)
        else:
            weight.copy_(1.5 * noise / weight[0].numel() ** 0.5)
    return model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A random LLaVA of 4 layers, saved as any checkpoint is."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    return families.save("llava", folder, randomise=randomise, combined=True)


@pytest.fixture(scope="session")
def tiny_llava(tiny_folder):
    """The tiny random LLaVA, loaded by its folder."""
    return load(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory):
    """The folder of a family's tiny model, laid out as the hub's, by the family's name."""
    made = tmp_path_factory.mktemp("families")

    def folder(name):
        if not (made / name).is_dir():
            families.save(name, made / name, randomise=randomise)
        return made / name

    return folder


@pytest.fixture(scope="session")
def family(family_folder):
    """A family's tiny model, loaded by its folder, by the family's name; each is loaded once."""
    return functools.cache(lambda name: load(str(family_folder(name)), device="cpu"))


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
    model, batch = vlm.family.call(with_eager(vlm).model, inputs.batch)
    return torch.stack(model(**batch, use_cache=False, output_attentions=True).attentions)


@pytest.fixture
def model_of(family):
    """A family's tiny model by its name and kind of attention."""
    return lambda name, way="sdpa": with_eager(family(name)) if way == "eager" else family(name)


def wide_none_high(*limits):
    """A wide picture, none, a high picture; questions of different length, answers so long."""
    high, question = noise_picture(60, 90, seed=1), "Is there a red cat in the picture?"
    asked = [
        make_sample(noise_picture(112, 60, seed=0)),
        make_sample(None, key="text"),
        make_sample(high, question, "b"),
    ]
    return [replace(one, max_new_tokens=n) for one, n in zip(asked, limits, strict=True)]


def with_eager(vlm):
    """The same VLM with its language model's attention computed the slow way."""
    model = copy.deepcopy(vlm.model)
    model.set_attn_implementation({"text_config": "eager"})
    return type(vlm)(vlm.name, model, vlm.processor, vlm.family)


def site_of(vlm) -> str:
    """The paper's site; where attention and MLP stand side by side, what the MLP gives."""
    return "post_attention" if "post_attention" in vlm.sites else "mlp"


FLASH = "flash_stand_in"  # transformers takes any name with "flash" in it for flash attention


@pytest.fixture
def flash():
    """Oracle: `flash(vlm)`, the VLM with a slow attention in flash's place, and what it computed.

    Real flash kernels need a GPU. As with them there is no mask of all positions by all: a mask is
    `[row, key]`, or None, and each row's own tokens are taken out of it; windows come as arguments.
    """
    weights = {}

    def attend(module, query, key, value, mask, *, scaling, sliding_window=None, **_):
        assert mask is None or mask.shape == (len(query), key.shape[2])
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
        made, out = query.new_zeros(*query.shape[:3], key.shape[2]), torch.zeros_like(query)
        for row in range(len(query)):
            own = torch.arange(key.shape[2]) if mask is None else mask[row].nonzero().flatten()
            scores = query[row][:, own] @ key[row][:, own].transpose(1, 2) * scaling
            distance = torch.arange(len(own))[:, None] - torch.arange(len(own))
            hidden = distance.abs() >= (sliding_window or len(own))
            hidden = hidden | (distance < 0) if module.is_causal else hidden
            shares = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            made[row, :, own[:, None], own] = shares
            out[row, :, own] = shares @ value[row][:, own]
        weights[module.layer_idx] = made
        return out.transpose(1, 2), None

    def give(vlm):
        model = copy.deepcopy(vlm.model)
        model.set_attn_implementation({"text_config": FLASH})
        return type(vlm)(vlm.name, model, vlm.processor, vlm.family), weights

    AttentionInterface.register(FLASH, attend)
    AttentionMaskInterface.register(FLASH, flash_attention_mask)
    yield give
    del AttentionInterface._global_mapping[FLASH], AttentionMaskInterface._global_mapping[FLASH]


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


@pytest.fixture
def known() -> Path:
    """The folder of rows, captions and answers of third parties."""
    folder = os.environ.get("IRLIB_KNOWN_ANSWERS")
    if not folder:
        pytest.skip("IRLIB_KNOWN_ANSWERS does not name a folder of third-party rows")
    return Path(folder)


@pytest.fixture
def known_words(known) -> Words:
    """COCO's word table, where NLTK's data for base forms are at hand."""
    need_nltk_data()
    return read_words(known / "chair/synonyms.txt")


def need_nltk_data():
    """Skip a test that takes base forms where no data are named: no test downloads any."""
    if not os.environ.get("NLTK_DATA"):
        pytest.skip("NLTK_DATA does not name a folder of NLTK's data, as COCO's word table needs")


def lines(path: Path) -> list[dict]:
    """The rows of a jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
