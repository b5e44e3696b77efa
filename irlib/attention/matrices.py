"""Whole attention matrices of one prompt and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import rows
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.spans import SEGMENTS
from irlib.models.spelling import spelled


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Whole attention matrices of one prompt and its answer, averaged over heads (eq. 9), or not.

    `weights [layer, query, key]`, `[layer, head, query, key]` where heads are told apart, `layers`
    the 0-based layer of each matrix, `segments` and `tokens` one label a position.
    """

    weights: np.ndarray
    layers: tuple[int, ...]
    segments: tuple[str, ...]
    tokens: tuple[str, ...]


@torch.no_grad()
def attention_map(
    vlm,
    inputs: Inputs,
    answer: Answer | str | Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    by_head: bool = False,
    memory: float = 1.0,
) -> AttentionMaps:
    """The head-averaged attention matrices of one prompt and its answer, for all layers or some.

    `by_head` tells heads apart. The weights of all heads, before their mean, come in parts of at
    most `memory` GiB. Inside `truncate` the hidden columns are seen to be empty. Raises
    `ValueError` for several rows at once and for a layer out of range.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> maps = attention_map(vlm, inputs, vlm.answer(inputs, max_new_tokens=2), layers=[0, 3])
    >>> maps.weights.shape[0], maps.segments[0]
    (2, 'system')
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    memory = doors.number("memory", memory, above=True)
    by_head = doors.flag("by_head", by_head)
    layers = range(vlm.n_layers) if layers is None else layers
    layers = tuple(doors.counts("layers", layers, some=True))
    if len(inputs) != 1 or not set(layers) <= set(range(vlm.n_layers)):
        raise ValueError(
            f"asked for the attention of layers {list(layers)}, found {len(inputs)} rows and "
            f"{vlm.n_layers} layers; give inputs of one row and layers 0..{vlm.n_layers - 1}"
        )
    whole = inputs.followed_by(spelled(vlm, inputs, answer))
    modules = {layer: vlm.decoder.layers[layer].self_attn for layer in layers}
    with rows(
        vlm.decoder, None, reduce=_each if by_head else _mean, attentions=modules, memory=memory
    ) as seen:
        vlm.forward(whole, logits_to_keep=1)
    ids = whole.batch["input_ids"][0].tolist()
    held = torch.stack([getattr(whole.spans, name)[0] for name in SEGMENTS]).int().argmax(0)
    return AttentionMaps(
        weights=torch.cat([seen[layer] for layer in layers]).transpose(1, -2).numpy()
        if by_head
        else torch.cat([seen[layer] for layer in layers]).numpy(),
        layers=layers,
        segments=tuple(SEGMENTS[index] for index in held),
        tokens=tuple(vlm.processor.tokenizer.convert_ids_to_tokens(ids)),
    )


def _mean(weights, _) -> Tensor:
    """The mean over heads, `[row, query, key]`, held where the results are."""
    return weights.mean(1).cpu()


def _each(weights, _) -> Tensor:
    """The weights of each head as `[row, query, head, key]`: parts of queries can be joined."""
    return weights.transpose(1, 2).cpu()
