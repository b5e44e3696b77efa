"""Rows of one's own: what every kind of table gives, and what is refused, cell by cell."""

import json
import math

import pandas as pd
import pytest
from conftest import noise_picture

from irlib import load_task
from irlib.scores import score
from irlib.tasks.wording import LETTER, SHORT

ROWS = [
    {"image": "a.png", "question": "What does the sign say?", "answer": "01"},
    {"image": "b.png", "question": "Is there a dog?", "answer": "None"},
    {"image": "a.png", "question": "Which, of both?", "answer": "yes"},
]


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("a.png", "b.png")):
        noise_picture(30, 20, seed=seed).save(tmp_path / name)
    return tmp_path


def table(folder, rows=ROWS, name="my.csv", **how):
    path = folder / name
    frame = pd.DataFrame(rows)
    if name.endswith("csv"):
        frame.to_csv(path, index=False, **how)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith("json"):
        path.write_text(json.dumps(rows))
    else:
        frame.to_parquet(path)
    return path


def faults(path, **how) -> list[str]:
    with pytest.raises(ValueError, match="cannot be asked or scored") as told:
        load_task(path, **how)
    return [line.strip() for line in str(told.value).splitlines()[1:-1]]


@pytest.mark.parametrize("name", ["my.csv", "my.jsonl", "my.json", "my.parquet"])
def test_every_kind_of_file_gives_the_same_samples(folder, name):
    samples = load_task(str(table(folder, name=name)))
    assert [s.reference["answers"] for s in samples] == [("01",), ("None",), ("yes",)]
    assert [s.image.name for s in samples] == ["a.png", "b.png", "a.png"]
    assert [s.key for s in samples] == ["00001", "00002", "00003"]
    assert samples[0].prompt == f"{ROWS[0]['question']}\n{SHORT}"
    assert samples[0].task == "own"


@pytest.mark.parametrize("how", [{"sep": ";"}, {"sep": "\t"}, {"encoding": "utf-8-sig"}])
def test_dividers_and_marks_of_spreadsheets_are_read(folder, how):
    wanted = [vars(sample) for sample in load_task(table(folder))]
    found = [vars(sample) for sample in load_task(table(folder, **how))]
    assert found == wanted


def test_pictures_inside_a_parquet_are_read(folder):
    rows = [row | {"image": {"bytes": (folder / row["image"]).read_bytes(), "path": row["image"]}}
            for row in ROWS]  # fmt: skip
    (folder / "only").mkdir()
    samples = load_task(table(folder / "only", rows, "my.parquet"))
    assert [s.image.size for s in samples] == [(30, 20)] * 3
    assert samples[0].image == samples[2].image != samples[1].image


def test_a_dataset_is_taken_in_its_order(folder):
    import datasets

    made = datasets.Dataset.from_list(ROWS).select([2, 0])
    pictured = made.map(lambda row: {"image": str(folder / row["image"])})
    pictured = pictured.cast_column("image", datasets.Image())
    samples = load_task(pictured)
    assert [s.question for s in samples] == [ROWS[2]["question"], ROWS[0]["question"]]
    both = datasets.DatasetDict({"train": pictured, "test": pictured})
    assert len(load_task(both, split="test")) == 2
    with pytest.raises(ValueError, match="found train, test; name one of them with split="):
        load_task(both)
    with pytest.raises(ValueError, match="which streams"):
        load_task(pictured.to_iterable_dataset())


def test_a_folder_of_pictures_with_metadata_is_described(folder):
    rows = [{"file_name": name, "text": "noise"} for name in ("a.png", "b.png")]
    table(folder, rows, "metadata.csv")
    samples = load_task(folder, question="Describe this picture.")
    assert [s.image.name for s in samples] == ["a.png", "b.png"]
    assert {s.prompt for s in samples} == {"Describe this picture."}
    assert {s.max_new_tokens for s in samples} == {128}
    assert samples[0].reference == {}
    with pytest.raises(ValueError, match=r"none for question; name it so.*question="):
        load_task(folder)


def test_columns_are_known_whatever_their_case(folder):
    rows = [{"Image": r["image"], "QUESTION": r["question"], "Answer": r["answer"]} for r in ROWS]
    found = load_task(table(folder, rows))
    assert [vars(sample) for sample in found] == [vars(s) for s in load_task(table(folder))]


def test_a_name_that_is_empty_is_no_folder(folder, monkeypatch):
    table(folder, [{"file_name": "a.png"}], "metadata.csv")
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match="it knows pope"):
        load_task("", question="What?")


