"""The prompts under every truncation layer: one full pass, then one pass up the staircase.

`run` is the untouched model and keeps what the decoder layers were given; in `climb` layer l then
carries every variant that hides the image from layer L <= l on, and of it only the rows that can
feel it: the text after the picture and the kept image tokens.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from irlib.hooks import edit, rows
from irlib.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Run:
    """What one full pass leaves behind, for `climb` and for decoding; n samples, s positions.

    `logits [n, vocabulary]` and `position_ids` (None, or `[..., n, s]`) as the model made them.
    By layer: `keys`, pairs `[n, head, column, width]` of the first columns; `arguments` of the
    layer; `added [n, s, channel]`, what the model adds behind it, where it does. By the layer that
    hides first: `index [n, slot]`, the positions of the rows to carry, those of text last, and
    `states [n, slot, channel]` of these rows. `real [n, slot]` tells true slots from padding,
    `before [n, s]` are the text positions that never change.
    """

    logits: Tensor
    position_ids: Tensor | None
    keys: Mapping[int, tuple[Tensor, Tensor]]
    arguments: Mapping[int, dict]
    added: Mapping[int, Tensor]
    index: Mapping[int, Tensor]
    states: Mapping[int, Tensor]
    real: Tensor
    before: Tensor


class Recorder:
    """A cache that starts empty and only notes the keys and values of the first `width` columns."""

    is_initialized = is_compileable = False

    def __init__(self, width: int, prefix: tuple[Tensor, Tensor] | None = None):
        self.width, self.prefix, self.keys = width, prefix, {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Note the new keys and values; what attention is given stands behind the prefix."""
        short = self.width < keys.shape[2]
        pair = keys, values
        self.keys[layer] = tuple(x[:, :, : self.width].clone() if short else x for x in pair)
        return tuple(map(_behind, self.prefix, pair)) if self.prefix else pair

    def get_seq_length(self, layer: int = 0) -> int:
        """No position has been seen before."""
        return 0

    get_query_offset = get_seq_length

    def get_mask_sizes(self, length: int, layer: int = 0) -> tuple[int, int]:
        """Number of keys and position of the first."""
        return length, 0


def _behind(prefix, new):
    return torch.cat([prefix, new], 2)


@torch.no_grad()
def run(vlm, inputs: Inputs, *, layers: Sequence[int], keep: int = 0, whole: bool = True) -> Run:
    """The untouched model on `inputs`, and what `climb` needs to hide the image from `layers` on.

    `whole=False` keeps the keys of the columns before the last picture's first token only: enough
    to climb, not to decode. Raises `ValueError` where pixels or logits are not finite numbers.
    """
    image = inputs.spans.image
    text = inputs.text["attention_mask"].bool() & ~image
    place = torch.arange(inputs.length, device=image.device)
    first = place.where(image, inputs.length).amin(1, keepdim=True)  # the length: no picture
    made = {"arguments": {}, "added": {}, "index": {}, "states": {}}
    now = {"returned": None}

    def begin(mask):
        ahead = place > place[:, None]
        if mask is not None:
            both_ways = (visible(mask) & ahead & (place < first)[..., None]).flatten(1).any(1)
            first.masked_fill_(both_ways[:, None] & image.any(1, keepdim=True), 0)
        carried = text & (place >= first)
        width = int(carried.sum(1).amax())
        # a stable sort brings the carried positions to the right end, in their order
        now["text"] = carried.int().argsort(dim=1, stable=True)[:, inputs.length - width :]
        kept = image.any(1, keepdim=True).expand(-1, keep)
        made["real"] = torch.cat([kept, carried.gather(1, now["text"])], 1)
        made["before"] = text & (place < first)

    def note(layer, args, kwargs):
        if layer == "decoder":
            made["position_ids"] = kwargs.get("position_ids")
            return args, kwargs
        if layer == 0:
            begin(kwargs.get("attention_mask"))
        given, returned = args[0], now["returned"]
        if layer and given is not returned:  # a model that adds to the states between its layers
            added = given - returned.to(given.device)
            if added.any():
                made["added"][layer - 1] = added
        made["arguments"][layer] = {k: v for k, v in kwargs.items() if k != "past_key_values"}
        if layer in layers and image.any():
            index = now["text"]
            if keep:
                scores = seen[layer - 1].masked_fill(~image, -torch.inf)
                best = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
                index = torch.cat([best, index], 1)
            made["index"][layer] = index
            made["states"][layer] = take(given, torch.arange(len(index))[:, None], index)
        return args, kwargs

    def after(layer, output):
        now["returned"] = output
        return output

    modules = dict(enumerate(vlm.decoder.layers))
    cache = Recorder(inputs.length if whole else int((first * image.any(1, keepdim=True)).amax()))
    last = torch.full((len(inputs), 1), inputs.length - 1)
    ranked = rows(vlm.decoder, last, reduce=_head_average) if keep else nullcontext()
    with (
        ranked as seen,
        edit(modules | {"decoder": vlm.decoder}, note, at="input", once=True),
        edit(modules, after, once=True),
    ):
        logits = vlm.forward(inputs, past_key_values=cache, logits_to_keep=1)[:, -1]
    return Run(logits, keys=cache.keys, **made)


