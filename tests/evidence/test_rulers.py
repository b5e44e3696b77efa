"""Rulers of maps: against a naive mask, and against maps whose worth is known."""

from dataclasses import replace

import families
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from irlib.cam.cam import llava_cam
from irlib.cam.targets import logits_of
from irlib.cam.weights import image_slopes
from irlib.evidence import estimate, heat, mean_effect, rulers, swaps
from irlib.hooks.hooks import attend, edit
from irlib.interventions.truncation import truncate
from irlib.tasks.samples import Box


@pytest.fixture
def boxed(sample):
    return replace(sample, boxes=(Box(label="cat", x0=0, y0=0, x1=20, y1=20),))


def naive(vlm, inputs, answer, visible):
    """The geometric mean probability of the answer, one teacher-forced token after the other."""
    image, chances = inputs.spans.image[0], []
    ranking = torch.zeros(int(image.sum()))
    ranking[visible] = 1
    for step in range(len(answer.ids[0])):
        said = replace(answer, ids=(answer.ids[0][:step],), texts=("",), margins=())
        whole = inputs.followed_by(said)
        with truncate(vlm, inputs, layer=0, keep=len(visible), ranking=[ranking]):
            row = vlm.forward(whole)[0, -1].float().softmax(-1)
        chances.append(row[answer.ids[0][step]].item())
    return float(np.prod(chances) ** (1 / len(chances)))


def heats(vlm, inputs, answer, maps, **options):
    return heat.heats(vlm, vlm.encode(inputs), answer, maps, **options)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "instructblip"])
def test_insertion_and_deletion_are_those_of_naive_runs(name, family, boxed):
    vlm = family(name)
    boxed = replace(boxed, max_new_tokens=2)
    asked = ["attention", "random", "token mlp"]
    table = rulers.faithfulness(vlm, boxed, asked, layers=[2])
    inputs = vlm.prepare(boxed)
    answer = vlm.answer(inputs)
    found = heats(vlm, inputs, answer, asked)
    assert len(table) == 2 * (3 + 2)
    for row in table.itertuples():
        of = heat.over_layers(found[row.map]) if np.isnan(row.layer) else found[row.map][2]
        best = np.argsort(-of, kind="stable")
        top, rest = best[: row.tokens].tolist(), best[row.tokens :].tolist()
        if not np.ptp(of):  # few queries, and what speaks for the answer is none of them
            assert np.isnan(row.inserted)
            assert name == "instructblip"
            continue
        assert row.inserted == pytest.approx(naive(vlm, inputs, answer, top), rel=1e-3)
        assert row.deleted == pytest.approx(naive(vlm, inputs, answer, rest), rel=1e-3)
    assert table["none"].iloc[0] == pytest.approx(naive(vlm, inputs, answer, []), rel=1e-3)
    every = list(range(int(inputs.spans.image.sum())))
    assert table["whole"].iloc[0] == pytest.approx(naive(vlm, inputs, answer, every), rel=1e-3)


def test_a_map_shows_what_llava_cams_own_table_says_and_a_layer_is_that_layer(family, boxed):
    other = replace(boxed, key="2", boxes=(Box(label="dog", x0=20, y0=20, x1=28, y1=28),))
    for vlm in (family("llava"), family("instructblip")):
        site = "mlp" if vlm.family.bridge is None else "block"  # where its map is not zero
        table = rulers.faithfulness(vlm, [boxed, other], [f"cam {site}"], sizes=(), layers=[1, 3])
        assert table[list(rulers.EXPLAINED)].isna().all(axis=None)
        inputs = vlm.prepare(boxed)
        maps = llava_cam(vlm, inputs, vlm.answer(inputs), site=site)
        mine = table[table["sample"] == boxed.key].set_index("layer")
        theirs = maps.table().set_index("layer")[["inside", "area", "hit"]]
        assert np.allclose(mine.loc[[1.0], theirs.columns], theirs.loc[[1]], atol=1e-5)
        assert mine.loc[3.0, ["inside", "hit", "other"]].isna().all()  # the last map is zero
        assert mine["area"].notna().all()
        # one prompt asked twice: what is inside the one is inside the other's other
        yours = table[table["sample"] == "2"].set_index("layer")
        assert mine.loc[1.0, "inside"] == pytest.approx(yours.loc[1.0, "other"], rel=1e-5)
        assert mine.loc[1.0, "other"] == pytest.approx(yours.loc[1.0, "inside"], rel=1e-5)
        assert mine.loc[1.0, "inside"] != pytest.approx(mine.loc[1.0, "other"], rel=1e-3)


