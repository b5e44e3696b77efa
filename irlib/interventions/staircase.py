"""The answers of every truncation layer at once: one full pass and one up the staircase.

The untouched model runs once and keeps what its layers were given. Then decoder layer l carries
every variant that hides the image from layer L <= l on, and of it only the rows that can feel it:
the text after the picture and the image tokens that stay. All variants then answer together.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import hooked
from irlib.inputs.records import Inputs
from irlib.interventions.alone import answers_one_by_one, one_by_one
from irlib.interventions.decoding import Past, greedy
from irlib.interventions.likelihood import Changed, divergences, logprobs
from irlib.interventions.prefill import Recorder, Run, head, look, run, take
from irlib.interventions.truncation import check_keep, layer_by_row
from irlib.models.finite import check_finite
from irlib.models.rounding import margins

# Positions of variants at a time, those of an answer to come among them. Each takes the keys and
# values of all layers: 0.5 MB in a 7B model in float16, so at most 16 GiB beside the weights.
POSITIONS = 2**15


def logits_by_layer(vlm, inputs: Inputs, *, layers: Sequence[int], keep: int = 0) -> Tensor:
    """Logits `[layer, row, vocabulary]` after each prompt, its image hidden from each layer on.

    In the order of `layers`; what a forward inside `truncate(vlm, inputs, layer=layer, keep=keep)`
    gives at the last position, n_layers being the untouched model. Raises `ValueError` where
    `truncate` and `vlm.forward` do. With hooks on the model, which would miss what layers share,
    each layer is one such forward.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> logits_by_layer(vlm, vlm.prepare(question="What is a cat?"), layers=[0, 12]).shape[:2]
    torch.Size([2, 1])
    """
    layers = _layers(inputs, layers)
    if hooked(vlm.model):
        every = one_by_one(
            vlm, inputs, layers, keep, lambda x: vlm.forward(x, logits_to_keep=1)[:, -1]
        )
        return torch.stack([every[layer] for layer in layers])
    found = {}
    for made, variants in _parts(vlm, inputs, layers, keep):
        logits, _, _ = _start(vlm, made, variants, whole=False)
        found |= dict(zip(variants, logits, strict=True))
    return torch.stack(
        [torch.stack(found_at) for found_at in _by_layer(found, len(inputs), layers, vlm.n_layers)]
    )


def answers_by_layer(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    keep: int = 0,
    max_new_tokens: int | None = None,
    logprob: bool = False,
) -> dict[int, Changed]:
    """The greedy answer of each row with its image hidden from each of `layers` on, as `Changed`.

    The same as `truncate(vlm, inputs, layer=layer, keep=keep)` around `vlm.answer`, layer by layer;
    n_layers is the untouched model. A row without a picture answers once for all layers. With
    `logprob` the untouched answer is given to every variant too, in one block of its tokens. Beside
    what one generation over `inputs` takes, memory holds the layers' inputs at the carried rows
    (see `prefill.Run`) and the keys of at most `POSITIONS` positions, or of one variant. With hooks
    on the model, which would miss what layers share, or more in its generation_config than where an
    answer ends, each layer is one generation. Raises `ValueError` where `truncate` and `vlm.answer`
    do.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> answers = answers_by_layer(vlm, inputs, layers=[0, 12], max_new_tokens=2)
    >>> answers[0].text == answers[12].text  # there is no picture to hide
    True
    """
    layers, limits = _layers(inputs, layers), inputs.limits(max_new_tokens)
    if hooked(vlm.model) or not vlm.plain:
        return answers_one_by_one(vlm, inputs, layers, keep, max_new_tokens, logprob)
    found, untouched, end = {}, {}, vlm.n_layers
    banned = torch.tensor([vlm.image_token_id], device=vlm.device)
    asked = [*layers, end] if logprob else layers
    for made, variants in _parts(vlm, inputs, asked, keep, room=max(limits)):
        logits, index, keys = _start(vlm, made, variants, whole=True)
        most = [limits[row] for row, _ in variants]
        past = Past(made, variants, index=index, prompt=keys, most=max(most))
        first = logits.float().index_fill(1, banned, -torch.inf)
        said = vlm.read(greedy(vlm, inputs, past, logits, most), most)
        rows = [row for row, _ in variants]
        told = [said.ids, said.texts, margins(first, logits.dtype)]
        told.append(divergences(logits, made.logits[rows]))
        if logprob:
            untouched |= {row: ids for (row, layer), ids in zip(variants, said.ids, strict=True)
                          if layer == end}  # fmt: skip
            past = Past(made, variants, index=index, prompt=keys, most=max(most))
            told.append(logprobs(vlm, inputs, past, logits, [untouched[row] for row in rows]))
        found |= dict(zip(variants, zip(*told, strict=True), strict=True))
    rows = _by_layer(found, len(inputs), layers, end)
    each = zip(layers, rows, strict=True)
    names = ("ids", "texts", "margins", "kl", "logprob")  # the last where it was asked for
    parts = ((layer, zip(names, zip(*row, strict=True), strict=False)) for layer, row in each)
    return {layer: Changed(**dict(part), reader=vlm.reader) for layer, part in parts}


def _layers(inputs, layers) -> list[int]:
    """The layers asked for, one or more."""
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    return doors.counts("layers", layers, some=True)


def _parts(vlm, inputs, layers, keep, *, room=0) -> Iterator[tuple[Run, list]]:
    """The full pass and variants (row, layer), layers ascending, part by part of `POSITIONS`; in
    the first of them those of the untouched model."""
    for layer in layers:
        check_keep(inputs, keep, layer_by_row(vlm, inputs, layer))
    inputs = vlm.encode(inputs)
    made = run(vlm, inputs, layers=layers, keep=keep, whole=room > 0)
    rows = enumerate(inputs.spans.image.any(1).tolist())
    wanted = [(row, layer) for row, seen in rows for layer in (layers if seen else [vlm.n_layers])]
    wanted = sorted(dict.fromkeys(wanted), key=lambda variant: variant[1] < vlm.n_layers)
    size = max(1, POSITIONS // (made.real.shape[1] + room + 1))
    for first in range(0, len(wanted), size):
        yield made, sorted(wanted[first : first + size], key=lambda variant: variant[1])


def _start(vlm, made, variants, *, whole):
    """Logits after the prompts, positions of the carried rows, and their keys by layer."""
    hidden = [variant for variant in variants if variant[1] < vlm.n_layers]
    index = made.real.new_zeros(len(variants), made.real.shape[1], dtype=torch.long)
    logits, keys = made.logits[[row for row, _ in variants]], {}
    if hidden:
        first = slice(len(hidden))
        index[first] = torch.stack([made.index[layer][row] for row, layer in hidden])
        logits[first], keys = climb(vlm, made, hidden, index[first], whole=whole)
    return logits, index, keys


def _by_layer(found, rows, layers, end):
    """What was found for each row, layer by layer; untouched rows stand for all of theirs."""
    return [
        [found.get((row, layer), found.get((row, end))) for row in range(rows)] for layer in layers
    ]


@torch.no_grad()
def climb(
    vlm, made: Run, variants: Sequence[tuple[int, int]], index: Tensor, *, whole: bool = True
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Logits `[variant, vocabulary]` after the prompts of `variants` (row, layer), and their keys.

    Each hides the image of a row of the run from its layer on, one below n_layers; the layers
    ascend, so that the decoder's layer l is given the first of them. Keys and values, empty with
    `whole=False`, are those of the carried rows, at the positions `index [variant, slot]`: by
    layer, `[variant, head, slot, width]` of the variants that it was given.
    """
    sample, layer = torch.tensor(variants).T
    real, before = made.real[sample], made.before[sample]
    width = int(before.any(0).nonzero().amax()) + 1 if before.any() else 0  # shared columns
    columns = torch.cat([torch.arange(width, device=index.device).expand(len(index), -1), index], 1)
    among = torch.cat([before[:, :width], real], 1)[:, None]
    masks, keys, states = {}, {}, None
    for number, module in enumerate(vlm.decoder.layers):
        here = sample[layer == number]
        if len(here):
            new = made.states[number][here.to(made.states[number].device)]
            states = new if states is None else torch.cat([states, new])
        if states is None:
            continue
        of, at = sample[: len(states), None], index[: len(states)]
        kwargs = dict(made.arguments[number])
        mask = kwargs.get("attention_mask")
        if id(mask) not in masks:  # layers of one kind are given the same one
            masks[id(mask)] = _mask(look(mask, sample, index, columns), among, states.dtype)
        kwargs["attention_mask"] = masks[id(mask)][: len(states)]
        places = kwargs["position_embeddings"]
        kwargs["position_embeddings"] = tuple(take(one, of, at) for one in places)
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = take(kwargs["position_ids"][..., None], of, at)[..., 0]
        prefix = tuple(x[of[:, 0].to(x.device), :, :width] for x in made.keys[number])
        cache = Recorder(index.shape[1], prefix)
        states = module(states, past_key_values=cache, **kwargs)
        if whole:
            keys |= cache.keys
        if number in made.added:
            states = states + take(made.added[number], of, at)
    logits = head(vlm, vlm.last_norm(states[:, -1]))
    check_finite("logits", logits)
    return logits, keys


def _mask(sight, among, dtype):
    """What each query `[variant, slot]` sees, as scores are to be changed by it."""
    # padding sees itself: a query that sees nothing would have no softmax
    itself = torch.eye(sight.shape[2], device=sight.device, dtype=torch.bool)[-sight.shape[1] :]
    hidden = ~(sight & among.to(sight.device) | itself)[:, None]
    return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)
