"""Greedy decoding of many variants of few prompts, with the keys that they share held once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from irlib.hooks.hooks import attend
from irlib.interventions.prefill import Run
from irlib.interventions.sight import visible
from irlib.models.finite import check_finite
from irlib.models.unembedding import unembed

BLOCK = 64  # positions by which the keys of an answer grow: a copy of them every so many tokens
LEAVE = 8  # finished rows leave once they are one in so many: each leaving copies what stays


class Past:
    """The keys of a batch of variants, as a cache for the decoder and an attention over it.

    Row r is `variants[r]`: sample `sample[r]` of the run, changed in the layers from `layer[r]` on
    and below `end[r]`; first layers ascend. What it sees stands in three places: the run's keys,
    held once a sample (before layer[r] all of them, from then on those that never change); from
    layer[r] on its own `prompt`, the keys of the carried rows at the positions `index [row, slot]`,
    by layer, of the first rows only; and those of the answer's tokens. Where the run's `cut` makes
    an answer's rows blind, its columns are none of these in the layers that are changed. `most` is
    how many tokens can come.
    """

    is_compileable = False

    def __init__(self, made: Run, variants, *, index: Tensor, prompt: Mapping, most: int):
        self.made, self.index, self.prompt = made, index, dict(prompt)
        self.sample, self.layer, self.end = torch.tensor(variants).T
        blind = made.cut is not None and made.cut.answer
        self.unseen = (made.cut.columns if blind else made.before & False)[self.sample]
        self.real, self.before = made.real[self.sample], made.before[self.sample]
        self.length, self.said, self.block = self.before.shape[1], 0, min(BLOCK, most)
        self.answer = {}
        self._seat()

    def _seat(self):
        """Row r is number `seat[r]` of the rows of its sample, samples counted from `low`."""
        self.low, self.high = int(self.sample.min()), int(self.sample.max()) + 1
        same = self.sample[:, None] == self.sample
        self.seat = same.tril(-1).sum(1)

    def stay(self, left: Tensor) -> None:
        """Keep only the rows `left`, in this ascending order."""
        for name in ("sample", "layer", "end", "index", "real", "before", "unseen"):
            value = getattr(self, name)
            setattr(self, name, value[left.to(value.device)])
        for held in (self.prompt, self.answer):
            for number, pair in held.items():
                rows = left[left < len(pair[0])].to(pair[0].device)
                held[number] = tuple(x[rows] for x in pair)
        self._seat()

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Note the keys and values of the new tokens; those of the answer up to them."""
        pair = self.answer.get(layer, (keys[:, :, :0], values[:, :, :0]))
        end = self.said + keys.shape[2]
        if end > pair[0].shape[2]:
            more = max(self.block, keys.shape[2])
            pair = tuple(torch.nn.functional.pad(x, (0, 0, 0, more)) for x in pair)
            self.answer[layer] = pair
        for held, new in zip(pair, (keys, values), strict=True):
            held[:, :, self.said : end] = new
        return tuple(held[:, :, :end] for held in pair)

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions before the new tokens."""
        return self.length + self.said

    get_query_offset = get_seq_length

    def get_mask_sizes(self, length: int, layer: int = 0) -> tuple[int, int]:
        """Number of keys and position of the first, as the decoder is to mask them."""
        return self.length + self.said + length, 0

    def attention(self, number, query, keys, values, mask, scaling) -> Tensor:
        """Attention `[row, head, token, width]` of the new tokens over all that they see."""
        device, (rows, heads, new, width) = query.device, query.shape
        sample, seat = (self.sample - self.low).to(device), self.seat.to(device)
        # a product of many channels, not yet scaled, overflows in float16
        exact = torch.float32 if query.dtype == torch.float16 else query.dtype
        query, keys, values, dtype = *(x.to(exact) for x in (query, keys, values)), query.dtype
        shared, shared_values = (x[self.low : self.high].to(exact) for x in self.made.keys[number])
        prompt, prompt_values = (
            x if x is None else x.to(exact) for x in self.prompt.get(number, (None, None))
        )
        end = self.length + self.index.shape[1]
        query = query.reshape(rows, keys.shape[1], -1, width)
        scores = query.new_zeros(*query.shape[:3], end + keys.shape[2])
        scores[..., : self.length] = spread(gather(query, sample, seat) @ shared.mT, sample, seat)
        if prompt is not None:
            first = slice(len(prompt))
            scores[first, ..., self.length : end] = query[first] @ prompt.mT
        scores[..., end:] = query @ keys.mT
        sight = self._sight(number, mask, new).to(device)[:, None]
        sight = sight.repeat(1, 1, query.shape[2] // new, 1)  # the heads of a group, one by one
        weights = (scores.float() * scaling).masked_fill_(~sight, -torch.inf).softmax(-1)
        weights = weights.to(query.dtype)
        seen = weights[..., end:] @ values
        if prompt is not None:
            seen[first] += weights[first, ..., self.length : end] @ prompt_values
        ours = gather(weights[..., : self.length], sample, seat)
        seen += spread(ours @ shared_values, sample, seat)
        return seen.view(rows, heads, new, width).to(dtype)

    def _sight(self, number, mask, new):
        """What `new` tokens see `[row, token, column]`: of the run's columns, then of their own."""
        device, end = self.index.device, self.length + self.said
        if mask is None:
            seen = torch.ones(new, end + new, dtype=torch.bool, device=device).tril(end)[None]
        else:
            seen = visible(mask)[:, -new:].to(device)
        seen = seen.expand(len(self.sample), -1, -1)
        own = (self.layer <= number).to(device)[:, None]
        blind = own & (self.end > number).to(device)[:, None]
        prompt, answer = seen[..., : self.length], seen[..., self.length :]
        prompt = prompt & ~(self.unseen & blind)[:, None]
        carried = prompt.gather(2, self.index[:, None].expand(-1, new, -1))
        carried = carried & (self.real & own)[:, None]
        return torch.cat([prompt & (self.before | ~own)[:, None], carried, answer], 2)


