"""Rows of one's own that ask about several pictures: in one cell, or in columns of their own."""

import json

import datasets
import pandas as pd
import pytest
from conftest import noise_picture

from irlib import load_task
from irlib.tasks.pictures import identify

ROWS = [
    {"image": ["a.png", "b.png"], "question": "Which is red?", "answer": "left"},
    {"image": "b.png", "question": "What is it?", "answer": "cat"},
    {"image": ["b.png", "a.png", "a.png"], "question": "How many?", "answer": "3"},
]


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("a.png", "b.png")):
        noise_picture(30, 20, seed=seed).save(tmp_path / name)
    return tmp_path


def lay(folder, rows=ROWS):
    path = folder / "my.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def names(sample) -> list[str]:
    return [image.name for image in sample.images]


def test_a_list_in_a_cell_is_several_pictures(folder):
    samples = load_task(lay(folder))
    assert list(map(names, samples)) == [["a.png", "b.png"], ["b.png"], ["b.png", "a.png", "a.png"]]
    assert isinstance(samples[0].image, tuple)


@pytest.mark.parametrize("divided", [";", ","])
def test_columns_are_several_pictures(folder, divided):
    rows = pd.DataFrame([{"left": "a.png", "right": "b.png", "question": "Which is red?"}] * 2)
    rows.to_csv(folder / "my.csv", index=False, sep=divided)
    samples = load_task(folder / "my.csv", columns={"image": ["left", "right"]})
    assert list(map(names, samples)) == [["a.png", "b.png"]] * 2


def test_lists_of_embedded_pictures_are_several(folder):
    features = datasets.Features({
        "images": datasets.List(datasets.Image()), "question": datasets.Value("string"),
    })  # fmt: skip
    rows = {"images": [[str(folder / "a.png"), str(folder / "b.png")], [str(folder / "b.png")]],
            "question": ["Which?", "What?"]}  # fmt: skip
    table = datasets.Dataset.from_dict(rows, features=features)
    samples = load_task(table)
    assert [len(sample.images) for sample in samples] == [2, 1]
    assert identify(samples[1].image) == identify(folder / "b.png")


def test_one_question_a_picture_counts_the_pictures_of_a_row_together(folder):
    rows = [ROWS[0], ROWS[1], ROWS[0] | {"question": "Which is blue?"}, ROWS[1]]
    assert len(load_task(lay(folder, rows), per_picture=1)) == 2


def test_boxes_say_on_which(folder):
    box = {"label": "cat", "x0": 0, "y0": 0, "x1": 9, "y1": 9}
    rows = [ROWS[0] | {"boxes": [box, box | {"picture": 1}]}]
    assert [one.picture for one in load_task(lay(folder, rows))[0].boxes] == [0, 1]
    with pytest.raises(ValueError, match="column 'boxes': has the box"):
        load_task(lay(folder, [ROWS[0] | {"boxes": [box | {"picture": -1}]}]))


@pytest.mark.parametrize(("cell", "told"), [
    (["a.png", ""], "is empty at picture 1; name a picture"),
    (["a.png", 7], "is a int at picture 1; name a file"),
    (["a.png", ["b.png"]], "is a list at picture 1; name a file"),
    ([], "is empty; name a picture"),
    (["a.png", "no.png"], "no.png"),
])  # fmt: skip
def test_what_is_no_picture_among_them_is_told(folder, cell, told):
    with pytest.raises(ValueError, match=rf"(?s)row 1, column 'image': .*{told}"):
        load_task(lay(folder, [ROWS[0] | {"image": cell}, ROWS[1]]))


def test_a_box_on_no_picture_and_no_columns_are_told(folder):
    box = {"x0": 0, "y0": 0, "x1": 9, "y1": 9, "picture": 5}
    with pytest.raises(ValueError, match=r"row 1, column 'boxes': has a box on picture 5, found 2"):
        load_task(lay(folder, [ROWS[0] | {"boxes": [box]}]))
    with pytest.raises(ValueError, match=r"no\.png") as told:  # and no box is said to be on none
        load_task(
            lay(folder, [ROWS[0] | {"image": ["a.png", "no.png"], "boxes": [box | {"picture": 1}]}])
        )
    assert "boxes" not in str(told.value)
    for columns in ([], ["image", None]):
        with pytest.raises(ValueError, match="for image; name each column"):
            load_task(lay(folder), columns={"image": columns})


def test_a_column_images_is_no_picture_where_file_name_is(folder):
    rows = pd.DataFrame([{"file_name": "a.png", "images": 3, "question": "Which?"}])
    rows.to_csv(folder / "metadata.csv", index=False)
    assert names(load_task(folder)[0]) == ["a.png"]


def test_several_columns_of_another_meaning_are_refused(folder):
    with pytest.raises(ValueError, match="several columns for answer; name one"):
        load_task(lay(folder), columns={"answer": ["answer", "question"]})
