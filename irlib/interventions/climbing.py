"""Up the staircase: variants of few prompts, layer by layer, as far as they differ."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from irlib.interventions.changes import Change
from irlib.interventions.prefill import Recorder, Run, take
from irlib.interventions.sight import look
from irlib.models.finite import check_finite
from irlib.models.unembedding import unembed

# Positions of variants at a time, those of an answer to come among them. Each takes the keys and
# values of all layers: 0.5 MB in a 7B model in float16, so at most 16 GiB beside the weights.
POSITIONS = 2**15


class Variant(NamedTuple):
    """A row of the inputs, changed in the layers from `first` on and below `end`.

    Both are the number of layers where nothing is changed.
    """

    row: int
    first: int
    end: int


def parts(
    vlm, inputs, layers: Sequence[int], change: Change, *, room: int = 0
) -> Iterator[tuple[Run, list[Variant]]]:
    """The full pass and variants, first layers ascending, part by part of `POSITIONS`; in the first
    of them those of the untouched model. `room` is for the tokens of answers."""
    inputs, n = vlm.encode(inputs), vlm.n_layers
    spans = [change.span(layer, n) for layer in layers]
    made = change.run(vlm, inputs, layers={first for first, _ in spans}, whole=room > 0)
    rows = enumerate(change.touches(inputs))
    wanted = [Variant(r, *one) for r, felt in rows for one in (spans if felt else [(n, n)])]
    wanted = sorted(dict.fromkeys(wanted), key=lambda variant: variant.first < n)
    size = max(1, POSITIONS // (made.real.shape[1] + room + 1))
    for begin in range(0, len(wanted), size):
        yield made, sorted(wanted[begin : begin + size], key=lambda variant: variant[1:])


def start(
    vlm, made: Run, variants: Sequence[Variant], *, whole: bool
) -> tuple[Tensor, Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Logits after the prompts, positions of the carried rows, and their keys by layer."""
    changed = [variant for variant in variants if variant.first < vlm.n_layers]
    index = made.real.new_zeros(len(variants), made.real.shape[1], dtype=torch.long)
    logits, keys = made.logits[[variant.row for variant in variants]], {}
    if changed:
        some = slice(len(changed))
        index[some] = torch.stack([made.index[one.first][one.row] for one in changed])
        logits[some], keys = climb(vlm, made, changed, index[some], whole=whole)
    return logits, index, keys


@torch.no_grad()
def climb(
    vlm, made: Run, variants: Sequence[Variant], index: Tensor, *, whole: bool = True
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Logits `[variant, vocabulary]` after the prompts of `variants`, and their keys.

    First layers ascend, so that decoder layer l has to do with the first of them, and of those that
    are the same up to it with one. Keys and values, empty with `whole=False`, are those of the
    carried rows, at the positions `index [variant, slot]`: by layer, `[variant, head, slot, width]`
    of the variants that have begun.
    """
    sample, first, _ = torch.tensor(variants).T
    real, before = made.real[sample], made.before[sample]
    width = int(before.any(0).nonzero().amax()) + 1 if before.any() else 0  # shared columns
    columns = torch.cat([torch.arange(width, device=index.device).expand(len(index), -1), index], 1)
    among = torch.cat([before[:, :width], real], 1)[:, None]
    blind = _blind(made, sample, index, columns)
    masks, keys, states, place = {}, {}, None, {}
    for number, module in enumerate(vlm.decoder.layers):
        begun = variants[: int((first <= number).sum())]
        if not begun:
            continue
        # what has been done to a variant by the end of this layer, and who goes for all of these
        done = [(row, begin, min(end, number + 1)) for row, begin, end in begun]
        leads = {what: i for i, what in reversed([*enumerate(done)])}
        lead = sorted(leads.values())
        old = [place[variants[i][0], variants[i][1], min(variants[i][2], number)]
               for i in lead if variants[i].first < number]  # fmt: skip
        new = sample[[i for i in lead if variants[i].first == number]]
        given = [] if states is None else [states[old] if old != [*range(len(states))] else states]
        if len(new):
            given.append(made.states[number][new.to(made.states[number].device)])
        states = torch.cat(given)
        place = {done[i]: at for at, i in enumerate(lead)}
        of, at = sample[lead][:, None], index[lead]
        kwargs = dict(made.arguments[number])
        mask = kwargs.get("attention_mask")
        if id(mask) not in masks:  # layers of one kind are given the same one
            sight = look(mask, sample, index, columns)
            sight = sight & among.to(sight.device)
            every = _mask(sight, states.dtype)
            less = every if blind is None else _mask(sight & ~blind.to(sight.device), states.dtype)
            masks[id(mask)] = every, less
        cut = torch.tensor([variants[i].end > number for i in lead], device=index.device)
        kwargs["attention_mask"] = _chosen(masks[id(mask)], lead, cut)
        kwargs["position_embeddings"] = tuple(
            take(one, of, at) for one in kwargs["position_embeddings"]
        )
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = take(kwargs["position_ids"][..., None], of, at)[..., 0]
        prefix = tuple(_rows(x[:, :, :width], of[:, 0]) for x in made.keys[number])
        cache = Recorder(index.shape[1], prefix)
        states = module(states, past_key_values=cache, **kwargs)
        if whole:
            each = [place[what] for what in done]
            keys[number] = tuple(
                x if each == [*range(len(x))] else x[each] for x in cache.keys[number]
            )
        if number in made.added:
            states = states + take(made.added[number], of, at)
    states = states[[place[variant] for variant in variants]]
    logits = unembed(vlm, vlm.last_norm(states[:, -1]))
    check_finite("logits", logits)
    return logits, keys


def _blind(made, sample, index, columns):
    """Which columns `[variant, slot, column]` the carried rows do not see where an edge is cut."""
    if made.cut is None:
        return None
    rows = made.cut.rows[sample].gather(1, index)
    return rows[:, :, None] & made.cut.columns[sample].gather(1, columns)[:, None]


def _rows(keys, of):
    """The rows `of` keys; without a copy where they are all the same."""
    of = of.to(keys.device)
    return keys[of[:1]].expand(len(of), -1, -1, -1) if len(keys) == 1 else keys[of]


def _chosen(pair, lead, cut):
    """The mask of each variant that leads: the second of the pair where it is cut in this layer."""
    whole, less = pair
    if cut.all():
        return less[: len(lead)] if lead == [*range(len(lead))] else less[lead]
    return torch.where(cut.to(whole.device)[:, None, None, None], less[lead], whole[lead])


def _mask(sight, dtype):
    """What each query `[variant, slot]` sees, as scores are to be changed by it."""
    # padding sees itself: a query that sees nothing would have no softmax
    itself = torch.eye(sight.shape[2], device=sight.device, dtype=torch.bool)[-sight.shape[1] :]
    hidden = ~(sight | itself)[:, None]
    return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)
