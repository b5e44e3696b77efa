"""Logits of models with pictures are those of their language model's own class, to the scale."""

import importlib
import inspect
from dataclasses import replace

import families
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from irlib.hooks.hooks import edit, hooked
from irlib.interventions.staircase import answers_by_layer, logits_by_layer
from irlib.models.families import FAMILIES
from irlib.models.loading import load

BEHIND = {  # LLaVA-1.6, by what its language model's config says
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0},
    "hyperclovax": {"logits_scaling": 0.25, "residual_multiplier": 0.5},
    "nanochat": {"final_logit_softcapping": 2.0},
    "gemma3_text": {"final_logit_softcapping": 2.0, "head_dim": 16},
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A tiny LLaVA-1.6 on one of those language models."""

    def get(kind):
        tiny = replace(families.llava_next(), kind=kind, text=BEHIND[kind])
        folder = tmp_path_factory.mktemp(kind) / "tiny"
        families.save("llava_next", folder, randomise=randomise, tiny=tiny)
        return load(folder, device="cpu")

    return get


@pytest.mark.parametrize("name", ["aya_vision", "cohere2_vision", "llava", *BEHIND])
@torch.no_grad()
def test_logits_are_those_of_the_language_models_own_class(behind, family, name):
    vlm = behind(name) if name in BEHIND else family(name)
    inputs, seen = vlm.prepare(make_sample(noise_picture(112, 60, seed=0))), {}

    def keep(key, args, kwargs):
        seen["embeddings"] = kwargs["inputs_embeds"]
        return args, kwargs

    with edit({0: vlm.decoder}, keep, at="input"):
        logits = vlm.forward(inputs)
    own = AutoModelForCausalLM.from_config(vlm.decoder.config).eval()
    own.model.load_state_dict(vlm.decoder.state_dict())
    own.lm_head.weight.copy_(vlm.model.get_output_embeddings().weight)
    wanted = own(inputs_embeds=seen["embeddings"]).logits
    assert torch.allclose(logits, wanted, atol=1e-5)  # sdpa's shortcuts: other sums
    (alone,) = logits_by_layer(vlm, inputs, layers=[vlm.n_layers])
    assert torch.allclose(alone[0], wanted[0, -1], atol=5e-5)


def test_a_scaled_head_is_no_hook_that_an_instrument_must_go_around(family, monkeypatch):
    vlm = family("aya_vision")
    assert not hooked(vlm.model)
    monkeypatch.setattr(
        "irlib.interventions.staircase.answers_one_by_one", lambda *_: pytest.fail("one by one")
    )
    answers_by_layer(vlm, vlm.prepare(make_sample(noise_picture(60, 40, seed=0))), layers=[1])


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_class_of_a_family_scales_by_itself(kind):
    """Where one does, the logits would be scaled twice."""
    made = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[CONFIG_MAPPING[kind]]
    told = inspect.getsource(importlib.import_module(made.__module__))
    assert "logits_scaling" not in told
    assert "logit_scale" not in told
    assert ("softcapping" in inspect.getsource(made)) == FAMILIES[kind].capped


def test_a_scale_that_nobody_knows_how_to_read_is_refused(tmp_path):
    tiny = replace(families.llava(), kind="llama", text={"logits_scaling": 8.0})
    folder = families.save("llava", tmp_path / "tiny", randomise=randomise, tiny=tiny)
    with pytest.raises(ValueError, match=r"'llama' with logits that its own class scales by logi"):
        load(folder, device="cpu")
