"""Hiding in other ways: removed tokens against sequences without them, means against loops."""

import copy
from dataclasses import replace

import families
import pytest
import torch
from conftest import hooks_on, make_sample, noise_picture, wide_none_high

from irlib import sweep, truncate
from irlib.hooks.hooks import attend, edit, trace
from irlib.interventions import image_means
from irlib.interventions.averages import Means
from irlib.interventions.ways import Way

CLOSE = 2e-5  # of the logits' standard deviation, as in test_staircase: sums in another order

every_family = pytest.mark.parametrize("name", list(families.FAMILIES))
both_ways = pytest.mark.parametrize("attention", ["sdpa", "eager"])
SEVERAL = [n for n in families.FAMILIES if "qwen" in n or "glm" in n]  # positions a token
WINDOWS = ["gemma3", "gemma4", *families.SIDE_BY_SIDE]
COUNTED = [n for n in families.FAMILIES if n not in [*SEVERAL, *WINDOWS]]
PAIRS = ("Cohere2", "Glm4vText")  # attentions that turn neighbouring channels
START = 2  # of four layers


@pytest.fixture
def three():
    return wide_none_high(5, 3, 4)


def without(vlm, inputs, layer, *, renumber):
    """Oracle: logits after each prompt, the image tokens cut out of the sequence at `layer`.

    One row at a time, without padding: what the layer is given loses them, and with them its mask
    and its rotations, for good.
    """
    found = []
    for row in range(len(inputs)):
        alone = vlm.encode(vlm.prepare(inputs.samples[row]))
        stay = ~alone.spans.image[0]
        place = torch.arange(int(stay.sum()))[None]

        def cut(number, args, kwargs, stay=stay, place=place):
            if number == layer:
                args = (args[0][:, stay], *args[1:])
            mask, turned = kwargs.get("attention_mask"), kwargs["position_embeddings"]
            if mask is not None:
                mask = mask[:, :, stay][..., stay]
            turned = tuple(one[..., stay, :] for one in turned)
            if renumber:
                turned = vlm.decoder.rotary_emb(args[0], place + kwargs["position_ids"][0, 0])
            return args, dict(kwargs, attention_mask=mask, position_embeddings=turned)

        modules = {i: vlm.decoder.layers[i] for i in range(layer, vlm.n_layers)}
        with edit(modules, cut, at="input"), torch.no_grad():
            found.append(vlm.forward(alone, logits_to_keep=1)[0, -1])
    return torch.stack(found)


@torch.no_grad()
def inside(vlm, inputs, **options):
    with truncate(vlm, inputs, **options):
        return vlm.forward(inputs)[:, -1]


@both_ways
@pytest.mark.parametrize(
    ("name", "layer"),
    # Qwen3-VL adds to its image tokens' states behind its first layers: there they must be there
    [(name, at) for name in families.FAMILIES for at in (0, START) if at or "qwen3" not in name],
)
def test_a_removed_token_is_a_masked_one(model_of, three, name, attention, layer):
    vlm = model_of(name, attention)
    inputs = vlm.prepare(three)
    dropped = inside(vlm, inputs, layer=layer, how="drop")
    assert torch.equal(dropped, inside(vlm, inputs, layer=layer))
    wanted = without(vlm, inputs, layer, renumber=False)
    assert (dropped - wanted).abs().max() <= CLOSE * wanted.std()


@pytest.mark.parametrize("name", COUNTED)
@both_ways
@pytest.mark.parametrize("layer", [0, START, 4])
def test_what_follows_removed_tokens_moves_up(model_of, three, name, attention, layer):
    vlm = model_of(name, attention)
    inputs = vlm.prepare(three)
    moved = inside(vlm, inputs, layer=layer, how="drop", renumber=True)
    wanted = without(vlm, inputs, layer, renumber=True)
    assert (moved - wanted).abs().max() <= CLOSE * wanted.std()
    kept = inside(vlm, inputs, layer=layer)
    behind = name not in ("instructblip", "paligemma") and layer < 4  # else all text moves alike
    assert ((moved - kept).abs().max() > 100 * CLOSE * kept.std()) == behind
    assert hooks_on(vlm.decoder) == 0


