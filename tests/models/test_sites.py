"""The sites of figure 7, asked of decoder layers of many makes."""

from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from transformers import AutoConfig, AutoModel

from irlib.attention import attention_flow
from irlib.cam.cam import llava_cam
from irlib.hooks.hooks import edit, trace
from irlib.interventions.staircase import logits_by_layer
from irlib.interventions.truncation import truncate
from irlib.models.loading import load
from irlib.models.sites import SITES, last_norm, sites_of

LLAMA_LIKE = dict(
    zip(SITES, ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp", ""), strict=True)
)
GEMMA_LIKE = LLAMA_LIKE | {"post_attention": "pre_feedforward_layernorm"}
SIDE_BY_SIDE = {site: LLAMA_LIKE[site] for site in ("input_norm", "attention", "mlp", "block")}
NORMS_BEHIND = {site: LLAMA_LIKE[site] for site in ("attention", "mlp", "block")}
KINDS = {  # by model_type of the language model: where its layers' forward says that they stand
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "phi3": LLAMA_LIKE,
    "olmo": LLAMA_LIKE,
    "glm4": LLAMA_LIKE,
    "gemma": LLAMA_LIKE,
    "gemma2": GEMMA_LIKE,
    "gemma3_text": GEMMA_LIKE,
    "olmo2": NORMS_BEHIND,
    "granite": LLAMA_LIKE,
    "ministral3": LLAMA_LIKE,
    "mixtral": LLAMA_LIKE,
    "cohere": SIDE_BY_SIDE,
    "cohere2": SIDE_BY_SIDE,
    "phi": SIDE_BY_SIDE,
    "llama4_text": LLAMA_LIKE | {"mlp": "feed_forward"},
    "apertus": LLAMA_LIKE
    | {"input_norm": "attention_layernorm", "post_attention": "feedforward_layernorm"},
}
SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 90, "head_dim": 8,
}  # fmt: skip
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def decoder(kind, **more):
    config = AutoConfig.for_model(kind, **SMALL | IDS | more)
    return AutoModel.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("kind", KINDS)
def test_sites_stand_where_the_layers_forward_says(kind):
    assert sites_of(decoder(kind)) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_norm_is_what_the_decoder_ends_in(kind):
    model = decoder(kind)
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad(), trace({"norm": model.get_submodule(last_norm(model))}) as seen:
        last = model(ids, use_cache=False).last_hidden_state
    assert torch.equal(seen["norm"], last)


def test_layers_of_one_kind_may_stand_both_ways():
    both = {p: sites_of(decoder("stablelm", use_parallel_residual=p)) for p in (False, True)}
    assert both == {False: LLAMA_LIKE, True: SIDE_BY_SIDE}


def test_a_norm_side_by_side_with_the_attention_is_not_behind_it():
    assert sites_of(decoder("gpt_neox", use_parallel_residual=True)) == {"block": ""}


@pytest.mark.parametrize("layers", [["full_attention", "conv"], ["conv", "full_attention"]])
def test_a_site_that_some_layer_lacks_is_none_of_the_decoders(layers):
    model = decoder("lfm2", num_hidden_layers=2, layer_types=layers)
    assert [hasattr(layer, "self_attn") for layer in model.layers] == [
        kind == "full_attention" for kind in layers
    ]
    assert sites_of(model) == {"block": ""}


def test_experts_are_an_mlp():
    found = sites_of(decoder("mixtral", num_local_experts=2))
    assert found["post_attention"] == "post_attention_layernorm"
    assert decoder("mixtral", num_local_experts=2).layers[0].get_submodule(found["mlp"])


def test_asking_runs_nothing_of_the_model_itself():
    model = decoder("llama")
    ran = []
    with edit({0: model.layers[0]}, lambda key, output: ran.append(key) or output):
        sites_of(model)
    assert not ran


TEXT = {  # settings beside families.py's own; language models without their own ids get the tokens'
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "olmo2": {},
    "granite": {"logits_scaling": 1.25, "residual_multiplier": 0.8},
    "ministral3": {"sliding_window": None},
    "mixtral": {"sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere": {"logit_scale": 0.8},
    "cohere2": {"sliding_window": 4096, "logit_scale": 1.0},
    "phi": {"partial_rotary_factor": 0.5},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 4096},
}


