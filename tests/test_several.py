"""Several pictures in one prompt: every instrument by picture, against slow oracles."""

from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import hooks_on, make_sample, noise_picture, site_of
from naive import laid_through, naive_heat, naive_logits, separate
from PIL import Image

from irlib import attention_flow, knockout, llava_cam, load_task, logit_lens, patch, sweep, truncate
from irlib.evidence import faithfulness, top_tokens
from irlib.interventions.staircase import answers_by_layer, logits_by_layer
from irlib.models.families import FAMILIES
from irlib.store import provenance
from irlib.sweeps.without import baselines, swapped
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Box

LOGITS = 1e-4  # of logits of standard deviation 1.5: other masks, other orders of summation
HEAT = 1e-4  # as a part of the layer's maximum

TAKE = [name for name, (kind, _) in families.FAMILIES.items() if FAMILIES[kind].several]
takes_several = pytest.mark.parametrize("name", TAKE)
WIDE, HIGH, EVEN = (noise_picture(*size, seed=seed) for seed, size in
                    enumerate([(112, 60), (60, 90), (50, 50)]))  # fmt: skip
ASKED = "Is there a red cat in the picture?"


def samples():
    """Two pictures, none, three pictures; questions of different length."""
    return [
        make_sample((WIDE, HIGH)),
        make_sample(None, key="text"),
        make_sample((HIGH, EVEN, WIDE), ASKED, "b"),
    ]


@takes_several
def test_each_picture_has_its_own_tokens_and_its_own_grid(family, name):
    vlm = family(name)
    inputs = vlm.prepare(samples())
    parts = [inputs.picture(0), inputs.picture(1)]
    both = inputs.take([0, 1])
    image = [part.take([0, 1]).spans.image for part in parts]
    assert not (image[0] & image[1]).any()
    assert torch.equal(image[0] | image[1], both.spans.image)
    assert torch.equal(parts[0].spans.user, inputs.spans.user)
    assert torch.equal(parts[0].spans.system, inputs.spans.system)
    for part in parts:  # nothing is in two segments, nothing is lost
        masks = torch.stack(list(vars(part.spans).values())).sum(0)
        assert torch.equal(masks.bool(), inputs.text["attention_mask"].bool())
        assert masks.max() == 1
    # whose tokens these are: another picture in its place moves them, and no other's
    seen = vlm.encode(both).visual[0]["features"].tokens
    for place, mask in enumerate(image):
        changed = [EVEN.resize(one.size) if k == place else one for k, one in enumerate(
            (WIDE, HIGH))]  # fmt: skip
        other = vlm.encode(vlm.prepare(make_sample(tuple(changed)))).visual[0]["features"].tokens
        own = mask[0][both.spans.image[0]]
        moved = (seen - other).abs().amax(1)
        assert moved[own].max() > 1e-2
        assert moved[~own].max() <= 1e-5
    # what they are and where they lie: as in a prompt of its own, which test_perturbation.py tests
    if FAMILIES[families.FAMILIES[name][0]].several.__name__ == "alone":
        for part, mask, picture in zip(parts, image, (WIDE, HIGH), strict=True):
            single = vlm.encode(vlm.prepare(make_sample(picture)))
            alone = single.visual[0]["features"].tokens
            assert torch.allclose(seen[mask[0][both.spans.image[0]]], alone, atol=1e-4)
            assert np.array_equal(part.grids[0].boxes, single.grid.boxes, equal_nan=True)
            assert np.array_equal(part.grids[0].cells, single.grid.cells)
    assert parts[1].pictures[0].size == HIGH.size
    assert parts[1].pictures[1] is None


