"""Take columns out of what rows see in chosen layers, whatever runs: by hooks, and exactly so."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs
from irlib.interventions.recognising import Recogniser
from irlib.interventions.sight import check_masks


@contextmanager
def hiding(
    vlm, inputs: Inputs, unseen: Mapping[int, tuple[Tensor, Tensor]], *, beyond: bool
) -> Iterator[None]:
    """Inside the block, in layer l, no row of `unseen[l][0]` sees a column of `unseen[l][1]`.

    Both are masks `[row, position]` of `inputs`; with `beyond` what follows them, an answer, is
    among the rows that do not see. Columns are masked: keys and positions stay what they are. Works
    in one forward and in generation, on these inputs alone or followed by an answer, or on rows
    taken from them. Raises `ValueError` for a run on other inputs (see `Recogniser`).
    """
    check_masks(vlm)
    image = inputs.spans.image
    blind = {i for i, (rows, columns) in unseen.items() if rows.any() and columns.any()}
    alike = [torch.stack(pair, 1) for pair in unseen.values()]
    runs = Recogniser(vlm, inputs, torch.stack(alike, 1) if alike else image[:, :0])
    modules = {i: vlm.decoder.layers[i] for i in {0} | blind}

    def hide(i, args, kwargs):
        if not i:
            runs.begin(args[0], kwargs.get("past_key_values"), _seen(kwargs, i))
        if i not in blind:
            return args, kwargs
        mine = runs.rows.to(image.device)
        rows, columns = (mask[mine] for mask in unseen[i])
        mask = _mask(i, args[0], kwargs, rows, columns, beyond)
        return args, dict(kwargs, attention_mask=mask)

    with edit(modules, hide, at="input"):
        yield


def _mask(index, states, kwargs, rows, columns, beyond) -> Tensor:
    """The layer's attention mask with `columns` taken out of what `rows` see.

    Whatever the mask is (None for plain causal, bool, float), in prefill and in decoding: queries
    and keys are counted in positions of the whole sequence, as the cache tells them.
    """
    length, mask, seen = states.shape[1], kwargs.get("attention_mask"), _seen(kwargs, index)
    cache = kwargs.get("past_key_values")
    keys, shift = cache.get_mask_sizes(length, index) if cache is not None else (length, 0)
    at = torch.arange(keys, device=rows.device) + shift
    queries = torch.arange(seen, seen + length, device=rows.device)
    most = max(keys + shift, seen + length, rows.shape[1])
    rows, columns = _wide(rows, most, beyond), _wide(columns, most, False)
    hide = columns[:, None, None, at] & rows[:, None, queries, None]
    if mask is None:
        mask = (at <= queries[:, None])[None, None]
    if mask.dtype == torch.bool:
        return mask & ~hide
    return mask.masked_fill(hide, torch.finfo(mask.dtype).min)


def _wide(mask, most, value):
    """A mask `[row, position]` up to position `most`, with `value` behind its end."""
    wide = mask.new_full((len(mask), most), value)
    wide[:, : mask.shape[1]] = mask
    return wide


def _seen(kwargs, index) -> int:
    """Positions of the sequence that a layer has been given before, as its cache tells them."""
    cache = kwargs.get("past_key_values")
    return int(cache.get_query_offset(index)) if cache is not None else 0