def test_columns_of_other_names_are_named(folder):
    rows = [{"photo": r["image"], "ask": r["question"], "gold": r["answer"]} for r in ROWS]
    path = table(folder, rows)
    columns = {"image": "photo", "question": "ask", "answer": "gold"}
    assert [s.reference["answers"] for s in load_task(path, columns=columns)] == [
        (row["answer"],) for row in ROWS
    ]
    with pytest.raises(ValueError, match="none for image and question; name it so"):
        load_task(path)
    with pytest.raises(ValueError, match="but no 'foto'; correct columns="):
        load_task(path, columns=columns | {"image": "foto"})
    with pytest.raises(ValueError, match="found no meaning 'picture'"):
        load_task(path, columns={"picture": "photo"})


@pytest.mark.parametrize(
    "cell", ['["stop", "halt"]', "['stop', 'halt']", "stop|halt"], ids=["json", "python", "bar"]
)
def test_several_answers_stand_in_one_cell(folder, cell):
    (sample,) = load_task(table(folder, [{"image": "a.png", "question": "?", "answers": cell}]))
    assert sample.reference == {"answers": ("stop", "halt")}
    for said, right in (("Halt.", 1), ("stop", 1), ("go", 0), ("", 0)):
        assert score(sample, said)["score"] == right


OPTIONS = {"image": "a.png", "question": "Which?", "A": "an owl", "B": "a cat", "C": ""}


@pytest.mark.parametrize("answer", ["B", "b", "a cat", "Cat"])
def test_options_in_lettered_columns_are_answered_by_letter_or_text(folder, answer):
    (sample,) = load_task(table(folder, [OPTIONS | {"answer": answer}]))
    assert sample.reference == {"choices": ("an owl", "a cat"), "answer": 1}
    assert sample.prompt == f"Which?\nA. an owl\nB. a cat\n{LETTER}"
    said = ["B", "b.", "(B)", "B. a cat", "The answer is B.", "a cat"]
    assert [score(sample, text)["score"] for text in said] == [1] * len(said)
    said = ["A", "C", "Banana", "A or B", "an owl", ""]
    assert [score(sample, text)["score"] for text in said] == [0] * len(said)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (OPTIONS | {"answer": "D"}, "column 'answer': is 'D', no letter from A to B"),
        (OPTIONS | {"answer": "1"}, "column 'answer': is '1', no letter from A to B"),
        (OPTIONS | {"answer": ""}, "column 'answer': is empty"),
        (OPTIONS | {"answer": "B", "B": "a", "A": "b"}, "which may be the options A and B"),
        (OPTIONS | {"answer": "B", "B": ""}, "has 1 options; give 2 to 26"),
        (OPTIONS | {"answer": "A", "B": "", "C": "x"}, "has an option that is empty"),
    ],
)
def test_options_that_leave_a_doubt_are_refused(folder, row, message):
    (fault,) = faults(table(folder, [row]))
    assert message in fault


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty; write a text"),
        (None, "is empty; write a text"),
        (math.nan, "is empty; write a text"),
        (True, "is the value True; write the text that counts, yes or true"),
        (1.0, "is the float 1.0, which may have been 1"),
        (["a", 2.0], "is the float 2.0"),
        ([], "is an empty list"),
        ({"a": 1}, "a dict; write a text"),
        ("['a' 'b']", "in brackets and no list"),
    ],
)
def test_answers_that_are_none_are_refused_with_row_and_column(folder, value, message):
    rows = [ROWS[0], ROWS[1] | {"answer": value}]
    (fault,) = faults(table(folder, rows, "my.jsonl"))
    assert fault.startswith("row 2, column 'answer': ")
    assert message in fault


def test_all_faults_of_a_table_are_told_at_once(folder):
    rows = [dict(ROWS[i % 3]) for i in range(20)]
    rows[3]["answer"] = ""
    rows[11] |= {"image": "gone.png", "question": " "}
    path = table(folder, rows)
    found = faults(path)
    assert [fault.partition(": ")[0] for fault in found] == [
        "row 4, column 'answer'", "row 12, column 'image'", "row 12, column 'question'",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=rf"from {path}; 2 of 20 cannot be asked"):
        load_task(path)