def test_onevision_sees_each_of_several_whole_and_padded(family):
    """The tokens of its whole view of the same picture, padded by hand and alone, and a newline."""
    vlm = family("llava_onevision")
    inputs, first = vlm.prepare(make_sample((WIDE, HIGH))), 0
    among = vlm.encode(inputs).visual[0]["features"].tokens
    mean = tuple(int(255 * value) for value in vlm.processor.image_processor.image_mean)
    for which, picture in enumerate((WIDE, HIGH)):
        grid, (width, height) = inputs.picture(which).grid, picture.size
        padded = Image.new("RGB", (max(picture.size),) * 2, mean)
        left, top = (padded.width - width) // 2, (padded.height - height) // 2
        padded.paste(picture, (left, top))
        single = vlm.prepare(make_sample(padded))
        alone, view = vlm.encode(single).visual[0]["features"].tokens, single.grid.views[-1]
        count = view.size
        assert torch.allclose(among[first : first + count], alone[:count], atol=1e-4)
        assert np.array_equal(grid.views[0], view)
        boxes = single.grid.boxes[:count] - [left, top, left, top]
        assert np.allclose(grid.boxes[:count], boxes)
        assert len(grid.boxes) == count + 1
        assert np.isnan(grid.boxes[-1]).all()
        first += count + 1


@takes_several
def test_truncation_by_picture_equals_a_naive_mask_and_the_engine(family, name):
    vlm = family(name)
    inputs = vlm.prepare(samples())
    moved = []
    for part in (inputs, inputs.picture(0), inputs.picture(1)):
        layers = [0, 1, 3, vlm.n_layers]
        together = logits_by_layer(vlm, part, layers=layers)
        for layer, logits in zip(layers, together, strict=True):
            naive = naive_logits(vlm, part, [layer] * len(part))
            assert (logits - naive[:, -1]).abs().max() <= LOGITS
        with truncate(vlm, part, layer=0), torch.no_grad():
            hidden = vlm.forward(part)
        real = part.text["attention_mask"].bool()
        assert (hidden - naive_logits(vlm, part, [0] * len(part)))[real].abs().max() <= LOGITS
        moved.append((together[0] - together[-1]).abs().amax(1))
        said = answers_by_layer(vlm, part, layers=[1])[1]
        with truncate(vlm, part, layer=1):
            assert vlm.answer(part).texts == said.texts
    assert all(change[[0, 2]].min() > 0.01 and change[1] <= LOGITS for change in moved)
    assert (moved[1] - moved[2]).abs()[[0, 2]].min() > 1e-3  # each says something else
    assert hooks_on(vlm.decoder) == 0


@takes_several
def test_maps_by_picture_equal_a_backward_for_each_layer(family, name):
    vlm = family(name)
    inputs = vlm.prepare(samples()[0])
    answer, site = vlm.answer(inputs), site_of(vlm)
    for which, picture in enumerate((WIDE, HIGH)):
        part = inputs.picture(which)
        grid = part.grid
        if grid.crops:
            grid = laid_through(vlm, vlm.prepare(make_sample(picture)))
        maps = llava_cam(vlm, part, answer, site=site)
        assert maps.grid.size == picture.size
        for layer in range(vlm.n_layers):
            heat = naive_heat(*separate(vlm, part, answer, layer, site=site))
            assert np.abs(maps.heat[layer] - grid.lay(heat)).max() <= HEAT * max(heat.max(), 1e-3)


@takes_several
def test_maps_by_picture_in_a_batch_equal_single_ones(family, name):
    vlm = family(name)
    rows = [samples()[0], samples()[2], make_sample(EVEN, key="one")]
    inputs = vlm.prepare(rows).picture(0)
    answer, site = vlm.answer(inputs), site_of(vlm)
    made = llava_cam(vlm, inputs, answer, site=site)
    for row, maps in enumerate(made):
        alone = vlm.prepare(rows[row]).picture(0)
        wanted = llava_cam(vlm, alone, answer.take([row]), site=site).heat
        assert np.abs(maps.heat - wanted).max() <= HEAT * wanted.max()


