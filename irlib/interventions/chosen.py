"""Image tokens of one's own choice stay visible, from layers of one's own choice on, all at once.

What `truncate(layer=, keep=, ranking=)` does one by one, for many choices about one prompt: the
staircase is climbed by all of them, each with the rows that can feel it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from irlib import doors
from irlib.hooks.hooks import edit, hooked
from irlib.inputs.records import Answer, Inputs
from irlib.interventions.climbing import POSITIONS, Variant, start
from irlib.interventions.decoding import Past, greedy
from irlib.interventions.likelihood import forced, logprobs
from irlib.interventions.prefill import run
from irlib.interventions.truncation import layer_by_row, truncate


class Choice(NamedTuple):
    """From `layer` on text sees these image tokens alone, by their number among them, from 0."""

    layer: int
    tokens: tuple[int, ...] = ()


def answers_with(
    vlm, inputs: Inputs, choices: Sequence[Choice], *, max_new_tokens: int | None = None
) -> list[str]:
    """What the model answers under each choice about the picture of one prompt, in their order.

    The same as `truncate(vlm, inputs, layer=layer, keep=len(tokens), ranking=...)` around
    `vlm.answer`; layer n_layers is the untouched model. Raises `ValueError` for several rows, a row
    without a picture, a layer out of range and tokens that it does not have or has twice. With
    hooks on the model, or more in its generation_config than where an answer ends, each choice is
    one generation.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(load_task("pope", n=1))
    >>> first, last = answers_with(vlm, inputs, [(0, ()), (12, ())])
    >>> last == vlm.answer(inputs).text
    True
    """
    choices, (limit,) = _checked(vlm, inputs, choices), inputs.limits(max_new_tokens)
    if hooked(vlm.model) or not vlm.plain:
        found = _one_by_one(
            vlm, inputs, choices, lambda one: vlm.answer(one, max_new_tokens=limit).text
        )
        return list(found)
    said = [""] * len(choices)
    for places, past, logits, taken in _parts(vlm, inputs, choices, room=limit):
        most = [limit] * len(places)
        made = vlm.read(greedy(vlm, taken, past, logits, most), most)
        for place, text in zip(places, made.texts, strict=True):
            said[place] = text
    return said


def logprobs_with(vlm, inputs: Inputs, choices: Sequence[Choice], *, answer: Answer) -> list[float]:
    """Log-probability of an `answer` in nats, summed over its tokens, under each choice.

    NaN where the answer is empty. What a forward inside `truncate` gives, as in `answers_with`.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(load_task("pope", n=1))
    >>> logprobs_with(vlm, inputs, [(12, ())], answer=vlm.answer(inputs))[0] < 0
    True
    """
    choices = _checked(vlm, inputs, choices)
    inputs.followed_by(answer)  # refuses what does not belong together
    if hooked(vlm.model):
        found = _one_by_one(vlm, inputs, choices, lambda one: forced(vlm, one, answer)[0])
        return list(found)
    (ids,), told = answer.ids, [0.0] * len(choices)
    for places, past, logits, taken in _parts(vlm, inputs, choices, room=max(1, len(ids))):
        made = logprobs(vlm, taken, past, logits, [ids] * len(places))
        for place, number in zip(places, made, strict=True):
            told[place] = number
    return told


def _checked(vlm, inputs, choices) -> list[Choice]:
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    counts = inputs.spans.image.sum(1).tolist()
    if len(counts) != 1 or not counts[0]:
        raise ValueError(
            f"asked which image tokens of one picture stay, found rows of {counts} image tokens; "
            "give inputs of one row with a picture"
        )
    made = []
    for layer, tokens in choices:
        layer_by_row(vlm, inputs, layer)  # raises for one out of range
        tokens = tuple(doors.counts("tokens", tokens, most=counts[0] - 1))
        if len(set(tokens)) < len(tokens):
            raise ValueError(
                f"asked to keep the image tokens {list(tokens)[:8]}, found some of them twice; "
                "name each once"
            )
        made.append(Choice(int(layer), tokens))
    return made


@torch.no_grad()
def _parts(vlm, inputs, choices, *, room) -> Iterator[tuple]:
    """Places of some of the choices, and of these the `Past`, the logits and the inputs.

    Those that keep as many go together, as far as `POSITIONS` reach.
    """
    inputs, n = vlm.encode(inputs), vlm.n_layers
    layers = sorted({choice.layer for choice in choices} - {n})
    given = {}

    def note(layer, args, kwargs):
        given[layer] = args[0][0]
        return args, kwargs

    with edit({layer: vlm.decoder.layers[layer] for layer in layers}, note, at="input"):
        base = run(vlm, inputs, layers=layers[:1] or [0])
    (text,) = next(iter(base.index.values()))
    image = inputs.spans.image[0].nonzero().flatten()
    for keep in sorted({len(choice.tokens) for choice in choices}):
        mine = [place for place, choice in enumerate(choices) if len(choice.tokens) == keep]
        mine.sort(key=lambda place: choices[place].layer)  # variants climb by their first layers
        size = max(1, POSITIONS // (keep + len(text) + room + 1))
        for begin in range(0, len(mine), size):
            places = mine[begin : begin + size]
            tokens = torch.tensor([choices[place].tokens for place in places], dtype=torch.long)
            kept = image[tokens.reshape(len(places), keep).to(image.device)]
            index = torch.cat([kept, text.expand(len(places), -1)], 1)
            made = replace(
                base,
                keys={
                    layer: tuple(one.expand(len(places), -1, -1, -1) for one in pair)
                    for layer, pair in base.keys.items()
                },
                logits=base.logits.expand(len(places), -1),
                index=dict.fromkeys(layers, index),
                states={layer: held[index.to(held.device)] for layer, held in given.items()},
                real=torch.ones_like(index, dtype=torch.bool),
                before=base.before.expand(len(places), -1),
            )
            variants = [Variant(row, choices[p].layer, n) for row, p in enumerate(places)]
            logits, index, keys = start(vlm, made, variants, whole=True)
            past = Past(made, variants, index=index, prompt=keys, most=room)
            yield places, past, logits, inputs.take([0] * len(places))


def _one_by_one(vlm, inputs, choices, ask) -> Iterator:
    """What `ask(inputs)` gives under each choice, by one run each."""
    inputs, count = vlm.encode(inputs), int(inputs.spans.image.sum())
    for layer, tokens in choices:
        ranking = torch.zeros(count)
        ranking[list(tokens)] = 1
        with truncate(vlm, inputs, layer=layer, keep=len(tokens), ranking=[ranking]):
            yield ask(inputs)
