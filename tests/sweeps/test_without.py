"""The scores without a picture and with another one, beside a sweep's."""

from dataclasses import replace

import pytest
from conftest import make_sample, noise_picture
from pandas.testing import assert_frame_equal

from irlib.evidence.units import by_unit
from irlib.scores import score
from irlib.sweeps import baselines, swapped, sweep
from irlib.tasks.pictures import identify


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def many(text_sample):
    """Rows about four pictures, two rows each, and one without."""
    shown = [noise_picture(40 + i, 50, seed=i) for i in range(4)]
    rows = [make_sample(shown[i // 2], f"Is there a cat? {i}", f"s{i}") for i in range(8)]
    return [*rows, text_sample]


def test_baselines_are_what_the_untouched_model_answers_to_other_inputs(tiny_llava, many):
    table = baselines(tiny_llava, many, progress=False)
    assert table["baseline"].tolist() == ["blank"] * 9 + ["swapped"] * 9
    asked = {"blank": [replace(one, image=None) for one in many], "swapped": swapped(many)}
    for name, rows in table.groupby("baseline"):
        said = [tiny_llava.answer(tiny_llava.prepare(one)).text for one in asked[name]]
        assert rows["answer"].tolist() == said
        assert rows["sample"].tolist() == [one.key for one in many]
        assert rows["picture"].tolist() == [identify(one.image) for one in many]  # the asked rows'
        scores = [score(one, text)["score"] for one, text in zip(many, said, strict=True)]
        assert rows["score"].tolist() == scores
    blank, other = table[table.baseline == "blank"], table[table.baseline == "swapped"]
    assert (blank["answer"].to_numpy() != other["answer"].to_numpy())[:8].any()
    assert blank["answer"].iloc[-1] == other["answer"].iloc[-1]


def test_one_question_about_many_pictures_is_a_unit_a_picture(tiny_llava, many):
    same = [replace(one, question=many[0].question, prompt=many[0].prompt) for one in many[:8:2]]
    table = baselines(tiny_llava, same, progress=False)
    full = sweep(tiny_llava, same, layers=[], progress=False)
    for _, rows in table.groupby("baseline"):
        assert rows["asked"].tolist() == full["asked"].tolist()
        assert len(by_unit(rows, "score")) == 4


def test_baselines_are_kept_and_stand_beside_a_sweep(tiny_llava, many, monkeypatch):
    wanted = baselines(tiny_llava, many, progress=False, batch_size=4)
    full = sweep(tiny_llava, many, layers=[], progress=False)
    assert set(wanted.columns) - set(full.columns) == {"baseline"}
    monkeypatch.setattr("irlib.sweeps.blocks.answers_by_layer", lambda *_, **__: pytest.fail("ran"))
    assert_frame_equal(baselines(tiny_llava, many, progress=False), wanted)


def test_what_is_no_option_of_a_baseline_is_refused(tiny_llava, many):
    with pytest.raises(ValueError, match="baselines with keep, layers, found no layer"):
        baselines(tiny_llava, many, layers=[0], keep=2)


def test_another_picture_is_of_the_same_task_and_never_the_same(many):
    mixed = [replace(one, task="odd") if i in (0, 5) else one for i, one in enumerate(many)]
    turned = swapped(mixed)
    assert turned[0].image is mixed[5].image
    assert turned[5].image is mixed[0].image
    assert turned[8] == mixed[8]  # a text row
    for one, other in zip(mixed[:8], turned[:8], strict=True):
        assert identify(other.image) != identify(one.image)
        assert replace(other, image=one.image) == one


def test_a_task_with_one_picture_has_no_other(many):
    with pytest.raises(ValueError, match=r"another picture for the row 's0' of 'pope', found no o"):
        swapped(many[:2])
