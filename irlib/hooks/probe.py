"""Attention that also tells chosen rows of its weights, whatever implementation computes it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from irlib.hooks.registry import register, registered

EAGER = "eager_attention_forward"  # its name in each of transformers' modules of a model
APART = ("s_aux", "position_bias")  # arguments of attention that its rows would not show
GIB = 2**30
# transformers' registry is one for all models and threads: what stood there before, and how many
# blocks are open; the last to leave puts it back
_probed: dict[str, tuple] = {}
_turn = threading.Lock()
HELD = 3  # copies of [row, head, query, key] in float32 while it is made and reduced


@contextmanager
def probed(name: str) -> Iterator[None]:
    """Inside the block the attention of that name in transformers' registry calls probes too.

    Those that its module was called with, as `irlib_probes`: `(call, positions, memory)` each,
    where `call` gets what `weigh` yields. The name itself stays: by it models choose their masks,
    and flash attention its kernels.
    """
    with _turn:
        before, users = _probed.get(name) or (registered(name), 0)  # None for eager: the model's
        if not users:
            register(name, partial(_attend_and_probe, name, before))
        _probed[name] = before, users + 1
    try:
        yield
    finally:
        with _turn:
            before, users = _probed.pop(name)
            if users > 1:
                _probed[name] = before, users - 1
            else:
                register(name, before)


def _attend_and_probe(name, attend, module, *args, irlib_probes=(), **kwargs):
    """Attention as it was; each probe `(call, positions, memory)` also gets its rows' weights."""
    if attend is None:
        homes = [vars(sys.modules[kind.__module__]) for kind in type(module).__mro__]
        attend = next(home[EAGER] for home in homes if EAGER in home)
    for probe in irlib_probes:
        with torch.autocast(args[0].device.type, enabled=False):
            _probe(probe, name, module, *args, **kwargs)
    return attend(module, *args, **kwargs)


def _probe(probe, name, module, query, key, value, attention_mask, **kwargs):
    """Give a probe the rows that it asks for; other arguments as transformers' attentions'."""
    if odd := [known for known in APART if kwargs.get(known) is not None]:
        raise ValueError(
            f"asked for rows of the attention of a {type(module).__name__}, found {odd} in it, "
            "which the rows would not show; use a decoder with plain attention"
        )
    call, positions, memory = probe
    causal, flash = kwargs.get("is_causal"), "flash" in name
    parts = weigh(
        query,
        key,
        attention_mask,
        positions,
        scaling=kwargs.get("scaling") or query.shape[-1] ** -0.5,
        causal=(module.is_causal if causal is None else causal) and name != "eager",
        window=kwargs.get("sliding_window") if flash else None,  # for others it is in the mask
        softcap=kwargs.get("softcap"),
        memory=memory,
    )
    call(parts)


def weigh(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    positions: Tensor | None,
    *,
    scaling: float,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    memory: float | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Softmax rows `[row, head, query, key]` in float32, and what their mask lets them see.

    `query [row, head, position, channel]` and `key [row, group, position, channel]` as attention
    gets them, `positions [row, query]` the wanted rows of each element of the batch (None: all).
    `mask` is `[row, 1, position, key]`, bool or added to the scores; or `[row, key]`, True where a
    key is no padding, or None: then `causal` and a sliding `window` of so many keys (both ways
    where not causal) say what else is hidden, queries being the last of the keys. `softcap` bounds
    scores as Gemma 2 does. A row that sees nothing is NaN.

    What is seen is a mask that broadcasts to `[row, 1, query, key]`. All queries come at once, or
    in parts, one after the other, of which none takes more than `memory` GiB: 3 copies of
    `[row, head, query, key]` in 4 bytes. A part is at least one query of each row.

    >>> one = torch.ones(1, 1, 3, 2)
    >>> ((weights, visible),) = weigh(one, one, None, torch.tensor([[1]]), scaling=1.0)
    >>> weights.flatten().tolist(), visible.flatten().tolist()
    ([0.5, 0.5, 0.0], [True, True, False])
    """
    batch, heads, length, _ = query.shape
    keys = key.shape[2]
    if positions is None:
        positions = torch.arange(length).expand(batch, -1)
    positions, key = positions.to(query.device), key.detach().float().transpose(-1, -2)
    size = HELD * 4 * batch * heads * keys
    step = positions.shape[1] if memory is None else max(1, int(memory * GIB) // size)
    for part in positions.split(step, dim=1):
        index = part[:, None, :, None]
        scores = _scores(query, key, index, scaling)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if mask is None or mask.ndim == 2:
            visible = _unmasked(index + (keys - length), keys, causal, window)
            if mask is not None:
                visible = visible & mask[:, None, None, :keys].bool().to(visible.device)
        else:
            rows = mask[..., :keys].expand(batch, -1, -1, -1).to(query.device)
            visible = rows.gather(2, index.expand(-1, rows.shape[1], -1, keys))
            if visible.dtype != torch.bool:
                scores += visible.float()
                visible = visible > torch.finfo(visible.dtype).min / 2
        yield scores.masked_fill_(~visible, float("-inf")).softmax(-1), visible


def _scores(query, key, index, scaling):
    """Scaled scores `[row, head, query, key]` of the queries at `index [row, 1, query, 1]`."""
    batch, heads, _, width = query.shape
    groups, keys = key.shape[1], key.shape[-1]
    chosen = query.detach().gather(2, index.expand(-1, heads, -1, width)).float() * scaling
    chosen = chosen.view(batch, groups, heads // groups, -1, width)
    return (chosen @ key.unsqueeze(2)).view(batch, heads, -1, keys)


def _unmasked(last, keys, causal, window):
    """What queries whose own key is `last [row, 1, query, 1]` see without a mask."""
    key = torch.arange(keys, device=last.device)
    visible = key <= last if causal else (key >= 0).expand(*last.shape[:-1], -1)
    return visible if window is None else visible & ((key - last).abs() < window)