def _head_average(weights, _):
    return weights.mean(1)[:, 0]


@torch.no_grad()
def climb(
    vlm, made: Run, sample: Sequence[int], layer: Sequence[int], *, whole: bool = True
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Logits `[variant, vocabulary]` after the prompts, the image hidden from a layer on in each.

    Variant v is row `sample[v]` of the run, hidden from `layer[v]` < n_layers on; `layer` ascends.
    Also returns, with `whole=True`, the keys and values of the carried rows by layer, each
    `[variant, head, slot, width]` of the first variants: those hidden from this layer or before.
    """
    sample, layer = torch.as_tensor(sample), torch.as_tensor(layer)
    index = torch.stack(
        [made.index[v][n] for n, v in zip(sample.tolist(), layer.tolist(), strict=True)]
    )
    real, before = made.real[sample], made.before[sample]
    width = int(before.any(0).nonzero().amax()) + 1 if before.any() else 0  # shared columns
    columns = torch.cat([torch.arange(width, device=index.device).expand(len(index), -1), index], 1)
    among = torch.cat([before[:, :width], real], 1)[:, None]
    itself = torch.eye(columns.shape[1], device=index.device, dtype=torch.bool)[width:]
    masks, keys, states = {}, {}, None
    for number, module in enumerate(vlm.decoder.layers):
        here = sample[layer == number]
        if len(here):
            new = made.states[number][here.to(made.states[number].device)]
            states = new if states is None else torch.cat([states, new])
        if states is None:
            continue
        rows_of, at = sample[: len(states)], index[: len(states)]
        kwargs = dict(made.arguments[number])
        mask = kwargs.get("attention_mask")
        if id(mask) not in masks:
            # padding sees itself: a query that sees nothing would have no softmax
            sight = look(mask, sample, index, columns) & among | itself
            lowest = torch.finfo(states.dtype).min
            masks[id(mask)] = torch.zeros_like(sight, dtype=states.dtype).masked_fill_(
                ~sight, lowest
            )[:, None]
        kwargs["attention_mask"] = masks[id(mask)][: len(states)]
        kwargs["position_embeddings"] = tuple(
            take(one, rows_of[:, None], at) for one in kwargs["position_embeddings"]
        )
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = take(kwargs["position_ids"][..., None], rows_of[:, None], at)[
                ..., 0
            ]
        prefix = tuple(x[rows_of.to(x.device), :, :width] for x in made.keys[number])
        cache = Recorder(index.shape[1], prefix)
        states = module(states, past_key_values=cache, **kwargs)
        if whole:
            keys |= cache.keys
        if number in made.added:
            states = states + take(made.added[number], rows_of[:, None], at)
    return head(vlm, vlm.decoder.norm(states[:, -1])), keys


def head(vlm, states: Tensor) -> Tensor:
    """Logits of normed states of the last layer."""
    return vlm.model.get_output_embeddings()(states)


def take(values: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """`values[..., row, position, channel]`, where one row of values may stand for all."""
    row, position = row.to(values.device), position.to(values.device)
    return values[..., row * (values.shape[-3] > 1), position, :]


def visible(mask: Tensor) -> Tensor:
    """A decoder layer's mask, bool or float, as bool `[row, query, key]`."""
    return mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] > torch.finfo(mask.dtype).min / 2


def look(mask: Tensor | None, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """What the positions `query [r, i]` of `row [r]` see of `key [r, j]`: `[r, i, j]`."""
    if mask is None:  # sdpa's shortcut for plain causal attention without padding
        return key[:, None] <= query[..., None]
    seen = visible(mask)
    row, query, key = (x.to(mask.device) for x in (row, query, key))
    return seen[row[:, None, None] * (len(seen) > 1), query[..., None], key[:, None]]
