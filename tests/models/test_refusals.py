"""What cannot be had of a model family is refused with its reason, before anything is measured."""

import json
from dataclasses import replace

import families
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from irlib.cam.cam import llava_cam
from irlib.interventions.staircase import logits_by_layer
from irlib.interventions.truncation import truncate
from irlib.models.families import FAMILIES
from irlib.models.loading import load


def saved(name, folder, **config):
    """The folder of a family's tiny model with other entries of its config."""
    tiny = families.FAMILIES[name][1]()
    for key, value in config.items():
        old = tiny.config.get(key)
        tiny.config[key] = old | value if isinstance(old, dict) else value
    return str(families.save(name, folder / name, randomise=randomise, tiny=tiny))


def test_ovis2_that_draws_its_visual_words_at_random_is_refused(tmp_path):
    folder = saved("ovis2", tmp_path, vision_config={"tokenize_function": "gumbel_argmax"})
    with pytest.raises(ValueError, match=r"found Ovis2 that draws .* at random .*'softmax'"):
        load(folder, device="cpu")


def test_ovis2_that_takes_the_likeliest_visual_word_is_read(tmp_path):
    folder = saved("ovis2", tmp_path, vision_config={"tokenize_function": "st_argmax"})
    assert load(folder, device="cpu").n_layers == 4


@pytest.mark.parametrize(("kind", "reason"), [
    ("qwen3_5", "without attention .linear"), ("qwen3_5_moe", "without attention .linear"),
    ("lfm2_vl", "without attention .linear"), ("mllama", "no tokens of the sequence"),
    ("florence2", "encoder-decoder"), ("gemma3n", "no one state a token"),
])  # fmt: skip
def test_family_that_cannot_be_had_is_refused_with_its_reason(tmp_path, kind, reason):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "image_token_id": 3}))
    with pytest.raises(ValueError, match=rf"family '{kind}' with .*{reason}.*; use one of \['"):
        load(tmp_path, device="cpu")


def test_every_family_of_transformers_without_a_row_is_told_what_is_supported(tmp_path):
    for kind in sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - set(FAMILIES)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ValueError, match=rf"asked for .*{kind}.*'llava'.*'qwen2_vl'"):
            load(tmp_path, device="cpu")


@pytest.mark.parametrize(("kind", "text", "found"), [
    ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"] * 2}, "without att"),
    ("gemma4_text", {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 0, "layer_types":
     ["sliding_attention", "full_attention"] * 2}, r"borrow the keys .*\[2, 3\]"),
    ("gemma4_text", {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 700},
     "adds by token"),
    ("falcon_h1", {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_state": 8}, "Conv1d"),
])  # fmt: skip
def test_language_model_that_is_read_wrongly_is_refused_in_a_known_family(
    tmp_path, kind, text, found
):
    tiny = replace(families.llava(), kind=kind, text=text)
    folder = families.save("llava", tmp_path / kind, randomise=randomise, tiny=tiny)
    with pytest.raises(ValueError, match=rf"language model '{kind}' with .*{found}.*; use a"):
        load(folder, device="cpu")


@pytest.mark.parametrize(("text", "reason"), [
    ({"num_kv_shared_layers": 2}, "last 2 layers borrow the keys"),
    ({"hidden_size_per_layer_input": 8}, "adds to each layer .*input 8"),
    ({"use_bidirectional_attention": "all"}, "tokens all see each other"),
])  # fmt: skip
def test_gemma4_whose_layers_are_not_their_own_is_refused(tmp_path, text, reason):
    tiny = families.FAMILIES["gemma4"][1]()
    more = {"vocab_size_per_layer_input": len(tiny.processor.tokenizer)}
    tiny = replace(tiny, text=tiny.text | more | text)
    folder = families.save("gemma4", tmp_path / "tiny", randomise=lambda m: m, tiny=tiny)
    with pytest.raises(ValueError, match=rf"found Gemma 4 .*{reason}.*; use "):
        load(folder, device="cpu")


def test_gemma4_with_experts_is_truncated_exactly_and_has_no_map_at_the_papers_site(tmp_path):
    tiny = families.FAMILIES["gemma4"][1]()
    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2}
    tiny = replace(tiny, text=tiny.text | experts | {"moe_intermediate_size": 48})
    vlm = load(families.save("gemma4", tmp_path / "moe", randomise=randomise, tiny=tiny))
    inputs = vlm.prepare(make_sample(noise_picture(112, 60, seed=0)))
    found = logits_by_layer(vlm, inputs, layers=range(1, 5), keep=3)
    for layer, logits in zip(range(1, 5), found, strict=True):
        with truncate(vlm, inputs, layer=layer, keep=3), torch.no_grad():
            wanted = vlm.forward(inputs)[:, -1]
        assert (logits - wanted).abs().max() <= 2e-5 * wanted.std()  # as in test_staircase.py
    assert (found[0] - found[-1]).abs().max() > 0.1
    answer = vlm.answer(inputs)
    with pytest.raises(ValueError, match=r"site 'post_attention', found no such site .*use one of"):
        llava_cam(vlm, inputs, answer)
    assert llava_cam(vlm, inputs, answer, site="block").heat.shape[0] == 4
