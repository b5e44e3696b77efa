"""What is measured: a random LLaVA of a stated shape, made in memory, and bundled miniatures."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.settings import Settings
from irlib import load, load_task
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.spans import Spans
from irlib.models.families import FAMILIES
from irlib.models.vlm import VLM
from irlib.tasks.samples import Sample

BEFORE, AFTER, PATCH = 35, 25, 14  # LLaVA's prompt: 35 text tokens stand before the image
IMAGE = 4  # the id of an image token


@dataclass(frozen=True)
class Shape:
    """Sizes of a random LLaVA; `side` is the image's, so that it has `side` ** 2 tokens."""

    layers: int
    hidden: int
    heads: int
    inner: int
    side: int
    tower: tuple[int, int, int, int]  # layers, hidden, heads, inner of the vision tower
    vocabulary: int = 2000
    dtype: str = "float32"


SHAPES = {
    "ratio": Shape(24, 512, 8, 1376, 24, (3, 128, 4, 256)),
    "7b": Shape(32, 4096, 32, 11008, 24, (24, 1024, 16, 4096), 32064, "bfloat16"),
    "tiny": Shape(2, 64, 4, 96, 6, (2, 32, 2, 48), 600),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """One model, prompts with a picture of one length, and an answer to each to look at.

    `aimed` is whether the targets are meant for it: in a miniature much of the time is no
    arithmetic, and fewer layers leave less to share.
    """

    vlm: VLM
    inputs: Inputs
    answer: Answer
    aimed: bool = False

    @property
    def told(self) -> dict:
        """Its sizes, as they stand in a results file; tokens are those of a prompt."""
        spans, config = self.inputs.spans, self.vlm.model.config.get_text_config()
        counts = {name: int(mask[0].sum()) for name, mask in vars(spans).items()}
        return {
            "model": self.vlm.name,
            "layers": self.vlm.n_layers,
            "hidden": config.hidden_size,
            "dtype": str(self.vlm.dtype).removeprefix("torch."),
            "tokens": {name: counts[name] for name in ("system", "image", "user")},
            "prompts": len(self.inputs),
            "answer": len(self.answer.ids[0]),
        }


def subjects(settings: Settings) -> list[Subject]:
    """The random model of the asked shape, and the miniatures that stand beside it."""
    return [
        replace(
            random_subject(SHAPES[settings.shape], device=settings.device),
            aimed=settings.shape != "tiny",
        ),
        *(miniature(name, device=settings.device) for name in settings.minis),
    ]


def random_subject(shape: Shape, *, device: str = "cpu", answer: int = 5) -> Subject:
    """A random LLaVA of that shape, and a prompt of 35 + side ** 2 + 25 tokens for it."""
    vlm = random_llava(shape, device=device)
    inputs = prompt(vlm)
    return Subject(vlm, inputs, vlm.answer(inputs, max_new_tokens=answer))


def miniature(name: str, *, device: str = "cpu") -> Subject:
    """A bundled miniature and the first of the bundled pictures to describe."""
    vlm = load(name, device=device)
    inputs = vlm.prepare(load_task("chair", n=1))
    return Subject(vlm, inputs, vlm.answer(inputs, max_new_tokens=8))


def random_llava(shape: Shape, *, device: str = "cpu") -> VLM:
    """A LLaVA with random weights, made where it will run; its words mean nothing.

    Its weights are large enough that attention is uneven and that hiding the picture changes the
    answer. It never ends an answer, so that each has the asked number of tokens.
    """
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config_of(shape), dtype=getattr(torch, shape.dtype), attn_implementation="sdpa"
        )
    _randomise(model)
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=1, pad_token_id=3)
    name = f"random LLaVA, {shape.layers} layers, hidden {shape.hidden}"
    model = model.eval().requires_grad_(False)
    return VLM(name, model, _processor(shape.side * PATCH), FAMILIES["llava"])


def config_of(shape: Shape) -> PreTrainedConfig:
    """The config of a LLaVA of that shape."""
    layers, hidden, heads, inner = shape.tower
    return AutoConfig.for_model(
        "llava",
        vision_config={
            "model_type": "clip_vision_model", "num_hidden_layers": layers, "hidden_size": hidden,
            "num_attention_heads": heads, "intermediate_size": inner, "projection_dim": hidden,
            "image_size": shape.side * PATCH, "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama", "num_hidden_layers": shape.layers, "hidden_size": shape.hidden,
            "num_attention_heads": shape.heads, "num_key_value_heads": shape.heads,
            "intermediate_size": shape.inner, "vocab_size": shape.vocabulary,
            "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 4096,
        },
        image_token_index=IMAGE,
        image_seq_length=shape.side**2,
    )  # fmt: skip


def repainted(inputs: Inputs) -> Inputs:
    """The same prompts about another picture: their pixels the other way round."""
    visual = tuple(one | {"pixel_values": one["pixel_values"].flip(-1)} for one in inputs.visual)
    return replace(inputs, visual=visual)


def prompt(
    vlm: VLM, *, rows: int = 1, before: int = BEFORE, after: int = AFTER, seed: int = 0
) -> Inputs:
    """Prompts of random words around a random picture each, for a model of `random_llava`."""
    config = vlm.model.config
    image, side = config.image_seq_length, config.vision_config.image_size
    dice, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    words = torch.randint(5, 590, (rows, before + after), generator=draw)
    picture = torch.full((rows, image), vlm.image_token_id)
    ids = torch.cat([words[:, :before], picture, words[:, before:]], 1).to(vlm.device)
    place = torch.arange(ids.shape[1], device=vlm.device).expand(rows, -1)
    spans = Spans(
        system=place < before,
        image=(place >= before) & (place < before + image),
        between=place < 0,
        user=place >= before + image,
        answer=place < 0,
    )
    pixels = torch.randn(rows, 3, side, side, generator=draw).to(vlm.device, vlm.dtype)
    visual = tuple({"pixel_values": one[None]} for one in pixels)
    drawn = Image.fromarray(dice.integers(0, 256, (side, side, 3), dtype=np.uint8))
    samples = tuple(
        Sample(
            task="random", key=str(row), kind="", question="", prompt="", image=drawn, boxes=(),
            reference={}, max_new_tokens=5,
        )
        for row in range(rows)
    )  # fmt: skip
    return Inputs(
        text={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        visual=visual,
        spans=spans,
        laid=tuple((vlm.family.layout(vlm, one, drawn.size),) for one in visual),
        shown=((drawn,),) * rows,
        samples=samples,
    )


def _processor(side):
    """LLaVA's processor of pictures so large, with one word: nothing is read from a file."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<image>": IMAGE}, unk_token="<unk>"))
    return LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        PreTrainedTokenizerFast(tokenizer_object=words),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


@torch.no_grad()
def _randomise(model, seed: int = 0):
    draws = torch.Generator(model.device).manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.empty_like(weight).normal_(generator=draws)
        if "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise)
        elif weight.ndim < 2:
            weight.copy_(0.1 * noise)
        elif "embed_tokens" in name:
            weight.copy_(noise)
        else:
            weight.copy_(1.5 * noise / weight[0].numel() ** 0.5)
