"""Rows, folders and requests as they should not be: each is refused in words that name it."""

import errno
import json
import os

import pytest
from datasets import disable_progress_bars
from datasets.exceptions import DatasetGenerationError
from rows import ROWS, lay, pope_rows

from irlib.tasks import splits
from irlib.tasks.loading import load_task

disable_progress_bars()
SQA, TVQA, POPE, CHAIR = "scienceqa", "textvqa", "pope", "chair"


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (POPE, {"answer": "maybe"}, "answer is 'maybe'; write yes or no"),
        (POPE, {"answer": "Yes"}, "answer is 'Yes'"),
        (POPE, {"answer": 1}, "answer is 1"),
        (POPE, {"answer": None}, "answer is None"),
        (POPE, {"question": None}, "question is None; write a text"),
        (POPE, {"question": ""}, "question is ''"),
        (POPE, {"question": "  \n"}, "question is"),
        (POPE, {"question": 7}, "question is 7"),
        (TVQA, {"answers": ["stop"] * 9}, "9 answers; the score is defined for ten"),
        (TVQA, {"answers": ["stop"] * 11}, "11 answers"),
        (TVQA, {"answers": []}, "0 answers"),
        (TVQA, {"answers": "ten chars."}, "answers is 'ten chars.'; write a list of texts"),
        (TVQA, {"answers": list(range(10))}, "write a list of texts"),
        (TVQA, {"answers": None}, "answers is None"),
        (SQA, {"answer": 2}, "number 2 of 2 choices"),
        (SQA, {"answer": -1}, "number -1 of 2 choices"),
        (SQA, {"answer": "A"}, "number 'A' of 2 choices"),
        (SQA, {"answer": 0.0}, "number 0.0 of 2 choices"),
        (SQA, {"answer": None}, "number None"),
        (SQA, {"choices": ["owl"]}, "of 1 choices"),
        (SQA, {"choices": list("abcdef")}, "of 6 choices"),
        (SQA, {"choices": "owl"}, "choices is 'owl'; write a list"),
        (SQA, {"choices": None}, "choices is None"),
        (SQA, {"hint": 3}, "hint is 3; write a text"),
        (CHAIR, {"gt_object": ["unicorn"]}, "objects unicorn"),
        (CHAIR, {"gt_object": "dog"}, "objects are 'dog'; write a list"),
        (CHAIR, {"gt_object": None}, "objects is None"),
        (CHAIR, {"captions": [3]}, "captions is"),
        (POPE, {"boxes": [{"label": "dog", "left": 3}]}, "unexpected keyword argument 'left'"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(tmp_path, task, change, message):
    rows = [ROWS[task]()[0] | change]
    place = lay(tmp_path / task, task, rows)
    with pytest.raises(
        ValueError, match=f"task '{task}', row '.+' of .*cannot be asked or scored: .*{message}"
    ):
        load_task(task, source=place)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (POPE, {"category": "hard"}, "its category is 'hard'; write adversarial, popular, random"),
        (POPE, {"category": None}, "its category is None"),
        (POPE, {"question_id": None}, "named None; name rows by whole numbers or texts"),
        (POPE, {"question_id": 1.5}, "named 1.5"),
        (POPE, {"question_id": " "}, "named ' '"),
        (TVQA, {"question_id": True}, "named True"),
        (CHAIR, {"question_id": [3]}, r"named \[3\]"),
    ],
)
def test_a_row_that_cannot_be_named_is_told_by_its_number(tmp_path, task, change, message):
    place = lay(tmp_path / task, task, [ROWS[task]()[0] | change])
    with pytest.raises(ValueError, match=f"task '{task}', row number 0 of .*{message}"):
        load_task(task, source=place)


def test_two_rows_of_one_key_are_refused(tmp_path):
    place = lay(tmp_path / POPE, POPE, pope_rows(1) * 2)
    with pytest.raises(ValueError, match="two rows have the key 'random/0'"):
        load_task(POPE, source=place)


def test_only_the_rows_that_are_asked_for_must_be_whole(tmp_path):
    rows = pope_rows(6)
    rows[1] |= {"answer": "maybe"}
    place = lay(tmp_path / POPE, POPE, rows)
    assert len(load_task(POPE, source=place, kind="random")) == 3
    with pytest.raises(ValueError, match="'popular/0'"):
        load_task(POPE, source=place)


