"""Tokens of one's own choice, all at once: against `truncate`, one by one."""

from dataclasses import replace
from random import Random

import families
import pytest
import torch
from conftest import hooks_on

from irlib import load, load_task
from irlib.hooks.hooks import edit
from irlib.interventions import chosen
from irlib.interventions.chosen import Choice, answers_with, logprobs_with
from irlib.interventions.likelihood import forced
from irlib.interventions.truncation import truncate

# In nats a token: float32 rounding of other kernels, masks and orders of summation, four layers.
CLOSE = 1e-4


def choices_of(count, n_layers):
    """Every layer, none to all of the tokens, in no order."""
    draw, found = Random(0), [Choice(n_layers), Choice(0), Choice(0, tuple(range(count)))]
    for keep in (1, 3, count - 1):
        for layer in (2, 0, 3, 1, 1):
            found.append(Choice(layer, tuple(draw.sample(range(count), keep))))
    draw.shuffle(found)
    return found


def one_by_one(vlm, inputs, choices, ask):
    """Oracle: `truncate` by a ranking that puts the chosen tokens first."""
    inputs, found = vlm.encode(inputs), []
    for layer, tokens in choices:
        ranking = torch.zeros(int(inputs.spans.image.sum()))
        ranking[list(tokens)] = 1
        with truncate(vlm, inputs, layer=layer, keep=len(tokens), ranking=[ranking]):
            found.append(ask(inputs))
    return found


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_every_choice_is_what_truncate_makes_of_it(name, family, sample):
    vlm = family(name)
    inputs = vlm.prepare(replace(sample, max_new_tokens=3))
    answer = vlm.answer(inputs)
    choices = choices_of(int(inputs.spans.image.sum()), vlm.n_layers)
    found = logprobs_with(vlm, inputs, choices, answer=answer)
    wanted = one_by_one(vlm, inputs, choices, lambda one: forced(vlm, one, answer)[0])
    assert found == pytest.approx(wanted, abs=CLOSE * len(answer.ids[0]))
    assert max(wanted) - min(wanted) > 100 * CLOSE
    said = answers_with(vlm, inputs, choices)
    assert said == one_by_one(vlm, inputs, choices, lambda one: vlm.answer(one).text)
    assert hooks_on(vlm.decoder) == 0


def test_parts_and_hooks_change_nothing(tiny_llava, sample, monkeypatch):
    inputs = tiny_llava.prepare(replace(sample, max_new_tokens=2))
    answer = tiny_llava.answer(inputs)
    choices = choices_of(16, 4)
    whole = logprobs_with(tiny_llava, inputs, choices, answer=answer)
    said = answers_with(tiny_llava, inputs, choices)
    monkeypatch.setattr(chosen, "POSITIONS", 1)
    alone = logprobs_with(tiny_llava, inputs, choices, answer=answer)
    assert alone == pytest.approx(whole, abs=CLOSE)
    monkeypatch.undo()
    with edit({0: tiny_llava.decoder.layers[1]}, lambda _, states: 1.01 * states):
        changed = logprobs_with(tiny_llava, inputs, choices, answer=answer)
        ask = lambda one: forced(tiny_llava, one, answer)[0]  # noqa: E731
        assert changed == pytest.approx(one_by_one(tiny_llava, inputs, choices, ask), abs=CLOSE)
    assert changed != pytest.approx(whole, abs=CLOSE)
    with edit({0: tiny_llava.decoder.layers[1]}, lambda _, states: states):
        assert answers_with(tiny_llava, inputs, choices) == said


def test_an_empty_answer_has_no_probability(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    answer = replace(tiny_llava.answer(inputs), ids=(torch.tensor([]),), texts=("",))
    (found,) = logprobs_with(tiny_llava, inputs, [Choice(0)], answer=answer)
    assert found != found


def test_what_cannot_be_chosen_is_refused(tiny_llava, sample, samples, text_sample):
    inputs = tiny_llava.prepare(sample)
    for wrong, told in [
        ([(5, ())], "4 layers and 1 rows"),
        ([(0, (16,))], r"tokens\[0\]=16"),
        ([(0, (-1,))], r"tokens\[0\]=-1"),
        ([(0, (3, 3))], "found some of them twice"),
        ([(0, 3)], "found a int; give a list"),
    ]:
        with pytest.raises(ValueError, match=told):
            answers_with(tiny_llava, inputs, wrong)
    for other in (samples, text_sample):
        with pytest.raises(ValueError, match="give inputs of one row with a picture"):
            answers_with(tiny_llava, tiny_llava.prepare(other), [Choice(0)])


def test_answers_that_end_at_different_times_are_those_of_single_runs():
    """Rows that have said all leave the batch, the first of them too."""
    vlm = load("mini-llava")
    inputs = vlm.prepare(load_task("chair", n=1))
    choices = [Choice(layer) for layer in range(vlm.n_layers + 1)]
    single = [answers_with(vlm, inputs, [one])[0] for one in choices]
    assert answers_with(vlm, inputs, choices) == single
    assert len({len(text) for text in single}) > 2
