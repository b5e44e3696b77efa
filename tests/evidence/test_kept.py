"""Tokens that are enough: against `truncate` with the same ranking, one by one."""

from dataclasses import replace

import numpy as np
import pytest

from irlib.evidence import heat
from irlib.evidence.kept import LAST_ROW, RANKINGS, top_tokens
from irlib.interventions.truncation import truncate
from irlib.scores.pope import says_yes
from irlib.tasks.samples import Box


@pytest.fixture
def asked(sample):
    """A POPE question with a box, which has a scorer."""
    boxes = (Box(label="cat", x0=0, y0=0, x1=20, y1=20),)
    reference = {"label": "yes"}
    return replace(sample, task="pope", boxes=boxes, reference=reference, max_new_tokens=2)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "instructblip", "paligemma"])
def test_every_cell_is_what_truncate_answers_with_that_ranking(name, family, asked):
    vlm = family(name)
    table = top_tokens(vlm, asked, layers=[1, 3], counts=[1, 3])
    inputs = vlm.encode(vlm.prepare(asked))
    answer = vlm.answer(inputs)
    maps = heat.heats(vlm, inputs, answer, [one for one in RANKINGS if one != LAST_ROW])
    for row in table.itertuples():
        own = row.ranking in maps
        options = {"ranking": [heat.over_layers(maps[row.ranking])]} if own else {}
        if row.ranking == "none":
            assert row.kept == 0
        if row.ranking == "untouched":
            assert row.kept == int(inputs.spans.image.sum())
            assert row.layer == vlm.n_layers
        with truncate(vlm, inputs, layer=row.layer, keep=row.kept, **options):
            assert vlm.answer(inputs).text == row.answer, row
    wanted = [one for one in RANKINGS if one in maps and np.ptp(heat.over_layers(maps[one]))]
    assert set(table["ranking"]) == {"untouched", "none", LAST_ROW, *wanted}
    assert len(table) == 1 + 2 + 2 * 2 * (1 + len(wanted))


def test_scores_are_those_of_the_tasks_own_scorer(tiny_llava, asked):
    two = [replace(asked, key=label, reference={"label": label}) for label in ("yes", "no")]
    table = top_tokens(tiny_llava, two, ["random"], layers=[0], counts=[1])
    for row in table.itertuples():
        assert row.score == float(says_yes(row.answer) == (row.sample == "yes"))
    assert set(table["score"]) == {0.0, 1.0}


def test_what_cannot_be_kept_is_refused(tiny_llava, asked):
    for wrong, told in [
        ({"layers": [0]}, "no layer before it; begin at layer 1"),
        ({"layers": []}, "at least one whole number"),
        ({"layers": [4]}, r"layers\[0\]=4"),
        ({"counts": [17]}, r"keep \[17\] image tokens, found 16"),
        ({"counts": [0]}, r"counts\[0\]=0"),
        ({"rankings": ["heat"]}, r"\['heat'\]; known are"),
        ({"rankings": []}, "of no name"),
    ]:
        with pytest.raises(ValueError, match=told):
            top_tokens(tiny_llava, asked, **{"rankings": [LAST_ROW], "layers": [1]} | wrong)
    with pytest.raises(ValueError, match="without a picture"):
        top_tokens(tiny_llava, replace(asked, image=None), layers=[1])