def rotated(module, key, cos, sin):
    """A key `[head, channel]` turned as its family does: halves, pairs, a part of it, or not."""
    if "Cohere" in type(module).__name__ and module.sliding_window is None:
        return key  # a layer without positions
    key, rest = key[:, : len(cos)], key[:, len(cos) :]
    halves = torch.cat([-key[:, len(cos) // 2 :], key[:, : len(cos) // 2]], -1)
    pairs = torch.stack([-key[:, 1::2], key[:, ::2]], -1).flatten(1)
    other = pairs if type(module).__name__.startswith(PAIRS) else halves
    return torch.cat([key * cos + other * sin, rest], -1)


def by_hand(vlm, inputs, means, layer):
    """Oracle: logits after each prompt, every attention computed here from keys put in place."""
    turned, image = {}, inputs.spans.image

    def note(number, args, kwargs):
        turned[number] = kwargs["position_embeddings"]
        return args, kwargs

    def attention(number, query, keys, values, mask, scaling):
        module, (_, heads, count, width) = vlm.decoder.layers[number].self_attn, query.shape
        shape = (keys.shape[1], width)
        key, value = means.keys[number].view(shape), means.values[number].view(shape)
        key = module.k_norm(key) if hasattr(module, "k_norm") else key
        value = module.v_norm(value) if hasattr(module, "v_norm") else value
        keys, values = keys.clone(), values.clone()
        for row, at in image.nonzero().tolist() if number >= layer else ():
            angles = (one[row % len(one), at] for one in turned[number])
            keys[row, :, at], values[row, :, at] = rotated(module, key, *angles), value
        groups = heads // shape[0]
        scores = query @ keys.repeat_interleave(groups, 1).mT * scaling
        if mask is None:
            mask = torch.ones(count, count, dtype=torch.bool).tril()[None, None]
        shares = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        return shares @ values.repeat_interleave(groups, 1)

    modules = dict(enumerate(vlm.decoder.layers))
    with edit(modules, note, at="input"), attend(vlm.decoder, attention), torch.no_grad():
        return vlm.forward(inputs)[:, -1]


@every_family
def test_an_average_image_is_what_its_keys_and_values_say(model_of, three, name):
    vlm = model_of(name)
    inputs = vlm.prepare(three)
    means = image_means(vlm, make_sample(noise_picture(80, 70, seed=5)))
    full = vlm.forward(inputs)[:, -1]
    for layer in (0, START):
        found = inside(vlm, inputs, layer=layer, how="mean", means=means)
        wanted = by_hand(vlm, inputs, means, layer)
        assert (found - wanted).abs().max() <= CLOSE * wanted.std()
        assert (found - full)[[0, 2]].abs().max() > 100 * CLOSE * full.std()
        assert (found - full)[1].abs().max() <= CLOSE * full.std()  # it has no picture
    assert hooks_on(vlm.decoder) == 0


@every_family
@torch.no_grad()
def test_means_are_those_of_a_loop_over_pictures_and_tokens(model_of, three, name):
    vlm, keys, values = model_of(name), [], []
    for sample in three:
        inputs = vlm.prepare(sample)
        with trace(vlm.site("input_norm")) as seen:
            vlm.forward(inputs)
        for at in inputs.spans.image[0].nonzero().flatten().tolist():
            states = [seen[layer][0, at] for layer in range(vlm.n_layers)]
            modules = [layer.self_attn for layer in vlm.decoder.layers]
            pairs = [*zip(modules, states, strict=True)]
            keys.append(torch.stack([one.k_proj(state) for one, state in pairs]))
            values.append(torch.stack([one.v_proj(state) for one, state in pairs]))
    means = image_means(vlm, three, batch_size=2)
    for found, every in ((means.keys, keys), (means.values, values)):
        wanted = torch.stack(every).double().mean(0).float()
        assert (found - wanted).abs().max() <= 1e-5 * wanted.std()  # other batches round otherwise


@pytest.mark.parametrize("name", ["llava", "internvl", "smolvlm"])
@pytest.mark.parametrize("how", ["drop", "mean"])
@torch.no_grad()
def test_free_answers_are_those_of_a_loop_without_a_cache(model_of, three, name, how):
    vlm = model_of(name)
    means = image_means(vlm, make_sample(noise_picture(80, 70, seed=5))) if how == "mean" else None
    inputs = vlm.encode(vlm.prepare(three))
    options = {"layer": 1, "how": how, "means": means, "renumber": how == "drop"}
    with truncate(vlm, inputs, **options):
        said = vlm.answer(inputs)
    for row in (0, 2):
        alone, ids = vlm.encode(vlm.prepare(three[row])), said.ids[row]
        for count in range(len(ids)):
            with truncate(vlm, alone, **options):
                whole = alone.followed_by(replace(said, ids=(ids[:count],), texts=("",)))
                logits = vlm.forward(whole)[0, -1]
            logits[vlm.image_token_id] = -torch.inf
            if int(logits.argmax()) in vlm.processor.tokenizer.all_special_ids:
                break  # it is said, but is no part of what is read from an answer
            assert logits.argmax() == ids[count]
        assert count, "nothing but a special token was said"


def test_kept_tokens_stay_and_move_up(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    ranking = [list(range(int(n))) for n in inputs.spans.image.sum(1)]
    all_kept = {"keep": len(ranking[0]), "ranking": ranking, "layer": 0}
    full = tiny_llava.forward(inputs)[:, -1]
    means = image_means(tiny_llava, samples)
    assert torch.equal(inside(tiny_llava, inputs, how="mean", means=means, **all_kept), full)
    moved = inside(tiny_llava, inputs, how="drop", renumber=True, **all_kept)
    assert (moved - full).abs().max() <= CLOSE * full.std()
    few = {"keep": 3, "ranking": ranking, "layer": 1}
    masked = inside(tiny_llava, inputs, **few)
    for options in ({"how": "mean", "means": means}, {"how": "drop", "renumber": True}):
        assert (inside(tiny_llava, inputs, **few, **options) - masked).abs().max() > 1e-3
    assert torch.equal(inside(tiny_llava, inputs, **few, how="drop"), masked)


@pytest.mark.parametrize("name", [*SEVERAL, *WINDOWS])
def test_positions_that_are_no_count_are_not_renumbered(model_of, sample, name):
    vlm = model_of(name)
    inputs, reason = vlm.prepare(sample), "window" if name in WINDOWS else "three positions"
    with pytest.raises(ValueError, match=f"(?s){reason}.*leave renumber out"):
        inside(vlm, inputs, layer=0, how="drop", renumber=True)
    assert hooks_on(vlm.decoder) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"how": "delete"}, "no such way; use one of mask, drop, mean"),
        ({"renumber": True}, "nothing is removed"),
        ({"how": "mean"}, "no means"),
        ({"how": "drop", "means": "mine"}, "only how='mean' takes"),
        (
            {"how": "mean", "means": Means(*torch.zeros(2, 2, 4), "?")},
            "means of shape",
        ),
        ({"how": "drop", "renumber": True, "layer": 9}, "asked to hide the image from layer 9"),
        ({"how": "drop", "renumber": True, "offset": 2}, "offset"),
    ],
)
def test_what_is_no_way_is_refused_before_anything_runs(tiny_llava, sample, options, words):
    with pytest.raises(ValueError, match=words):
        inside(tiny_llava, tiny_llava.prepare(sample), **{"layer": 0, **options})
    assert hooks_on(tiny_llava.decoder) == 0