@pytest.fixture(scope="module")
def llava_on(tmp_path_factory):
    """A tiny random LLaVA on another language model."""
    made = tmp_path_factory.mktemp("decoders")

    def get(kind):
        if not (made / kind).is_dir():
            tiny = replace(families.llava(), kind=kind, text=TEXT[kind])
            families.save("llava", made / kind, randomise=randomise, tiny=tiny)
        return load(str(made / kind), device="cpu")

    return get


@pytest.fixture(scope="module")
def sample():
    return make_sample(noise_picture(60, 40, seed=0))


@pytest.mark.parametrize("kind", TEXT)
def test_flow_and_truncation_work_on_any_decoder(llava_on, sample, kind):
    vlm = llava_on(kind)
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    flow = attention_flow(vlm, inputs, answer)
    assert np.allclose(flow.groupby("layer").share.sum(), 1, atol=1e-5)
    with torch.no_grad():
        whole = vlm.forward(inputs)
        with truncate(vlm, inputs, layer=0):
            hidden = vlm.forward(inputs)
        with truncate(vlm, inputs, layer=vlm.n_layers):
            assert torch.equal(vlm.forward(inputs), whole)
        other = vlm.prepare(make_sample(noise_picture(60, 40, seed=7)))
        with truncate(vlm, other, layer=0):
            assert torch.allclose(vlm.forward(other)[0, -1], hidden[0, -1], atol=1e-5)
    assert (hidden - whole)[0, -1].abs().max() > 0.05
    layers = list(range(vlm.n_layers + 1))
    together = logits_by_layer(vlm, inputs, layers=layers)[:, 0]
    for layer in layers:
        with torch.no_grad(), truncate(vlm, inputs, layer=layer):
            alone = vlm.forward(inputs)[0, -1]
        # float32 rounding: other shapes, other kernels
        assert torch.allclose(together[layer], alone, atol=5e-5)


@pytest.mark.parametrize("kind", [kind for kind in TEXT if "post_attention" in KINDS[kind]])
def test_the_papers_site_is_what_feeds_the_mlp_of_any_decoder(llava_on, sample, kind):
    vlm, fed = llava_on(kind), {}
    inputs = vlm.prepare(sample)

    def keep(key, args, kwargs):
        fed[key] = args[0]
        return args, kwargs

    sites = trace(vlm.site("post_attention"))
    with torch.no_grad(), sites as seen, edit(vlm.site("mlp"), keep, at="input"):
        vlm.forward(inputs)
    assert sorted(fed) == list(range(vlm.n_layers))
    assert all(torch.equal(seen[layer], fed[layer]) for layer in fed)
    assert llava_cam(vlm, inputs, vlm.answer(inputs)).heat.shape == (4, 4, 4)


@pytest.mark.parametrize("kind", ["olmo2", "cohere", "cohere2", "phi"])
def test_a_site_that_is_not_there_is_refused_and_those_that_are_work(llava_on, sample, kind):
    vlm = llava_on(kind)
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    named = list(KINDS[kind])
    with pytest.raises(
        ValueError, match=r"'post_attention', found no such site .*use one of"
    ) as no:
        llava_cam(vlm, inputs, answer)
    assert str(named) in str(no.value)
    maps = llava_cam(vlm, inputs, answer, site=named)
    assert list(maps) == named
    assert all(one.heat.shape == (4, 4, 4) for one in maps.values())


def test_a_decoder_that_caps_its_scores_is_refused_as_that(tmp_path):
    text = {"head_dim": 16, "query_pre_attn_scalar": 16}
    tiny = replace(families.llava(), kind="gemma2", text=text)
    families.save("llava", tmp_path / "capped", randomise=randomise, tiny=tiny)
    with pytest.raises(ValueError, match=r"found the language model 'gemma2', which .*sdpa.*; use"):
        load(str(tmp_path / "capped"), device="cpu")