def test_the_map_of_a_site_is_llava_cams_and_a_box_covers_what_it_covers(tiny_llava, boxed):
    inputs = tiny_llava.prepare(boxed)
    answer = tiny_llava.answer(inputs)
    names = ["cam mlp", "box", "centre", "token mlp"]
    made = {k: heat.over_layers(v) for k, v in heats(tiny_llava, inputs, answer, names).items()}
    assert list(made) == names
    maps = llava_cam(tiny_llava, inputs, answer, site="mlp", layers=range(3))
    ours = inputs.grids[0].lay(made["cam mlp"])
    assert np.allclose(ours, maps.normalised().mean(0), atol=1e-5)  # another batch's rounding
    assert not np.allclose(made["cam mlp"], made["token mlp"])
    cells = inputs.grids[0].lay(made["box"])
    assert np.allclose(cells, inputs.grids[0].cover(maps.boxes), atol=1e-6)
    assert made["centre"].argmax() != made["centre"].argmin()


def naive_slopes(vlm, whole, at, total):
    """Oracle: softmax written out, its weights the variables; and the embeddings as variables."""
    kept = {}

    def written_out(layer, query, key, value, mask, scaling):
        each = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(each, 1), value.repeat_interleave(each, 1)
        scores = (query @ key.mT) * scaling
        if mask is None:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        hidden = ~mask if mask.dtype == torch.bool else mask < -1e30
        kept[layer] = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        if not kept[layer].requires_grad:
            kept[layer].requires_grad_()
        return kept[layer] @ value

    def variable(_, args, kwargs):
        kept["e"] = args[0].detach().requires_grad_()
        return (kept["e"], *args[1:]), kwargs

    with torch.enable_grad(), attend(vlm.decoder, written_out):
        with edit({0: vlm.decoder.layers[0]}, variable, at="input"):
            logits = vlm.forward(whole)
        z = total(0, logits[0, at[0]].float())
        slopes = dict(zip(kept, torch.autograd.grad(z, list(kept.values())), strict=True))
    image, asking = whole.spans.image[0], whole.spans.predicting[0]
    embedded = slopes.pop("e")[0, image].norm(dim=-1)
    pairs = {i: (kept[i][0], slopes[i][0]) for i in slopes}
    return embedded, [
        (a * g).clamp_min(0)[:, asking][..., image].mean((0, 1)).detach() for a, g in pairs.values()
    ]


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_gradients_of_weights_and_embeddings_are_those_of_autograd(name, family, boxed):
    vlm = family(name)
    inputs = vlm.encode(vlm.prepare(replace(boxed, max_new_tokens=2)))
    answer = vlm.answer(inputs)
    asked = ["attention x gradient", "gradient norm", "attention"]
    made = heats(vlm, inputs, answer, asked)
    whole = inputs.followed_by(answer)
    embedded, weighted = naive_slopes(vlm, whole, *logits_of(vlm, inputs, answer, whole, "answer"))
    assert np.allclose(made["gradient norm"], embedded, rtol=1e-3)
    ours = made["attention x gradient"]
    assert np.allclose(ours, np.stack(weighted), rtol=1e-2, atol=1e-4 * ours.max())
    assert ours.max() > 0
    assert ours.shape == made["attention"].shape == (vlm.n_layers, int(whole.spans.image.sum()))


