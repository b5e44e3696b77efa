"""Rows, pictures and annotations of third parties, where IRLIB_KNOWN_ANSWERS names their folder."""

import json
import shutil
from collections import Counter

import pytest
from conftest import lines, need_nltk_data
from datasets import disable_progress_bars
from rows import coco_folder, lay, picture

from irlib.scores import chair, pooled, score
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import open_picture
from irlib.tasks.wording import prompt

disable_progress_bars()


@pytest.mark.parametrize(
    ("task", "count"), [("pope", 20), ("textvqa", 2), ("scienceqa", 4), ("chair", 4)]
)
@pytest.mark.parametrize("plain", [True, False])
def test_known_rows_about_photographs_load_as_jsonl_and_as_parquet(
    known, tmp_path, task, count, plain
):
    rows = lines(known / f"local_rows/{task}.jsonl")
    if plain:
        config = "ScienceQA-FULL" if task == "scienceqa" else "default"
        shutil.copy(known / f"local_rows/{task}.jsonl", tmp_path)
        (tmp_path / "README.md").write_text(
            f"---\nconfigs:\n- config_name: {config}\n  data_files:\n  - split: test\n"
            f"    path: {task}.jsonl\n---\n"
        )
        samples = load_words(known, tmp_path, task, images=known)
    else:
        for row in rows:
            row["image"] = str(known / row["image"]) if row["image"] else None
        samples = load_words(known, lay(tmp_path / task, task, rows), task, images=known)
    assert len(samples) == count
    assert sum(s.image is None for s in samples) == (task == "scienceqa")
    assert all(open_picture(s.image).mode == "RGB" for s in samples if s.image)
    if task == "pope":
        assert Counter(s.reference["label"] for s in samples) == {"yes": 7, "no": 13}


def load_words(known, place, task, **options):
    if task == "chair":
        need_nltk_data()
        shutil.copy(known / "chair/synonyms.txt", place)
    return load_task(task, source=place, **options)


def test_known_question_file_of_pope_loads_whole(known, tmp_path):
    shutil.copy(known / "pope/coco_pope_random.json", tmp_path)
    for name in {row["image"] for row in lines(known / "pope/coco_pope_random.json")}:
        (tmp_path / name).touch()
    samples = load_task("pope", source=tmp_path)
    assert Counter(s.reference["label"] for s in samples) == {"yes": 1500, "no": 1500}
    assert len({s.image for s in samples}) == 500
    assert {s.kind for s in samples} == {"random"}


def test_known_rows_in_the_hubs_columns_are_those_of_the_question_file(known, tmp_path):
    rows = [row | {"image": picture()} for row in lines(known / "pope/hub_schema_sample.jsonl")]
    samples = load_task("pope", source=lay(tmp_path / "pope", "pope", rows))
    asked = {row["question_id"]: row for row in lines(known / "pope/coco_pope_random.json")}
    assert len(samples) == len(rows)
    for sample in samples:
        row = asked[int(sample.key.removeprefix("random/"))]
        assert (sample.question, sample.reference["label"]) == (row["text"], row["label"])


def test_known_ocr_prompts_of_llava_come_out_word_for_word(known):
    for row in lines(known / "textvqa/llava_prompts_first50.jsonl"):
        question, tokens, _ = row["text"].split("\n")
        read = tokens.removeprefix("Reference OCR token: ").split(", ")
        ours = {"question": question[:1].lower() + question[1:], "ocr_tokens": read}
        assert prompt("textvqa", ours, ocr=True) == row["text"]


def test_known_captions_and_instances_of_coco_give_the_official_objects(known, tmp_path):
    rows = lines(known / "chair/coco2014val_captions_boxes.jsonl")
    place = coco_folder(
        tmp_path,
        captions={int(row["id"]): row["captions"] for row in rows},
        instances={int(row["id"]): [i["category"] for i in row["instances"]] for row in rows},
    )
    expected = json.loads((known / "chair/coco2014val_gt_objects_expected.json").read_text())
    samples = load_words(known, place, "chair")
    assert len(samples) == len(expected) == 40
    for sample in samples:
        assert list(sample.reference["objects"]) == sorted(expected[f"{int(sample.key):012d}"])


@pytest.mark.parametrize("model", ["llava-1.5", "instructblip"])
def test_known_lists_of_images_pick_those_images(known, tmp_path, model):
    listed = json.loads((known / "chair/opera_500_image_ids.json").read_text())
    ids = listed[model]
    place = coco_folder(tmp_path, captions={i: [] for i in [*ids, 1]}, instances={})
    samples = load_words(known, place, "chair", keys=ids)
    assert len(samples) == 500
    assert {int(s.key) for s in samples} == set(ids)


def test_known_double_words_are_the_ones_that_are_joined(known):
    assert json.loads((known / "chair/double_words.json").read_text()) == chair._DOUBLE | {
        "stove top oven": "stove top oven"  # three words: it can join no two
    }


def test_known_example_of_the_standalone_metric_comes_out(known, known_words):
    folder, words = known / "chair/maxlinn_example", known_words
    there = json.loads((folder / "gt_objects.json").read_text())
    told = json.loads((folder / "outputs.json").read_text())
    counts = []
    for row, case in zip(lines(folder / "example_inputs.jsonl"), told["sentences"], strict=True):
        assert chair.mentions(row["caption"], words) == case["mscoco_generated_words"]
        reference = {"objects": there[str(row["image_id"])], "words": words}
        counts.append(chair.score(reference, row["caption"]))
    found = pooled("chair", {name: [row[name] for row in counts] for name in counts[0]})
    for name, metric in {"CHAIRs": "CHAIRs", "CHAIRi": "CHAIRi", "CHAIR recall": "Recall"}.items():
        assert float(found[name]) == pytest.approx(told["overall_metrics"][metric], abs=1e-3)


def test_known_problems_score_through_the_loader(known, tmp_path):
    shutil.copy(known / "scienceqa/problems_sample.json", tmp_path / "problems.json")
    problems = json.loads((tmp_path / "problems.json").read_text())
    for pid, problem in problems.items():
        if problem["image"]:
            (tmp_path / "images/test" / pid).mkdir(parents=True)
            picture().save(tmp_path / "images/test" / pid / problem["image"])
    samples = load_task("scienceqa", source=tmp_path)
    answers = {
        row["question_id"]: row["text"]
        for row in lines(known / "scienceqa/llava15_13b_sample.jsonl")
    }
    expected = json.loads((known / "scienceqa/expected.json").read_text())
    right = {s.key: score(s, answers[s.key])["score"] for s in samples}
    pictured = [s.key for s in load_task("scienceqa", source=tmp_path, kind="image")]
    assert (len(right), sum(right.values())) == tuple(
        expected["total"][k] for k in ("n", "correct")
    )
    assert len(pictured) == expected["img"]["n"]
    assert sum(right[key] for key in pictured) == expected["img"]["correct"]
