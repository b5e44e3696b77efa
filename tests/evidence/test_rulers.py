"""Rulers of maps: against a naive mask, and against maps whose worth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from irlib.cam.cam import llava_cam
from irlib.evidence import rulers, swaps
from irlib.interventions.truncation import truncate
from irlib.models.loading import load
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


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "instructblip"])
def test_insertion_and_deletion_are_those_of_naive_runs(name, family_folder, boxed):
    vlm = load(str(family_folder(name)), device="cpu")
    boxed = replace(boxed, max_new_tokens=2)
    table = rulers.faithfulness(vlm, boxed, ["cam post_attention", "attention", "random"])
    inputs = vlm.prepare(boxed)
    answer = vlm.answer(inputs)
    scores = rulers.tokens_of(vlm, vlm.encode(inputs), answer, ["attention", "random"])
    for row in table[table["map"].isin(scores)].itertuples():
        best = np.argsort(-scores[row.map], kind="stable")
        top, rest = best[: row.tokens].tolist(), best[row.tokens :].tolist()
        assert row.inserted == pytest.approx(naive(vlm, inputs, answer, top), rel=1e-3)
        assert row.deleted == pytest.approx(naive(vlm, inputs, answer, rest), rel=1e-3)
    assert table["none"].iloc[0] == pytest.approx(naive(vlm, inputs, answer, []), rel=1e-3)
    every = list(range(int(inputs.spans.image.sum())))
    assert table["whole"].iloc[0] == pytest.approx(naive(vlm, inputs, answer, every), rel=1e-3)


def test_the_map_of_a_site_is_llava_cams_and_a_box_covers_what_it_covers(tiny_llava, boxed):
    inputs = tiny_llava.prepare(boxed)
    answer = tiny_llava.answer(inputs)
    made = rulers.tokens_of(
        tiny_llava, tiny_llava.encode(inputs), answer, ["cam mlp", "box", "centre", "token mlp"]
    )
    maps = llava_cam(tiny_llava, inputs, answer, site="mlp", layers=range(3))
    ours = inputs.grids[0].lay(made["cam mlp"])
    assert np.allclose(ours, maps.normalised().mean(0), atol=1e-5)  # another batch's rounding
    assert not np.allclose(made["cam mlp"], made["token mlp"])
    cells = inputs.grids[0].lay(made["box"])
    assert np.allclose(cells, inputs.grids[0].cover(maps.boxes), atol=1e-6)
    assert made["centre"].argmax() != made["centre"].argmin()


def test_no_box_no_box_ruler_and_wrong_questions_are_refused(tiny_llava, sample):
    table = rulers.faithfulness(tiny_llava, sample, ["box", "random"])
    assert set(table["map"]) == ({"box", "random"} if sample.boxes else {"random"})
    with pytest.raises(ValueError, match=r"\['heat'\]; known are"):
        rulers.faithfulness(tiny_llava, sample, ["heat"])
    with pytest.raises(ValueError, match="without a picture"):
        rulers.faithfulness(tiny_llava, replace(sample, image=None))


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
