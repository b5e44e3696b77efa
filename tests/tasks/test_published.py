"""The files that the tasks' authors publish, read as they are: question files and annotations."""

import json

import pytest
from datasets import disable_progress_bars
from PIL import Image
from rows import coco_folder, lay, scienceqa_rows

from irlib.tasks.loading import load_task

disable_progress_bars()


def pope_folder(place, **lines: list[tuple]):
    """Question files by category, as POPE has them: one JSON a line, pictures by name."""
    (place / "val2014").mkdir(parents=True)
    for category, rows in lines.items():
        told = [
            {"question_id": i, "image": image, "text": f"Is there a {what} here?", "label": label}
            for i, image, what, label in rows
        ]
        text = "".join(json.dumps(row) + "\n" for row in told)
        (place / f"coco_pope_{category}.json").write_text(text)
        for row in told:
            Image.new("RGB", (4, 4)).save(place / "val2014" / row["image"])
    return place


def test_popes_question_files_become_rows_of_both_lengths(tmp_path):
    place = pope_folder(
        tmp_path,
        random=[(1, "a.jpg", "dog", "yes")],
        popular=[(1, "a.jpg", "cat", "no"), (2, "b.jpg", "dog", "yes")],
    )
    samples = load_task("pope", source=place)
    assert [s.key for s in samples] == ["popular/1", "popular/2", "random/1"]
    assert [s.reference["label"] for s in samples] == ["no", "yes", "yes"]
    assert samples[1].question == "Is there a dog here?"
    assert samples[1].image == place / "val2014/b.jpg"
    assert [s.key for s in load_task("pope", source=place, kind="random")] == ["random/1"]
    assert [s.key for s in load_task("pope", source=place, split="popular")] == [
        "popular/1",
        "popular/2",
    ]


def test_popes_question_files_are_enough_with_pictures_elsewhere(tmp_path):
    place = pope_folder(tmp_path / "pope", random=[(1, "a.jpg", "dog", "yes")])
    (place / "val2014").rename(tmp_path / "coco")
    (sample,) = load_task("pope", source=place, images=tmp_path / "coco")
    assert sample.image == tmp_path / "coco/a.jpg"
    with pytest.raises(FileNotFoundError, match=r"row 'random/1'.*'a.jpg'"):
        load_task("pope", source=place)


def test_coco_objects_are_instances_by_class_and_words_of_the_captions(tmp_path):
    place = coco_folder(
        tmp_path,
        captions={9: ["A man waits.", "Two puppies."], 4: ["The sky."]},
        instances={9: ["dining table", "dining table"]},
    )
    four, nine = load_task("chair", source=place)
    assert (four.key, nine.key) == ("4", "9")
    assert nine.reference["objects"] == ("dining table", "dog", "person")
    assert four.reference["objects"] == ()
    assert nine.image == place / "val2014/COCO_val2014_000000000009.jpg"


def test_coco_pictures_are_picked_by_seed_or_by_list_and_never_by_order(tmp_path):
    ids = [30, 7, 211, 5, 18, 90]
    one = coco_folder(tmp_path / "one", captions={i: ["x"] for i in ids}, instances={})
    two = coco_folder(tmp_path / "two", captions={i: ["x"] for i in ids[::-1]}, instances={})
    picked = [[s.key for s in load_task("chair", source=p, n=3, seed=2)] for p in (one, two)]
    assert picked[0] == picked[1]
    (tmp_path / "ids.json").write_text("[90, 7]")
    (tmp_path / "ids.txt").write_text("90\n7\n")
    for keys in ([90, 7], ["7", "90"], tmp_path / "ids.json", str(tmp_path / "ids.txt")):
        assert [s.key for s in load_task("chair", source=one, keys=keys)] == ["7", "90"]


def test_an_image_that_coco_does_not_know_is_an_error(tmp_path):
    place = coco_folder(tmp_path, captions={4: ["The sky."]}, instances={})
    with pytest.raises(ValueError, match="has no 5; its names are like '4'"):
        load_task("chair", source=place, keys=[4, 5])


def test_an_annotation_file_that_is_missing_is_named(tmp_path):
    place = coco_folder(tmp_path, captions={4: ["The sky."]}, instances={})
    with pytest.raises(FileNotFoundError, match=r"captions_train2014\.json; there are captions_v"):
        load_task("chair", source=place, split="train")
    (place / "annotations/instances_val2014.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances_val2014\.json"):
        load_task("chair", source=place)


