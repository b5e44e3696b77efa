"""Pictures as units: naive loops as the oracle, and tables that are none."""

import numpy as np
import pandas as pd
import pytest

from irlib.evidence.units import by_unit, distinct, units


def rows(**columns):
    """Six answers: a picture with three questions, one of them asked twice, one, and two alone."""
    told = {
        "model": "m", "task": "pope", "keep": 0, "layer": 3,
        "sample": ["1", "2", "3", "4", "5", "6"],
        "picture": ["p", "p", "p", "q", "", ""],
        "asked": ["pa", "pb", "pa", "qa", "-a", "-b"],
        "score": [1.0, 0.0, 1.0, 0.5, 0.0, 1.0],
    }  # fmt: skip
    return pd.DataFrame(told | columns)


def test_a_picture_is_one_unit_and_a_sample_without_one_its_own():
    assert units(rows()).nunique() == 4
    assert units(rows(picture="p")).nunique() == 1
    assert units(rows(picture="")).nunique() == 6
    # a picture named as a sample is, is another unit
    assert units(rows(picture=["5", "", "", "", "", ""], sample=list("123456"))).nunique() == 6


def test_a_picture_missing_in_a_csv_is_none():
    assert units(rows(picture=[None, np.nan, "", "p", "p", "p"])).nunique() == 4


def test_a_question_asked_twice_counts_once():
    assert distinct(rows())["sample"].tolist() == ["1", "2", "4", "5", "6"]
    assert by_unit(rows(), "score")["picture p"] == 0.5  # of two, not two thirds of three
    assert by_unit(rows(), "score", how="sum")["picture p"] == 1.0
    assert len(distinct(rows().drop(columns="asked"))) == 6  # told by the sample's key alone


def test_rows_that_do_not_tell_what_was_asked_stand_for_themselves():
    found = distinct(rows(asked=["pa", None, "pa", np.nan, "", ""]))
    assert found["sample"].tolist() == ["1", "2", "4", "5", "6"]


def test_the_same_row_twice_counts_once():
    twice = pd.concat([rows(), rows().iloc[:2]])
    pd.testing.assert_frame_equal(distinct(twice), distinct(rows()))


def test_references_that_disagree_about_one_answer_are_averaged():
    found = distinct(rows(score=[1.0, 0.0, 0.0, 0.5, 0.0, 1.0]))
    assert found["score"].tolist() == [0.5, 0.0, 0.5, 0.0, 1.0]


def test_layers_are_held_apart():
    both = pd.concat([rows(), rows(layer=4, score=0.25)])
    found = distinct(both)
    assert found.groupby("layer")["sample"].count().tolist() == [5, 5]
    mean = by_unit(both, "score", over=["layer"])
    assert mean["picture p"] == np.mean([1.0, 0.0, 0.25, 0.25])


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_numbers_by_unit_are_those_of_a_loop(how):
    rng = np.random.default_rng(0)
    pictures = rng.choice(["", "a", "b", "c", "d"], 60)
    table = pd.DataFrame({
        "picture": pictures, "sample": [f"s{i}" for i in range(60)],
        "asked": [f"{p or i} {rng.integers(6)}" for i, p in enumerate(pictures)],
        "x": np.where(rng.random(60) < 0.2, np.nan, rng.random(60)),
    })  # fmt: skip
    table["x"] = table.groupby("asked")["x"].transform("first")  # one question, one answer
    wanted = {}
    for name in {f"picture {p}" if p else f"sample s{i}" for i, p in enumerate(pictures)}:
        kind, key = name.split(" ")
        mine, seen = [], set()
        for _, row in table.iterrows():
            known = row["picture"] == key if kind == "picture" else row["sample"] == key
            if known and row["asked"] not in seen:
                seen.add(row["asked"])
                mine.append(row["x"])
        real = [x for x in mine if x == x]
        wanted[name] = getattr(np, how)(real) if real else np.nan
    found = by_unit(table, "x", how=how)
    assert set(found.index) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("name", ["model", "task", "keep", "layer"])
def test_a_mixed_table_is_refused(name):
    other = {"model": "m2", "task": "chair", "keep": 5, "layer": 4}
    mixed = pd.concat([rows(), rows(**{name: other[name]})])
    with pytest.raises(ValueError, match=rf"of one {name}, found 2 in the table"):
        by_unit(mixed, "score")
    assert len(by_unit(mixed, "score", over=[name])) == 4


def test_what_has_no_units_is_refused():
    with pytest.raises(ValueError, match="found no picture; give sweep's table"):
        units(rows().drop(columns="picture"))
    with pytest.raises(ValueError, match="found no numbers of that name; name one of"):
        by_unit(rows(), "picture")
    with pytest.raises(ValueError, match="found no numbers of that name"):
        by_unit(rows(), "nothing")
    with pytest.raises(ValueError, match="'median' of each unit"):
        by_unit(rows(), "score", how="median")
    with pytest.raises(ValueError, match="no rows in it"):
        by_unit(rows().iloc[:0], "score")
    with pytest.raises(ValueError, match="6 samples with two different rows, such as '1'"):
        distinct(pd.concat([rows(), rows(score=0.75)]))