def test_a_weight_that_moves_moves_the_target_by_its_slope(tiny_llava, boxed):
    """Closed form of one layer: the output is linear in its own weights."""
    inputs = tiny_llava.encode(tiny_llava.prepare(replace(boxed, max_new_tokens=1)))
    answer = tiny_llava.answer(inputs)
    whole = inputs.followed_by(answer)
    at, total = logits_of(tiny_llava, inputs, answer, whole, "answer")
    _, slope = image_slopes(tiny_llava, whole, at, total)[0][3]
    image, asking = whole.spans.image[0].nonzero().flatten(), int(at[0])
    found = []
    for step in (1e-2, -1e-2):

        def moved(layer, query, key, value, mask, scaling, step=step):
            key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
            output = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
            if layer == 3:
                output[0, 1, asking] += step * value[0, 1, image[5]]
            return output

        with torch.no_grad(), attend(tiny_llava.decoder, moved):
            found.append(total(0, tiny_llava.forward(whole)[0, at[0]].float()).item())
    assert (found[0] - found[1]) / 2e-2 == pytest.approx(slope[1, 0, 5].item(), rel=2e-2)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "instructblip"])
def test_leaving_one_out_is_a_naive_loop(name, family, boxed):
    vlm = family(name)
    inputs = vlm.prepare(replace(boxed, max_new_tokens=2))
    answer = vlm.answer(inputs)
    found = heats(vlm, inputs, answer, ["leave one out"])["leave one out"]
    every = list(range(int(inputs.spans.image.sum())))
    whole = naive(vlm, inputs, answer, every)
    wanted = [whole - naive(vlm, inputs, answer, [j for j in every if j != i]) for i in every[:6]]
    assert found[:6] == pytest.approx(np.array(wanted), abs=1e-4 * whole)
    assert np.abs(found).max() > 1e-3 * whole


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_every_map_can_be_had_of_every_family_and_none_is_costly_unasked(name, family, boxed):
    vlm = family(name)
    table = rulers.faithfulness(vlm, boxed, sizes=[0.25], layers=[0])
    lost = {"centre", "box"} if vlm.family.bridge else set()  # its queries have no place
    lost |= {
        f"{k} {site}" for k in ("cam", "token") for site in heat.SITES if site not in vlm.sites
    }
    assert set(table["map"]) == set(heat.MAPS) - lost
    assert not set(heat.COSTLY) & set(heat.MAPS)
    told = table[table["layer"].isna()]
    if vlm.family.bridge is None:  # of so few queries a map can be zero
        normed = {"token block"}  # zero before the last layer: a norm alone reads it there
        behind = ("gemma3", "gemma4", "glm4v", "glm46v")  # whose layers norm what they add
        normed |= {"token attention", "token mlp"} if name in behind else set()
        normed |= {"token input_norm"} if name == "gemma4" else set()  # so are its q, k and v
        some = told[~told["map"].isin(normed)]
        assert some[["inserted", "deleted"]].notna().all(axis=None)
    assert told[["whole", "none"]].notna().all(axis=None)
    assert set(table.loc[table["layer"] == 0, "map"]) == set(heat.LAYERED) - lost


def test_a_picture_is_one_number_however_many_questions_it_has():
    told = {
        "picture": ["p", "p", "q", "r"], "boxes": ["a", "b", "a", "a"], "map": "box",
        "layer": np.nan,
        "inside": [0.4, 0.8, 0.6, 1.0],
        "area": 0.2, "hit": [1, 0, 1, 1.0], "other": [0.1, 0.3, np.nan, 0.5], "inserted": np.nan,
        "deleted": np.nan,
    }  # fmt: skip
    table = rulers.by_map(pd.DataFrame(told)).set_index("measure")
    assert list(table.index) == ["hit", "lift", "own"]
    assert table["value"].tolist() == pytest.approx([2.5 / 3, (3 + 3 + 5) / 3, (0.4 + 0.5) / 2])
    assert table["n"].tolist() == [3, 3, 2]
    exact, mean = estimate([0.5, 1, 1], within=(0, 1)), mean_effect(pd.Series([3.0, 3, 5]))
    ends = table[["low", "high"]].to_numpy().tolist()
    assert ends[:2] == [[exact.low, exact.high], pytest.approx([mean.low, mean.high])]


def test_a_place_that_is_asked_for_twice_counts_once():
    told = {
        "picture": "p", "boxes": ["a", "a", "b"], "map": "box", "layer": np.nan,
        "inside": [0.9, 0.9, 0.2], "area": 0.2, "hit": 1.0, "other": [0.1, 0.1, 0.2],
        "inserted": np.nan, "deleted": np.nan,
    }  # fmt: skip
    table = rulers.by_map(pd.DataFrame(told)).set_index("measure")
    assert table.loc["own", "value"] == pytest.approx((0.8 + 0.0) / 2)