@pytest.mark.parametrize(
    ("task", "column"),
    [
        *((POPE, name) for name in ("question_id", "question", "answer", "category", "image")),
        *((TVQA, name) for name in ("question_id", "answers")),
        *((SQA, name) for name in ("choices", "hint")),
        (CHAIR, "gt_object"),
    ],
)
def test_a_column_that_is_missing_is_named(tmp_path, task, column):
    place = lay(tmp_path / task, task, drop=column)
    with pytest.raises(ValueError, match=f"has columns .* but no {column}.*; name them as the hub"):
        load_task(task, source=place)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "adversarial"}, "of kind 'adversarial'; .* has popular, random; take one"),
        ({"kind": ""}, "of kind ''; .* has popular, random"),
        ({"n": 7}, "asked for 7 rows .* has 6 such rows; ask for 1 to 6"),
        ({"n": 0}, "ask for 1 to 6"),
        ({"n": -1}, "ask for 1 to 6"),
        ({"n": "3"}, "asked for '3' rows"),
        ({"n": 2.5}, "asked for 2.5 rows"),
        (
            {"max_new_tokens": 0},
            "max_new_tokens=0, found it out of range",
        ),
        ({"n": 4, "kind": "random"}, "ask for 1 to 3"),
        ({"keys": ["random/0", "random/9"]}, "has no random/9; its names are like 'popular/0'"),
        ({"keys": []}, "by name, and for none; name at least one"),
        ({"config": "Full"}, "asked for config 'Full'; it has 'default'; name one"),
        ({"split": "train"}, "asked for split 'train'; it has 'test'"),
        ({"style": "loud"}, "style 'loud'; its prompts are written in llava, bare, vcd; take one"),
    ],
)
def test_what_is_not_there_is_refused_with_what_there_is(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_task(POPE, source=lay(tmp_path / POPE, POPE), **options)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("---\nconfigs: [\n---\n", "do not read as a dataset: while parsing"),
        ("---\n- a list\n---\n", "do not read as a dataset"),
        ("---\nconfigs:\n- config_name: default\n---\n", None),  # no word of files: they are found
        ("no head at all\n", None),
        ("---\nconfigs:\n- config_name: default\n  data_files:\n  - path: x\n---\n", "'split'"),
        (
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: x/*\n"
            "---\n",
            r"split 'test'; .* found none of x/\*; put them there",
        ),
    ],
)
def test_a_card_that_does_not_read_is_told_and_none_is_needed(tmp_path, card, message):
    place = lay(tmp_path / POPE, POPE)
    (place / "README.md").write_text(card)
    if message is None:
        assert len(load_task(POPE, source=place)) == 6
        return
    with pytest.raises(ValueError, match=message):
        load_task(POPE, source=place)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 cut short", "do not read as a dataset"),
        (b"", "do not read as a dataset"),
        (b"question,answer\nIs it?,yes\n", "do not read as a dataset"),
    ],
)
def test_a_file_that_is_no_parquet_is_told(tmp_path, content, message):
    place = lay(tmp_path / POPE, POPE)
    (place / "data/test-00000-of-00001.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_task(POPE, source=place)


def test_a_folder_without_rows_and_one_that_is_a_file_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="do not read as a dataset"):
        load_task(POPE, source=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere; there is no such folder; give"):
        load_task(POPE, source=tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_task(POPE, source=tmp_path / "file")


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    place = lay(tmp_path / POPE, POPE)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(ValueError, match=r"do not read as a dataset: .*Permission denied"):
        load_task(POPE, source=place)


@pytest.mark.parametrize("source", ["hub:POPE", "hub:a/b/c", "hub:https://x.org/a/b"])
def test_what_is_no_id_of_the_hub_is_refused_without_asking_it(source):
    with pytest.raises(ValueError, match="that is no id; write hub:OWNER/NAME"):
        load_task(POPE, source=source)


def test_the_hub_without_a_network_is_told_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConnectionError, match=r"some/set; it cannot be reached.*source=\"bundled\""
    ):
        load_task(POPE, source="hub:some/set")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "found dict; give a JSON list"),
        ("", "by name, and for none"),
        ("[3", "it does not read .*Expecting.*; give a JSON list, or a name a line, in UTF-8"),
        (
            "popular/\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"),
            r"keys.json; it does not "
            r"read \('utf-8' codec can't decode .*\); give a JSON list",
        ),
        ("\ufeffnobody", "has no nobody"),
        ('["popular/0"]'.encode("utf-16"), "it does not read"),
        ('["popular/0", "nobody"]', "has no nobody"),
    ],
)
def test_a_list_of_keys_that_does_not_read_is_told(tmp_path, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "keys.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_task(POPE, source=lay(tmp_path / POPE, POPE), keys=tmp_path / "keys.json")


def question(**change) -> dict:
    row = {"question_id": 1, "image": "p.jpg", "text": "Is there a dog?", "label": "yes"}
    return row | change


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question_id": 1', r"coco_pope_random.json, line 2; it is no JSON"),
        ("[1, 2]", r"line 2; it has no question_id, image, text, label"),
        (json.dumps({"question_id": 2}), "line 2; it has no image, text, label"),
        (json.dumps(question(label="maybe", question_id=2)), "answer is 'maybe'"),
        (json.dumps(question()), "two rows have the key 'random/1'"),
    ],
)
def test_a_published_file_that_does_not_read_is_told_with_its_line(tmp_path, line, message):
    (tmp_path / "p.jpg").write_bytes(b"")
    text = f"{json.dumps(question())}\n{line}\n"
    (tmp_path / "coco_pope_random.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_task(POPE, source=tmp_path)


def wrapped(error: Exception) -> Exception:
    """An error as `datasets` hands it on."""
    outer = DatasetGenerationError("An error occurred while generating the dataset")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize("wrap", [lambda error: error, wrapped])
@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT)),
        OSError("Not enough disk space. Needed: Unknown size"),
    ],
)
def test_a_full_results_disk_is_called_that_and_no_broken_dataset(error, wrap):
    with (
        pytest.raises(OSError, match=r"cannot be written \((.*[Ss]pace.*|.*[Qq]uota.*)\); make"),
        splits._in_words("task 'pope'", "folder"),
    ):
        raise wrap(error)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad block"), ValueError("bad column")])
def test_a_broken_dataset_is_not_called_a_full_disk(error):
    with (
        pytest.raises(ValueError, match=r"do not read as a dataset: .*bad"),
        splits._in_words("task 'pope'", "folder"),
    ):
        raise wrapped(error)


def test_a_results_folder_that_cannot_be_made_is_called_that(tmp_path, monkeypatch):
    (tmp_path / "results").write_text("a file is in the way")
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    with pytest.raises(OSError, match=r"asked to write .*results/datasets.*IRLIB_RESULTS"):
        load_task("pope", source=lay(tmp_path / "pope", "pope"))
