"""How much the answer attends to system prompt, image and question, layer by layer."""

import logging
from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import rows
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.spans import SEGMENTS
from irlib.models.spelling import spelled

log = logging.getLogger(__name__)


@torch.no_grad()
def attention_flow(
    vlm,
    inputs: Inputs,
    answer: Answer | str | Sequence[str],
    *,
    queries: Sequence[str] = ("answer",),
    renormalise: bool = False,
    first: bool = False,
    sinks: Tensor | None = None,
    by_head: bool = False,
    memory: float = 1.0,
) -> pd.DataFrame:
    """Share of attention that each segment receives, by layer: a tidy table.

    Columns `model, task, sample, layer, query, segment, share, uniform`. The query "answer" means
    the positions that predict the answer's tokens, any other segment the positions it holds; shares
    are means over heads and these positions and sum to 1 over system, image, between, user and
    answer (0 for an empty one). `uniform` is the share if each position attended evenly to all it
    can see. `renormalise=True` is eq. (7): system, image and user alone, brought to the sum 1 at
    each position. `first=True` tells the prompt's first token apart, where pretrained decoders sink
    attention that goes nowhere else: a further segment "first", which the segment that it stands in
    loses (its name is in the column `of`: "system" in most, "image" where the picture comes before
    all text, InstructBLIP); queries stay as they are. `sinks`, a mask `[row, position]` of the
    prompts or `[layer, row, position]` (what `sink_tokens` finds; a token that is one in any layer
    counts in all), tells these apart in the same way, as "system sink", "image sink" and "user
    sink". `by_head` gives each head a row, in the column `head`. Layers are 0-based. No matrix of
    all positions by all positions is made: of each layer's weights only the rows asked for are,
    `[row, head, query, key]`, and where they would take more than `memory` GiB, these in parts. A
    row whose answer is empty (the model ended at once) has NaN at the query "answer", and is named
    in the log. Inside torch.autocast the model computes in fewer bits, the shares of its weights in
    float32. An `answer` given as text is spelled as models.spelling tells. Raises `ValueError` for
    an unknown query, one that a row does not have, and answers of another number than rows.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> table = attention_flow(vlm, inputs, vlm.answer(inputs, max_new_tokens=2))
    >>> table.groupby("layer").share.sum().round(4).unique().tolist()
    [1.0]
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    memory = doors.number("memory", memory, above=True)
    renormalise, first = doors.flag("renormalise", renormalise), doors.flag("first", first)
    by_head = doors.flag("by_head", by_head)
    queries = (queries,) if isinstance(queries, str) else queries
    if not isinstance(queries, Iterable) or not (queries := tuple(queries)):
        raise ValueError(
            f"asked for the attention of {queries!r}, found no segment in it; use some of "
            f"{SEGMENTS}"
        )
    answer = spelled(vlm, inputs, answer)
    whole = inputs.followed_by(answer)
    for row in set(range(len(inputs))) - set(answer.spoken):
        sample = inputs.samples[row]
        log.warning("%s %s: the answer is empty and attends to nothing", sample.task, sample.key)
    segments = ("system", "image", "user") if renormalise else SEGMENTS
    keys = torch.stack([getattr(whole.spans, name) for name in segments], -1)
    homes = [dict(zip(segments, segments, strict=True)) for _ in inputs.samples]
    if sinks is not None:
        segments, keys = _sinks_apart(segments, keys, sinks, inputs, vlm.n_layers)
        homes = [dict(zip(segments, segments, strict=True)) for _ in inputs.samples]
    if first:
        segments, keys, held = _first_apart(segments, keys)
        homes = [{"first": name} | home for name, home in zip(held, homes, strict=True)]
    keys = keys.float()
    asked = torch.stack([_asked(whole, name) for name in queries], 1)  # [row, query, position]
    positions, weights = _gather(asked)

    def by_segment(probability):  # [row, position, key] -> [row, position, segment]
        found = probability @ keys.to(probability.device)
        return found / found.sum(-1, keepdim=True) if renormalise else found

    def share_and_uniform(probability, visible):  # -> [row, position, head, segment, 2]
        even = by_segment((visible / visible.sum(-1, keepdim=True))[:, 0])[:, :, None]
        if by_head:
            parts = by_segment(probability.flatten(1, 2))
            shares = parts.unflatten(1, probability.shape[1:3]).transpose(1, 2)
        else:
            shares = by_segment(probability.mean(1))[:, :, None]
        return torch.stack([shares, even.expand_as(shares)], -1)

    with rows(vlm.decoder, positions, reduce=share_and_uniform, memory=memory) as seen:
        vlm.forward(whole, logits_to_keep=1)
    with torch.autocast(vlm.device.type, enabled=False):
        seen = {
            layer: torch.einsum("rqp,rphsk->rqhsk", weights.to(found.device), found).cpu().numpy()
            for layer, found in seen.items()
        }
    columns = "model task sample layer head query segment of share uniform".split()
    table = [
        (vlm.name, sample.task, sample.key, layer, head, query, segment, homes[row][segment],
         *seen[layer][row, q, head, s].tolist())
        for row, sample in enumerate(inputs.samples)
        for layer in sorted(seen)
        for q, query in enumerate(queries)
        for head in range(seen[layer].shape[2])
        for s, segment in enumerate(segments)
    ]  # fmt: skip
    unasked = [name for name, asked in (("head", by_head), ("of", first)) if not asked]
    return pd.DataFrame(table, columns=columns).drop(columns=unasked)


def _asked(whole, query) -> Tensor:
    """Mask `[row, position]` of a query; refuses one that some row does not have."""
    if query not in SEGMENTS:
        raise ValueError(
            f"asked for the attention of {query!r}, found no such segment; use some of {SEGMENTS}"
        )
    if query == "answer":
        return whole.spans.predicting
    mask = getattr(whole.spans, query)
    if not mask.any(1).all():
        raise ValueError(
            f"asked for the attention of {query!r}, found a row without such positions; "
            "leave this query out, or the samples without it (a sample without a picture?)"
        )
    return mask


def _first_apart(segments, keys):
    """Segments with "first" before them, their masks `[row, position, segment]` apart, and the
    segment that holds the first token of each row; padding is in none and never the first."""
    real = keys.any(-1)
    first = real & (real.cumsum(1) == 1)
    held = [segments[index] for index in keys[first].int().argmax(-1)]
    keys = torch.cat([first[..., None], keys & ~first[..., None]], -1)
    return ("first", *segments), keys, held


def _sinks_apart(segments, keys, sinks, inputs, n_layers):
    """Segments with their sinks behind them, and the masks `[row, position, segment]` of both."""
    sinks, wanted = torch.as_tensor(sinks), [len(inputs), inputs.length]
    fits = sinks.dtype == torch.bool and list(sinks.shape) in (wanted, [n_layers, *wanted])
    if not fits:
        raise ValueError(
            f"asked to tell sinks apart, found a mask {list(sinks.shape)} of {sinks.dtype} for "
            f"prompts {wanted}; give sink_tokens(vlm, inputs), or bools [row, position]"
        )
    sinks = sinks.any(0) if sinks.ndim == 3 else sinks
    more = keys.shape[1] - inputs.length
    sinks = torch.nn.functional.pad(sinks, (0, more)).to(keys.device)[..., None]
    names = [name for name in segments if name != "answer"]
    held = keys[..., [segments.index(name) for name in names]]
    return (*segments, *(f"{name} sink" for name in names)), torch.cat(
        [keys & ~sinks, held & sinks], -1
    )


def _gather(asked) -> tuple[Tensor, Tensor]:
    """Positions `[row, slot]` that any query asks for, and the weight `[row, query, slot]` of each,
    NaN where a query has none.

    Rows with fewer positions repeat one of theirs at weight 0: a position of the padding sees
    nothing, and its softmax would be no number.
    """
    used = asked.any(1)
    slots = used.sum(1).max().clamp_min(1)
    positions = used.int().argsort(dim=1, descending=True, stable=True)[:, :slots]
    real = used.gather(1, positions)
    positions = torch.where(real, positions, positions[:, :1])
    weights = asked.gather(2, positions[:, None].expand(-1, asked.shape[1], -1)) & real[:, None]
    return positions, weights / weights.sum(-1, keepdim=True)