def test_boxes_that_lie_on_each_other_cover_no_more_than_one(tiny_llava, boxed):
    prompts = [tiny_llava.prepare(replace(boxed, boxes=boxed.boxes * times)) for times in (1, 2)]
    answer = tiny_llava.answer(prompts[0])
    one, two = (heat.heats(tiny_llava, prompt, answer, ["box"])["box"] for prompt in prompts)
    assert np.array_equal(one, two)
    assert one.max() <= 1


def test_maps_are_of_one_prompt(tiny_llava, boxed):
    prompt = tiny_llava.prepare([boxed, boxed])
    with pytest.raises(ValueError, match="one prompt, found 2 rows"):
        heat.heats(tiny_llava, prompt, tiny_llava.answer(prompt), ["box"])


def test_what_ranks_nothing_has_no_insertion(tiny_llava, boxed):
    table = rulers.faithfulness(tiny_llava, boxed, ["cam block"], layers=[3])
    last = table[table["layer"] == 3]
    assert last[["inserted", "deleted"]].isna().all(axis=None)
    assert last[["whole", "none"]].notna().all(axis=None)
    assert table.loc[table["layer"].isna(), "inserted"].notna().all()


def test_no_box_no_box_ruler_and_wrong_questions_are_refused(tiny_llava, sample):
    table = rulers.faithfulness(tiny_llava, sample, ["box", "random"])
    assert set(table["map"]) == ({"box", "random"} if sample.boxes else {"random"})
    with pytest.raises(ValueError, match=r"\['heat'\]; known are .*leave one out"):
        rulers.faithfulness(tiny_llava, sample, ["heat", "random"])
    for wrong, told in [
        ({"maps": []}, "of no name; known are"),
        ({"layers": [4]}, r"layers\[0\]=4"),
        ({"layers": 1}, "give a list of whole numbers"),
        ({"sizes": [0]}, "above 0"),
        ({"sizes": [1.5]}, "at most 1"),
    ]:
        with pytest.raises(ValueError, match=told):
            rulers.faithfulness(tiny_llava, sample, **{"maps": ["random"]} | wrong)
    with pytest.raises(ValueError, match="without a picture"):
        rulers.faithfulness(tiny_llava, replace(sample, image=None))
    with pytest.raises(ValueError, match="found no sample"):
        rulers.faithfulness(tiny_llava, [])


def test_pairs_are_of_one_picture_and_other_boxes(sample, boxed):
    other = replace(boxed, key="2", boxes=(Box(label="dog", x0=5, y0=5, x1=9, y1=9),))
    same = replace(boxed, key="3")
    ((one, two),) = swaps.pair([boxed, same, other, replace(sample, boxes=())], n=1)
    assert one.image is two.image
    assert one.boxes != two.boxes
    assert len(swaps.boxed([boxed, same, other], n=1)) == 1
    with pytest.raises(ValueError, match="found 1 among 3 samples"):
        swaps.pair([boxed, same, other], n=2)


def test_rows_without_any_box_have_no_pairs_and_all_their_questions(sample):
    bare = [replace(sample, key=key, boxes=()) for key in "ab"]
    assert swaps.pair(bare, n=3) == []
    assert len(swaps.boxed(bare, n=1)) == 1


def test_own_and_other_change_places_for_the_other_question(tiny_llava, boxed):
    other = replace(boxed, key="2", boxes=(Box(label="dog", x0=20, y0=20, x1=28, y1=28),))
    table = swaps.own_box(tiny_llava, [(boxed, other)])  # one question, asked twice: one map
    one, two = (table[table["sample"] == key].set_index("layer") for key in (boxed.key, "2"))
    assert np.allclose(one["own"], two["other"], equal_nan=True)
    assert (one["own"] - one["other"] + two["own"] - two["other"])[:3].abs().max() < 1e-6
    assert table[table["layer"] == 3]["own"].isna().all()  # the last layer's map is zero