def test_other_inputs_are_refused_in_every_way(tiny_llava, samples):
    mine, others = (tiny_llava.prepare(sample) for sample in samples)
    means = image_means(tiny_llava, samples)
    for options in ({"how": "mean", "means": means}, {"how": "drop", "renumber": True}):
        with (
            truncate(tiny_llava, mine, layer=0, **options),
            pytest.raises(ValueError, match="inside the block use the inputs it was given"),
        ):
            tiny_llava.forward(others)


def test_a_sweep_in_another_way_is_one_block_a_layer(tiny_llava, samples, tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    means = image_means(tiny_llava, samples[0])
    for name, way in {
        "drop": {"how": "drop"},
        "drop, renumbered": {"how": "drop", "renumber": True},
        "mean": {"how": "mean", "means": means},
    }.items():
        table = sweep(tiny_llava, samples, logprob=True, progress=False, **way)
        assert set(table["how"]) == {name}
        inputs = tiny_llava.encode(tiny_llava.prepare(samples))
        for layer, rows in table.groupby("layer"):
            with truncate(tiny_llava, inputs, layer=layer, **way):
                assert rows["answer"].tolist() == [*tiny_llava.answer(inputs).texts]
        again = sweep(tiny_llava, samples, logprob=True, progress=False, **way)
        assert again.equals(table)
    assert len([*(tmp_path / "answers").iterdir()]) == 3  # each way has a place of its own
    mean = Way(how="mean", means=means).setting
    assert mean != Way(how="mean", means=image_means(tiny_llava, samples[1])).setting
    with pytest.raises(ValueError, match="an edge is always masked"):
        sweep(tiny_llava, samples, edge="image>answer", how="drop", progress=False)


def test_masked_sweeps_are_what_they_were(tiny_llava, samples):
    table = sweep(tiny_llava, samples, layers=[1], store=False, progress=False)
    assert "how" not in table
    dropped = sweep(tiny_llava, samples, layers=[1], how="drop", store=False, progress=False)
    assert dropped["answer"].tolist() == table["answer"].tolist()
    assert dropped["kl"].to_numpy() == pytest.approx(table["kl"].to_numpy(), abs=1e-6)


def test_the_means_of_another_model_of_the_same_shape_are_refused(tiny_llava, sample):
    means = image_means(tiny_llava, sample)
    other = replace(tiny_llava, model=copy.deepcopy(tiny_llava.model))
    inputs = other.prepare(sample)
    inside(other, inputs, layer=0, how="mean", means=means)
    other.decoder.layers[-1].self_attn.v_proj.weight.data *= 2
    with pytest.raises(ValueError, match="with other weights"):
        inside(other, inputs, layer=0, how="mean", means=means)


def test_a_batch_of_means_holds_at_least_one(tiny_llava, sample):
    with pytest.raises(ValueError, match="batch_size"):
        image_means(tiny_llava, sample, batch_size=-1)


def test_means_need_pictures(tiny_llava, text_sample):
    with pytest.raises(ValueError, match="no sample with a picture"):
        image_means(tiny_llava, [text_sample])
