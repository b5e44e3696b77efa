"""One full pass of the untouched model over prompts, which keeps what its layers were given.

All that a change from layer L on does can be made of it: everything below L stays as it is, and
above it what stands before the first row that is changed. What must be computed again are the
`carried` rows: where the image is hidden from all text, the text after the picture's first token
and the image tokens that stay; where an edge is cut, its target and all that stands behind it.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from irlib.hooks.hooks import edit, rows
from irlib.inputs.records import Inputs
from irlib.interventions.edges import Edge, check_edge, edge_of
from irlib.interventions.sight import check_masks, visible


@dataclass(frozen=True, eq=False)
class Run:
    """What one full pass of n samples and s positions leaves behind.

    `logits [n, vocabulary]` and `position_ids` (None, or `[..., n, s]`) as the model made them.
    By layer: `keys`, two tensors `[n, head, column, width]`, keys and values; `arguments` of the
    layer; `added [n, s, channel]`, what the model adds behind it, where it does. By layer that the
    change can begin at: `index [n, slot]`, the positions of the carried rows, text last, and
    `states [n, slot, channel]`, what these rows are there. `real [n, slot]` tells them from the
    padding before them; `before [n, s]` are the positions that never change and stay visible to
    who is not cut off from them. `cut` is the edge, where one is.

    In bytes, of b an element: `states` are layers x n x slots x channels x b, `keys` 2 x layers x
    n x s x heads x width x b, as in any generation.
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
    cut: Edge | None = None


class Recorder:
    """A cache that starts empty and only notes the keys and values of the first `width` columns."""

    is_initialized = is_compileable = False

    def __init__(self, width: int, prefix: tuple[Tensor, Tensor] | None = None):
        self.width, self.prefix, self.keys = width, prefix, {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Note the new keys and values; attention is given the prefix and these behind it."""
        short, pair = self.width < keys.shape[2], (keys, values)
        self.keys[layer] = tuple(x[:, :, : self.width].clone() if short else x for x in pair)
        prefix = self.prefix or [x[:, :, :0] for x in pair]
        return tuple(torch.cat([x, new], 2) for x, new in zip(prefix, pair, strict=True))

    def get_seq_length(self, layer: int = 0) -> int:
        """No position has been seen before."""
        return 0

    get_query_offset = get_seq_length

    def get_mask_sizes(self, length: int, layer: int = 0) -> tuple[int, int]:
        """Number of keys and position of the first."""
        return length, 0


@torch.no_grad()
def run(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    keep: int = 0,
    edge: str | None = None,
    changed: Tensor | None = None,
    whole: bool = True,
) -> Run:
    """The untouched model on `inputs`, and what is needed to hide the image from `layers` on, to
    cut an edge there, or to give the rows `changed [row, position]` other states.

    With `keep` the best image tokens of each layer stay, ranked as `truncate` ranks them: by the
    head-averaged attention of the prompt's last position in the layer below. `whole=False` keeps
    the keys of no column behind the first one that all variants may compute anew. Raises
    `ValueError` for a row without such an edge and where pixels or logits are not finite numbers.
    """
    image = inputs.spans.image
    cut = None if edge is None else edge_of(inputs, edge)
    check_masks(vlm)
    hides = cut is None and changed is None
    changed = image if hides else cut.rows if cut else changed
    stays = image if hides else image & False
    known = inputs.text["attention_mask"].bool() & ~stays
    place = torch.arange(inputs.length, device=image.device)
    first = place.where(changed, inputs.length).amin(1, keepdim=True)  # the length: no picture
    made = {"arguments": {}, "added": {}, "index": {}, "states": {}}
    now = {"returned": None}

    def begin(mask):
        if cut:
            check_edge(inputs, edge, cut, mask)
        if mask is not None:  # where a row sees what follows it, nothing may stand before a change
            ahead = visible(mask).to(place.device) & (place > place[:, None])
            ahead = ahead & (place < first)[..., None]
            ahead = ahead if hides else ahead & (place >= first)[:, None]
            both_ways = ahead.flatten(1).any(1)
            first.masked_fill_(both_ways[:, None] & changed.any(1, keepdim=True), 0)
        carried = known & (place >= first)
        width = int(carried.sum(1).amax())
        # a stable sort brings the carried positions to the right end, in their order
        now["text"] = carried.int().argsort(dim=1, stable=True)[:, inputs.length - width :]
        kept = image.any(1, keepdim=True).expand(-1, keep)
        made["real"] = torch.cat([kept, carried.gather(1, now["text"])], 1)
        made["before"] = known & (place < first)

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
        if layer in layers and changed.any():
            index = now["text"]
            if keep:
                scores = seen[layer - 1].to(image.device).masked_fill(~image, -torch.inf)
                best = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
                index = torch.cat([best, index], 1)
            made["index"][layer] = index
            made["states"][layer] = take(given, torch.arange(len(index))[:, None], index)
        return args, kwargs

    def after(layer, output):
        now["returned"] = output
        return output

    modules = dict(enumerate(vlm.decoder.layers))
    width = int((first * changed.any(1, keepdim=True)).amax())
    cache = Recorder(inputs.length if whole else width)
    last = torch.full((len(inputs), 1), inputs.length - 1)
    ranked = rows(vlm.decoder, last, reduce=_head_average) if keep else nullcontext()
    with (
        ranked as seen,
        edit(modules | {"decoder": vlm.decoder}, note, at="input", once=True),
        edit(modules, after, once=True),
    ):
        logits = vlm.forward(inputs, past_key_values=cache, logits_to_keep=1)[:, -1]
    return Run(logits, keys=cache.keys, cut=cut, **made)


def _head_average(weights, _):
    return weights.mean(1)[:, 0]


def take(values: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """`values[..., row, position, channel]`, where one row of values may stand for all."""
    row, position = row.to(values.device), position.to(values.device)
    return values[..., row * (values.shape[-3] > 1), position, :]
