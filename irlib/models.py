"""`load` a model by name. One row of `FAMILIES` holds everything that differs between families."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    PreTrainedConfig,
)

from irlib import grids, prompts, store
from irlib.inputs import Answer, Inputs

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
SITES = {  # where a decoder layer can be read: module inside the layer, by the names of figure 7
    "input_norm": "input_layernorm",
    "attention": "self_attn",
    "post_attention": "post_attention_layernorm",
    "mlp": "mlp",
    "block": "",
}


@dataclass(frozen=True)
class Family:
    """What must be known of a model family beyond what transformers tells of every model.

    `grid(vlm, batch, row, size) -> Grid` lays its image tokens on a picture of `size` (width,
    height); `placeholder` marks the picture in the chat template's text; `system` is the system
    prompt handed to that template; `sites` are the modules inside a decoder layer.
    """

    title: str
    grid: Callable
    placeholder: str = "<image>"
    system: str | None = None
    sites: Mapping[str, str] = field(default_factory=lambda: SITES)


FAMILIES = {  # by the model_type of config.json
    "llava": Family("LLaVA-1.5", grid=grids.llava_grid, system=VICUNA),
}


@dataclass(frozen=True, eq=False)
class VLM:
    """A vision-language model as the instruments see it: a plain record, made by `load`."""

    name: str
    model: nn.Module
    processor: object
    family: Family

    @property
    def decoder(self) -> nn.Module:
        """The language model."""
        return self.model.get_decoder()

    @property
    def n_layers(self) -> int:
        """Number of decoder layers; also the truncation layer that stands for the whole model."""
        return len(self.decoder.layers)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        return self.model.dtype

    @property
    def image_token_id(self) -> int:
        """The token id that stands for one image feature in `input_ids`."""
        return self.model.config.image_token_id

    def site(self, name: str) -> dict[int, nn.Module]:
        """`{layer: module}` for a site of figure 7; raises `ValueError` for an unknown one."""
        if name not in self.family.sites:
            raise ValueError(
                f"asked for the site {name!r}, found no such site in {self.family.title}; "
                f"use one of {list(self.family.sites)}"
            )
        layers = self.decoder.layers
        return {i: layer.get_submodule(self.family.sites[name]) for i, layer in enumerate(layers)}

    def prepare(self, sample=None, *, image=None, question: str | None = None) -> Inputs:
        """The `Inputs` of a sample, of a list of samples, or of any picture and question.

        >>> from irlib import load
        >>> load("mini-llava").prepare(question="What is a cat?").spans.image.any().item()
        False
        """
        return prompts.prepare(self, sample, image=image, question=question)

    def forward(self, inputs: Inputs, **kwargs) -> Tensor:
        """Logits `[row, position, token]` of one forward; `logits_to_keep=k` gives the last k.

        Raises `ValueError` where pixels or logits are not finite numbers.
        """
        _check_finite("pixels", inputs.batch.get("pixel_values"))
        logits = self.model(**inputs.batch, use_cache=False, **kwargs).logits
        _check_finite("logits", logits)
        return logits

    @torch.no_grad()
    def answer(self, inputs: Inputs, *, max_new_tokens: int | None = None) -> Answer:
        """The greedy `Answer` of each row, at most `max_new_tokens` long (the sample's, if None).

        Raises `ValueError` where pixels or logits are not finite numbers.

        >>> from irlib import load
        >>> vlm = load("mini-llava")
        >>> len(vlm.answer(vlm.prepare(question="What is a cat?"), max_new_tokens=2).texts)
        1
        """
        _check_finite("pixels", inputs.batch.get("pixel_values"))
        limits = [max_new_tokens or sample.max_new_tokens for sample in inputs.samples]
        made = self.model.generate(
            **inputs.batch,
            max_new_tokens=max(limits),
            suppress_tokens=[self.image_token_id],
            logits_processor=[_finite_scores],
        )[:, inputs.length :].cpu()
        tokenizer = self.processor.tokenizer
        special, end = torch.tensor(tokenizer.all_special_ids), self._end_ids()
        ids = []
        for row, limit in zip(made, limits, strict=True):
            stop = torch.isin(row, end).nonzero()[:1].flatten().tolist() or [len(row)]
            row = row[: min(limit, *stop)]
            ids.append(row[~torch.isin(row, special)])
        texts = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
        return Answer(tuple(ids), tuple(texts))

    def _end_ids(self):
        end = self.model.generation_config.eos_token_id
        return torch.tensor(end if isinstance(end, list) else [end])


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> VLM:
    """The model of that name: a bundled miniature, else a local folder, else a hub id.

    `device` defaults to a GPU if there is one, `dtype` to the checkpoint's own. Only safetensors
    are read and no remote code is run. Raises `ValueError` for a name that is none of the three and
    for a model that is no vision-language model of a known family, `OSError` where it cannot be
    read.

    >>> load("mini-llava").n_layers >= 12
    True
    """
    bundled = {path.parent.name: path.parent for path in _minis().glob("*/config.json")}
    path = bundled.get(name, Path(name))
    if not path.is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"asked for the model {name!r}, found no bundled model, no local folder and no hub id "
            f"of that name; use one of {sorted(bundled)}, a folder, or owner/name"
        )
    source = str(path) if path.is_dir() else name
    try:
        family = _family(name, *PreTrainedConfig.get_config_dict(source, revision=revision))
        processor = AutoProcessor.from_pretrained(source, revision=revision)
        model = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=dtype or "auto",
            attn_implementation="sdpa",
            use_safetensors=True,
        )
    except OSError as error:
        raise OSError(
            f"asked for the model {name!r}, found that {source!r} cannot be read ({error}); "
            f"check the name and the network, or use a bundled model: {sorted(bundled)}"
        ) from error
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")  # greedy: no sampling defaults
    ends = {key: getattr(model.generation_config, key) for key in kept}
    ends = {key: getattr(processor.tokenizer, key) if v is None else v for key, v in ends.items()}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval().requires_grad_(False)
    return VLM(path.name if path.is_dir() else name, model, processor, family)


def _minis():
    return store.root() / "data" / "minis"


def _family(name, config, _):
    """The family of a raw config.json, before any default of transformers fills its gaps."""
    if not config:
        raise FileNotFoundError("it has no config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(
            f"asked for the model {name!r}, found the family {kind!r}; known are "
            f"{sorted(FAMILIES)}: use one of them or add a row to FAMILIES in models.py"
        )
    if config.get("image_token_id", config.get("image_token_index")) is None:
        raise ValueError(
            f"asked for the model {name!r}, found no image token in its config.json; "
            "add image_token_id, the id that stands for one image feature in the prompt"
        )
    return FAMILIES[kind]


def _check_finite(what, values):
    if values is not None and not values.isfinite().all():
        raise ValueError(
            f"asked the model for an answer, found {what} that are not finite numbers; check the "
            "picture and the weights, and try dtype=float32 where the model runs in float16"
        )


def _finite_scores(ids, scores):
    """A logits processor that changes nothing; suppressed tokens are -inf, a NaN is a fault."""
    _check_finite("logits", scores.nan_to_num(neginf=0.0, posinf=torch.inf, nan=torch.nan))
    return scores