@takes_several
def test_shares_by_picture_add_up(family, name):
    vlm = family(name)
    inputs = vlm.prepare(samples()[0])
    answer = vlm.answer(inputs)
    parts = (inputs, inputs.picture(0), inputs.picture(1))
    whole, one, other = (
        attention_flow(vlm, part, answer).pivot(index="layer", columns="segment", values="share")
        for part in parts
    )
    assert np.allclose(one["image"] + other["image"], whole["image"], atol=1e-6)
    for segment in ("system", "user"):
        assert np.allclose(one[segment], whole[segment], atol=1e-6)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3", "internvl"])
def test_an_edge_leads_from_one_picture(family, name):
    vlm = family(name)
    part = vlm.prepare([samples()[0], samples()[2]]).picture(1)
    for edge in ("image>question", "image>answer"):
        cut = logits_by_layer(vlm, part, layers=[1, vlm.n_layers], edge=edge)
        with knockout(vlm, part, edge=edge, layers=range(1, vlm.n_layers)), torch.no_grad():
            assert (vlm.forward(part)[:, -1] - cut[0]).abs().max() <= LOGITS
        assert (cut[0] - cut[1]).abs().max() > 1e-3


def test_a_patch_puts_in_one_picture(family):
    """At layer 0 the tokens are all that there is of it: the run is that on the other pictures."""
    vlm = family("llava")
    mine, other = (vlm.prepare(make_sample((WIDE, one))) for one in (HIGH, EVEN))
    with patch(vlm, mine.picture(1), other.picture(1), segment="image", layer=0), torch.no_grad():
        patched = vlm.forward(mine)
    assert torch.allclose(patched, vlm.forward(other), atol=1e-5)
    with (
        pytest.raises(ValueError, match=r"asked for a patch of the image .* found 2 pictures"),
        patch(vlm, mine, other, segment="image", layer=0),
    ):
        pass


def test_a_sweep_hides_one_picture_or_all(family):
    vlm = family("qwen2_vl")
    rows = [samples()[0], samples()[2]]
    whole = sweep(vlm, rows, store=False, progress=False)
    assert "which" not in whole
    part = sweep(vlm, rows, picture=1, store=False, progress=False)
    inputs = vlm.prepare(rows).picture(1)
    for layer, table in part.groupby("layer"):
        with truncate(vlm, inputs, layer=layer):
            assert table["answer"].tolist() == list(vlm.answer(inputs).texts)
    assert set(part["which"]) == {1}
    assert (part["picture"] == whole["picture"]).all()
    assert not np.allclose(part["kl"], whole["kl"])
    with pytest.raises(ValueError, match=r"asked for picture 2 .* found 2 in its prompt"):
        sweep(vlm, rows, picture=2, store=False, progress=False)


def test_answers_about_other_pictures_are_kept_apart(family, monkeypatch, tmp_path):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    vlm, row = family("llava"), samples()[0]
    tables = [sweep(vlm, row, picture=which, layers=[0], progress=False) for which in (None, 0, 1)]
    again = [sweep(vlm, row, picture=which, layers=[0], progress=False) for which in (None, 0, 1)]
    assert all(one.equals(other) for one, other in zip(tables, again, strict=True))
    kl = [table["kl"].iloc[0] for table in tables]
    assert len(set(kl)) == 3


def test_boxes_are_those_on_the_picture(tiny_llava):
    boxes = [Box(label="cat", x0=0, y0=0, x1=9, y1=9, picture=k) for k in (0, 1)]
    sample = replace(make_sample((WIDE, HIGH)), boxes=tuple(boxes))
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    assert llava_cam(tiny_llava, inputs.picture(1), answer).sample.boxes == (boxes[1],)
    with pytest.raises(ValueError, match=r"asked about Box\(.*picture=1\), found 1 pictures"):
        tiny_llava.prepare(replace(sample, image=WIDE))


def test_one_in_a_list_is_that_picture_and_none_is_none():
    assert make_sample([WIDE]).image is WIDE
    assert make_sample([]).image is None
    assert identify((WIDE, HIGH)) != identify((HIGH, WIDE))