def test_pictures_that_are_none_or_lead_out_of_the_folder_are_refused(folder):
    inside = folder / "in"
    inside.mkdir()
    (inside / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (inside / "b.png").write_bytes(b"no picture")
    noise_picture(30, 20, seed=0).save(inside / "c.png")
    names = [
        "a.svg",
        "b.png",
        "../a.png",
        str(folder / "a.png"),
        "https://x.org/a.png",
        "",
        "c.png",
    ]
    rows = [{"image": name, "question": "What?", "answer": "a"} for name in names]
    path = table(inside, rows)
    found = faults(path)
    assert [fault.partition(",")[0] for fault in found] == [f"row {i}" for i in range(1, 7)]
    for fault, said in zip(
        found,
        ["WEBP", "WEBP", "leads out of", "leads out of", "in none of", "is empty"],
        strict=True,
    ):
        assert said in fault
    assert len(load_task(table(inside, rows[2:4]), images=folder)) == 2


def test_equal_keys_are_told_and_may_be_left_out(folder):
    rows = [row | {"id": "7"} for row in ROWS]
    found = faults(table(folder, rows))
    assert [fault.partition(";")[0] for fault in found] == [
        f"row {i}, column 'id': '7' is the name of row 1 too" for i in (2, 3)
    ]
    assert len(load_task(table(folder, rows), columns={"key": None})) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "my.csv",
            b"image,question,answer\na.png,What?,a,b\n",
            "Expected 3 fields in line 2, saw 4",
        ),
        ("my.csv", b"image,question,answer,answer\na.png,What?,a,b\n", "columns named 'answer'"),
        ("my.csv", "image,question\na.png,Größe?\n".encode("latin-1"), "in UTF-8"),
        ("my.csv", b"image,question,answer\n", "there are none"),
        ("my.csv", b"", "does not read as csv"),
        ("my.jsonl", b'{"image": "a.png"}\n{"image"\n', "line 2 is no JSON"),
        ("my.jsonl", b"[1]\n", "row 1 is no object with columns"),
        ("my.json", b"{", "does not read as json"),
        ("my.parquet", b"PAR1", "does not read as parquet"),
    ],
)
def test_files_that_are_no_table_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_task(folder / name)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file or folder; give one that"):
        load_task(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"it knows pope, .* or a table of your own"):
        load_task("vqa")
    with pytest.raises(ValueError, match="only textvqa has OCR"):
        load_task("gone.csv", ocr=True)
    with pytest.raises(ValueError, match="with columns or a question of your own"):
        load_task("pope", question="What?")


def test_boxes_are_read_and_checked(folder):
    told = [
        [{"label": "cat", "x0": 1, "y0": 2, "x1": 3, "y1": 4}], [[1, 2, 3.5, 4]],
        [[3, 2, 1, 4]], [["a", 1, 2, 3]], "1,2,3,4",
    ]  # fmt: skip
    rows = [ROWS[0] | {"boxes": boxes} for boxes in told]
    found = faults(table(folder, rows, "my.jsonl"))
    assert [fault.partition(":")[0] for fault in found] == [
        f"row {i}, column 'boxes'" for i in (3, 4, 5)
    ]
    samples = load_task(table(folder, rows[:2], "my.jsonl"))
    assert [(s.boxes[0].label, s.boxes[0].x1) for s in samples] == [("cat", 3.0), ("", 3.5)]


def test_n_part_and_seed_pick_as_in_the_tasks(folder):
    path = table(folder, [ROWS[0]] * 10)
    assert len(load_task(path, n=4, seed=1)) == 4
    found, judged = ({s.key for s in _or_none(path, part)} for part in ("find", "judge"))
    assert sorted(map(len, (found, judged))) == [0, 10]  # of one picture, and so of one part


def _or_none(path, part):
    try:
        return load_task(path, part=part)
    except ValueError:
        return []


def test_answers_are_compared_as_evalai_does_and_leading_zeros_count(folder):
    one, none, _ = load_task(table(folder))
    said = [(one, "01", 1), (one, "1", 0), (one, "01.", 1), (none, "None", 1), (none, "", 0)]
    assert [score(sample, text)["score"] for sample, text, _ in said] == [r for *_, r in said]


def test_an_answer_of_an_article_alone_is_no_silence(folder):
    """EvalAI's form of "A" is empty: it would be equal to having said nothing."""
    (sample,) = load_task(table(folder, [ROWS[0] | {"answer": "A"}]))
    assert [score(sample, text)["score"] for text in ("A", "", "the", "B")] == [1, 0, 0, 0]