def gather(values: Tensor, sample: Tensor, seat: Tensor) -> Tensor:
    """`[row, group, query, ...]` as `[sample, group, seat and query, ...]`, empty seats zero."""
    places = int(sample.max()) + 1, int(seat.max()) + 1
    made = values.new_zeros(*places, *values.shape[1:])
    made[sample, seat] = values
    return made.transpose(1, 2).flatten(2, 3)


def spread(values: Tensor, sample: Tensor, seat: Tensor) -> Tensor:
    """The inverse of `gather`."""
    return values.unflatten(2, (int(seat.max()) + 1, -1)).transpose(1, 2)[sample, seat]


@torch.no_grad()
def greedy(vlm, inputs, past: Past, logits: Tensor, limits: Sequence[int]) -> Tensor:
    """Ids `[row, token]` said by each row of `past`, whose prompts end in `logits [row, token]`.

    Row r has at most `limits[r]` tokens and whatever stands behind its end means nothing; rows that
    have finished leave the batch. Raises `ValueError` where logits are not finite numbers.
    """
    end, limits = vlm.end_ids, torch.as_tensor(limits)
    banned = torch.tensor([vlm.image_token_id])
    made = torch.zeros(len(limits), int(limits.max()), dtype=torch.long)
    rows, done = torch.arange(len(limits)), torch.zeros(len(limits), dtype=torch.bool)
    with attend(vlm.decoder, past.attention):
        for step in range(made.shape[1]):
            check_finite("logits", logits)
            said = logits.float().index_fill(1, banned.to(logits.device), -torch.inf).argmax(-1)
            made[rows, step] = said.cpu()
            done |= torch.isin(said.cpu(), end) | (limits[rows] == step + 1)
            if done.all():
                break
            if done.sum() * LEAVE >= len(done):
                left = (~done).nonzero().flatten()
                past.stay(left)
                rows, said, done = rows[left], said[left.to(said.device)], done[left]
            logits = unembed(vlm, hear(vlm, inputs, past, said[:, None])[:, -1])
    return made


def hear(vlm, inputs, past: Past, ids: Tensor) -> Tensor:
    """Normed states `[row, token, channel]` of the next tokens `ids [row, token]` of each row."""
    positions, text = past.made.position_ids, inputs.text["attention_mask"]
    sample, new = past.sample.to(text.device), ids.shape[1]
    mask = torch.cat([text[sample], text.new_ones(len(ids), past.said + new)], 1)
    at = past.length + past.said + torch.arange(new).expand(len(ids), -1)
    if positions is not None:
        row = past.sample.to(positions.device) * (positions.shape[-2] > 1)
        at = positions[..., row, -1:] + 1 + past.said + torch.arange(new, device=positions.device)
    states = vlm.decoder(
        input_ids=ids.to(vlm.device),
        attention_mask=mask.to(vlm.device),
        position_ids=at.to(vlm.device),
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    past.said += new
    return states