def test_textvqas_own_file_becomes_rows(tmp_path):
    told = {"image_id": "p", "question_id": 34602, "question": "what is it?", "set_name": "val"}
    told |= {"answers": ["stop"] * 10, "image_classes": ["Sign"]}
    (tmp_path / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": [told]}))
    (tmp_path / "train_images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train_images/p.jpg")
    (sample,) = load_task("textvqa", source=tmp_path)
    assert (sample.key, sample.kind) == ("34602", "Sign")
    assert sample.reference["answers"] == ("stop",) * 10
    assert sample.image == tmp_path / "train_images/p.jpg"


def test_scienceqas_problems_are_keyed_by_their_number(tmp_path):
    problem = {"question": "What?", "choices": ["a", "b"], "answer": 1, "hint": "", "topic": "maps"}
    problems = {
        "12": problem | {"split": "test", "image": None},
        "3": problem | {"split": "test", "image": "image.png"},
        "4": problem | {"split": "train", "image": None},
    }
    (tmp_path / "problems.json").write_text(json.dumps(problems))
    (tmp_path / "images/test/3").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images/test/3/image.png")
    samples = load_task("scienceqa", source=tmp_path)
    assert {s.key: s.reference["has_image"] for s in samples} == {"12": False, "3": True}
    assert samples[1].image == tmp_path / "images/test/3/image.png"
    assert [s.key for s in load_task("scienceqa", source=tmp_path, split="train")] == ["4"]


def test_scienceqas_rows_with_a_picture_are_a_kind_of_their_own(tmp_path):
    place = lay(tmp_path / "scienceqa", "scienceqa", scienceqa_rows())
    pictured = load_task("scienceqa", source=place, kind="image")
    assert [s.key for s in pictured] == ["00000", "00001", "00002"]
    assert all(s.reference["has_image"] for s in pictured)


def test_objects_may_be_a_list_in_json_and_images_named_by_number(tmp_path):
    row = {
        "image_id": "000000000139",
        "objects": '["dog", "puppy"]',
        "image": Image.new("RGB", (4, 4)),
    }
    (sample,) = load_task("chair", source=lay(tmp_path / "chair", "chair", [row]))
    assert sample.key == "139"
    assert sample.reference["objects"] == ("dog",)


def test_a_split_of_another_config_is_read_alone():
    samples = load_task("pope", config="Full", split="popular", n=5)
    assert {s.kind for s in samples} == {"popular"}
    assert samples[0] in load_task("pope", kind="popular")
    images = load_task("scienceqa", config="ScienceQA-IMG", n=5)
    assert all(s.image is not None for s in images)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("problems.json", {"7": {"image": None}}, "row 1 has no split"),
        ("problems.json", {"7": ["a"]}, "row 1 has no split, image"),
        ("TextVQA_0.5.1_val.json", {"data": [{"question_id": 1}]}, "row 1 has no image_id"),
    ],
)
def test_a_published_row_without_what_it_needs_is_told(tmp_path, name, row, message):
    (tmp_path / name).write_text(json.dumps(row))
    task = "scienceqa" if name == "problems.json" else "textvqa"
    with pytest.raises(ValueError, match=f"asked for from .*{message}; take the file as"):
        load_task(task, source=tmp_path)


def test_an_instance_of_a_category_without_a_name_is_told(tmp_path):
    place = coco_folder(tmp_path, captions={1: ["A dog."]}, instances={1: ["dog"]})
    path = place / "annotations/instances_val2014.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"categories": []}))
    with pytest.raises(ValueError, match=r"of categories \[7\] that it does not name; take"):
        load_task("chair", source=place)


def test_blank_lines_and_line_separators_in_question_files_are_no_ends_of_rows(tmp_path):
    place = pope_folder(tmp_path, random=[(1, "a.jpg", "dog\u2028house", "yes")])
    path = place / "coco_pope_random.json"
    row = json.loads(path.read_text())
    path.write_text("\n" + json.dumps(row, ensure_ascii=False) + "\n\n")
    assert [sample.key for sample in load_task("pope", source=place)] == ["random/1"]
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"coco_pope_random.json; it is no text in UTF-8"):
        load_task("pope", source=place)


def test_ocr_tokens_that_are_not_there_are_not_asked_for_in_silence(tmp_path):
    rows = [{"image_id": "a", "question_id": 1, "question": "what?", "answers": ["b"] * 10}]
    (tmp_path / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": rows}))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert len(load_task("textvqa", source=tmp_path)) == 1
    with pytest.raises(ValueError, match=r"row '1' .*its ocr_tokens are None; write a list"):
        load_task("textvqa", source=tmp_path, ocr=True)


def test_a_set_that_is_there_in_part_is_not_taken_for_whole(tmp_path):
    (tmp_path / "data").mkdir()
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n"
    (tmp_path / "README.md").write_text(card + "    path: data/test-*\n---\n")
    (tmp_path / "data/test-00000-of-00002.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="1 files of 2 are there; fetch the others"):
        load_task("pope", source=tmp_path)


def test_a_file_of_names_that_is_not_there_is_told():
    with pytest.raises(FileNotFoundError, match="give a list of names, or a file of them"):
        load_task("pope", keys="random/1")


def test_a_picture_that_many_rows_ask_about_is_opened_once():
    samples = load_task("pope", n=400)
    pictures = {sample.image.tobytes() for sample in samples}
    assert len({id(sample.image) for sample in samples}) == len(pictures) < 400
