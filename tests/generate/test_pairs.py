"""Twins differ in one thing: the pictures where it is, and the answer."""

import filecmp

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.generate import pairs
from irlib import load_task
from irlib.evidence.restoration import twins
from irlib.tasks.pictures import open_picture

KINDS = list(pairs.KINDS)


def of(kind, folder=pairs.OUT):
    return twins(load_task(folder / f"{kind}.parquet"))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_differ_where_the_one_thing_is_and_nowhere_else(kind):
    for one, other in of(kind):
        first, second = (np.asarray(open_picture(x.image)).astype(int) for x in (one, other))
        y, x = np.abs(first - second).sum(-1).nonzero()
        assert len(y)
        if kind != "chains":  # there it is two arrows between three creatures
            (box,) = one.boxes
            assert box.x0 <= x.min() and x.max() < box.x1  # noqa: PT018
            assert box.y0 <= y.min() and y.max() < box.y1  # noqa: PT018
        else:
            inside = [(b.x0 <= x) & (x < b.x1) & (b.y0 <= y) & (y < b.y1) for b in one.boxes]
            assert np.mean(np.any(inside, 0)) < 0.1  # an arrow may begin on a creature's margin


@pytest.mark.parametrize("kind", KINDS)
def test_questions_are_the_same_and_answers_begin_apart(kind):
    for one, other in of(kind):
        assert one.prompt == other.prompt
        right = [str(x.reference.get("answers", x.reference.get("answer"))) for x in (one, other)]
        assert right[0] != right[1]
        if kind == "reading":
            assert one.reference["answers"][0][0] != other.reference["answers"][0][0]


def test_the_bundle_is_what_the_generator_draws(tmp_path):
    list(pairs.write(tmp_path, rows=2))
    for kind in KINDS:
        few, whole = (pq.read_table(f / f"{kind}.parquet") for f in (tmp_path, pairs.OUT))
        assert few.to_pylist() == whole.slice(0, 4).to_pylist()
        assert len(whole) == 2 * pairs.ROWS


def test_another_seed_draws_others(tmp_path):
    list(pairs.write(tmp_path / "a", seed=1, rows=1))
    list(pairs.write(tmp_path / "b", seed=2, rows=1))
    names = [f"{kind}.parquet" for kind in KINDS]
    same, *_ = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)
    assert same == []