def test_pictures_and_a_question_of_ones_own(tiny_llava, tmp_path):
    WIDE.save(tmp_path / "a.png")
    inputs = tiny_llava.prepare([tmp_path / "a.png", HIGH], "What differs?")
    again = tiny_llava.prepare(image=(WIDE, HIGH), question="What differs?")
    assert torch.equal(tiny_llava.forward(inputs), tiny_llava.forward(again))
    assert [picture.size for picture in inputs.pictures[0]] == [WIDE.size, HIGH.size]
    with pytest.raises(TypeError, match="asked to prepare pictures and a question, found task"):
        tiny_llava.prepare([make_sample(WIDE)], "What differs?")


def test_what_takes_one_picture_says_which_to_choose(tiny_llava):
    inputs = tiny_llava.prepare(samples()[0])
    answer = tiny_llava.answer(inputs)
    chosen = "found 2 pictures in its prompt; say which"
    with pytest.raises(ValueError, match=chosen):
        llava_cam(tiny_llava, inputs, answer)
    with pytest.raises(ValueError, match=chosen):
        logit_lens(tiny_llava, inputs, answer, at="image")
    with pytest.raises(ValueError, match="look at picture 1 already"):
        inputs.picture(1).picture(0)
    with pytest.raises(ValueError, match=r"asked for picture 2 .* found 2 in its prompt"):
        inputs.picture(2)
    with pytest.raises((TypeError, ValueError), match="which"):
        inputs.picture(-1)
    table = logit_lens(tiny_llava, inputs.picture(1), answer, at="image", layers=[1])
    boxes = inputs.picture(1).grid.boxes
    assert set(table["x"]) == set((boxes[:, 0] + boxes[:, 2]) / 2)


def test_what_counts_one_picture_a_row_refuses_several(tiny_llava):
    sample = samples()[0]
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    with pytest.raises(ValueError, match="found several pictures in a prompt, and their code"):
        llava_cam(tiny_llava, inputs.picture(1), answer, target="authors")
    with pytest.raises(ValueError, match="found 2 pictures in its prompt"):
        top_tokens(tiny_llava, [sample], ["centre"], layers=[1])
    with pytest.raises(ValueError, match="found 2 pictures in its prompt"):
        faithfulness(tiny_llava, [sample], ["random"])
    with pytest.raises(ValueError, match="asked about 2 pictures, found None among them"):
        tiny_llava.prepare(make_sample((WIDE, None)))
    with pytest.raises(ValueError, match="baselines with picture"):
        baselines(tiny_llava, sample, picture=1)


def test_a_row_is_swapped_for_one_of_as_many_pictures():
    rows = [make_sample((WIDE, HIGH)), make_sample(EVEN, key="b"), make_sample(WIDE, key="c"),
            make_sample((HIGH, EVEN), key="d")]  # fmt: skip
    assert [len(one.images) for one in swapped(rows)] == [2, 1, 1, 2]
    with pytest.raises(ValueError, match="samples of several pictures, of as many each"):
        swapped(rows[:3])


def test_a_box_on_another_picture_is_another_row():
    box = Box(label="cat", x0=0, y0=0, x1=9, y1=9)
    pair = make_sample((WIDE, HIGH))
    one, other = (replace(pair, boxes=(replace(box, picture=k),)) for k in (0, 1))
    assert provenance.rows(one) != provenance.rows(other)


@pytest.mark.parametrize("name", sorted(set(families.FAMILIES) - set(TAKE)))
def test_a_family_that_takes_one_says_so(family, name):
    with pytest.raises(ValueError, match=r"about 2 pictures at once, found that .* takes one a pr"):
        family(name).prepare(samples()[0])


def test_bundled_rows_have_one_picture():
    assert all(len(one.images) <= 1 for one in load_task("scienceqa", n=4))
