"""KL and log-probability beside the answers, against one truncated forward a layer."""

import families
import numpy as np
import pytest
import torch
from conftest import wide_none_high, with_eager

from irlib.hooks.hooks import edit
from irlib.interventions import climbing
from irlib.interventions.likelihood import Changed
from irlib.interventions.staircase import answers_by_layer
from irlib.interventions.truncation import truncate
from irlib.models.vlm import VLM

# Nats, beside log-probabilities and divergences of 0.1 to 40: float32 rounding of the logits (2e-5
# of their standard deviation, see test_staircase) summed over up to eight tokens.
CLOSE = 1e-3


@pytest.fixture
def mixed():
    """A wide picture, none, a high picture; questions and limits of different length."""
    return wide_none_high(8, 3, 1)


@torch.no_grad()
def oracle(vlm, inputs, layers, keep=0):
    """KL and log-probability `[layer, row]` of one forward over each prompt and its answer alone.

    By the definition, in numpy's float64: prompts are not padded here, and each is run for itself.
    """
    kl, left = np.zeros((len(layers), len(inputs))), np.zeros((len(layers), len(inputs)))
    for row, sample in enumerate(inputs.samples):
        alone = vlm.prepare(sample)
        answer = vlm.answer(alone)
        whole = alone.followed_by(answer)
        ids = answer.ids[0].numpy()
        before = chances(vlm.forward(whole)[0])
        for at, layer in enumerate(layers):
            with truncate(vlm, alone, layer=layer, keep=keep):
                after = chances(vlm.forward(whole)[0])
            p, q = before[alone.length - 1], after[alone.length - 1]
            kl[at, row] = np.sum(np.exp(p) * (p - q))
            rows = np.arange(alone.length - 1, alone.length - 1 + len(ids))
            left[at, row] = after[rows, ids].sum() if len(ids) else np.nan
    return kl, left


def chances(logits):
    logits = logits.double().numpy()
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - (logits.max(-1, keepdims=True))
    )


def told(answers, name):
    return np.array([getattr(answer, name) for answer in answers.values()])


@pytest.mark.parametrize("name", list(families.FAMILIES))
@pytest.mark.parametrize(("attention", "keep"), [("sdpa", 0), ("eager", 3)])
def test_kl_and_log_probability_equal_those_of_one_forward_a_layer(
    family, mixed, name, attention, keep
):
    vlm = with_eager(family(name)) if attention == "eager" else family(name)
    inputs, layers = vlm.prepare(mixed), range(1 if keep else 0, 5)
    found = answers_by_layer(vlm, inputs, layers=layers, keep=keep, logprob=True)
    kl, left = oracle(vlm, inputs, layers, keep)
    assert np.abs(told(found, "kl") - kl).max() < CLOSE / 10
    np.testing.assert_allclose(told(found, "logprob"), left, atol=CLOSE)
    assert kl[0, 0] > 0.01  # hiding is felt
    assert told(found, "kl")[-1].tolist() == [0, 0, 0]  # exactly, at n_layers
    assert told(found, "kl")[:, 1].tolist() == [0] * len(layers)  # and where there is no picture


def test_only_hidden_layers_are_asked_for_and_parts_of_any_size_change_nothing(
    tiny_llava, mixed, monkeypatch
):
    inputs = tiny_llava.prepare(mixed)
    wanted = answers_by_layer(tiny_llava, inputs, layers=range(5), logprob=True)
    for positions in (1, 150, 2**15):
        monkeypatch.setattr(climbing, "POSITIONS", positions)
        found = answers_by_layer(tiny_llava, inputs, layers=[3, 1], logprob=True)
        assert list(found) == [3, 1]
        for layer, answer in found.items():
            np.testing.assert_allclose(answer.kl, wanted[layer].kl, atol=CLOSE)
            np.testing.assert_allclose(answer.logprob, wanted[layer].logprob, atol=CLOSE)
            assert answer.texts == wanted[layer].texts
    assert answers_by_layer(tiny_llava, inputs, layers=[3])[3].logprob == ()


def test_an_answer_of_no_tokens_has_no_log_probability(tiny_llava, mixed, monkeypatch):
    inputs = tiny_llava.prepare(mixed)
    first = int(tiny_llava.answer(inputs).ids[0][0])
    monkeypatch.setattr(tiny_llava.model.generation_config, "eos_token_id", first)
    found = answers_by_layer(tiny_llava, inputs, layers=[0, 4], logprob=True)
    assert len(found[4].ids[0]) == 0
    assert np.isnan(told(found, "logprob")[:, 0]).all()
    assert np.isfinite(told(found, "logprob")[:, 1:]).all()


def test_a_model_with_hooks_is_told_by_what_it_does_with_them(tiny_llava, mixed):
    inputs = tiny_llava.prepare(mixed)
    with edit({"decoder": tiny_llava.decoder.norm}, lambda _, states: states * -1):
        found = answers_by_layer(tiny_llava, inputs, layers=[0, 4], logprob=True)
        kl, left = oracle(tiny_llava, inputs, [0, 4])
    np.testing.assert_allclose(told(found, "kl"), kl, atol=CLOSE)
    np.testing.assert_allclose(told(found, "logprob"), left, atol=CLOSE)
    assert kl[0].max() > 0.01


def test_large_logits_in_bfloat16_give_finite_nats(tiny_llava, mixed):
    import copy

    vlm = VLM("low", copy.deepcopy(tiny_llava.model).to(torch.bfloat16), tiny_llava.processor,
              tiny_llava.family)  # fmt: skip
    vlm.model.lm_head.weight.data *= 100
    found = answers_by_layer(vlm, vlm.prepare(mixed), layers=range(5), logprob=True)
    assert np.isfinite(told(found, "logprob")).all()
    assert (told(found, "kl") >= 0).all()
    assert np.isfinite(told(found, "kl")).all()


def test_rows_that_are_taken_keep_all_that_is_told_of_them():
    ids = (torch.tensor([1]), torch.tensor([2, 3]))
    whole = Changed(ids, ("a", "b c"), (1.0, 2.0), kl=(0.1, 0.2), logprob=())
    one = whole.take([1])
    assert (one.text, one.margins, one.kl, one.logprob) == ("b c", (2.0,), (0.2,), ())
    assert one.ids == (ids[1],)
