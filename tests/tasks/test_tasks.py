"""Tasks: rows of the hub's layout become samples, and rows that cannot are refused in words."""

import copy
import gc
import os
import pickle

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from PIL import Image
from rows import BOX, ROWS, lay, pope_rows

from irlib import store
from irlib.scores import chair, lemmas, score
from irlib.store import provenance
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import open_picture
from irlib.tasks.protocols import TASKS
from irlib.tasks.samples import Box

disable_progress_bars()
SHORT = "Answer the question using a single word or phrase."


@pytest.fixture
def folder(tmp_path):
    """Return a function that lays rows out as the hub does and gives their folder."""
    return lambda task, *rows, **options: lay(tmp_path / task, task, *rows, **options)


def test_pope_rows_are_keyed_by_category_and_question(folder):
    samples = load_task("pope", source=folder("pope"))
    assert [s.key for s in samples] == sorted(
        f"{c}/{i}" for c in ("random", "popular") for i in range(3)
    )
    assert samples[0].prompt == f"Is there a dog in the image?\n{SHORT}"
    assert samples[0].question == "Is there a dog in the image?"
    assert samples[0].boxes == (Box(**BOX),)
    assert samples[0].image.size == (48, 32)
    assert samples[0].max_new_tokens == 128


def test_textvqa_prompts_have_ocr_tokens_only_when_asked(folder):
    place = folder("textvqa")
    assert load_task("textvqa", source=place)[0].prompt == f"What word is on the sign?\n{SHORT}"
    told = load_task("textvqa", source=place, ocr=True)[0].prompt
    assert told == f"What word is on the sign?\nReference OCR token: STOP, GO\n{SHORT}"


def test_scienceqa_prompts_letter_the_choices_after_the_context(folder):
    samples = load_task("scienceqa", source=folder("scienceqa"))
    assert samples[0].prompt == (
        "Context: Arrows point to the eater.\nWhat eats the fox?\nA. owl\nB. cat\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert samples[1].prompt.startswith("What eats the fox?\nA. owl")
    assert [s.kind for s in samples] == ["food chain", "objects", "text", "text"]
    assert [s.image is None for s in samples] == [False, False, False, True]
    assert [s.reference["has_image"] for s in samples] == [True, True, True, False]


@pytest.mark.parametrize("listed", [True, False])
def test_chairs_rows_ask_for_base_forms_only_where_their_table_does(folder, monkeypatch, listed):
    """And at once: not after a model has answered."""
    place, asked = folder("chair"), []
    (place / "synonyms.txt").write_text("# forms: listed\n" * listed + "dog, puppy\ncat\n")
    monkeypatch.setattr(lemmas, "fetch", asked.append)
    monkeypatch.setattr(lemmas, "base_forms", lambda text: ["puppy"])
    sample = load_task("chair", source=place)[0]
    assert asked == [] if listed else asked == [store.root() / "data/coco"]
    assert sample.reference["objects"] == (("cat", "dog") if listed else ("dog",))
    assert chair.mentions("Skies.", sample.reference["words"]) == ([] if listed else ["dog"])


def test_chair_objects_are_annotated_ones_and_what_people_say(folder):
    sample = load_task("chair", source=folder("chair"))[0]
    assert sample.reference["objects"] == ("cat", "dog")
    assert sample.prompt == sample.question == "Please describe this image in detail."
    assert score(sample, "A puppy.")["found"] == 1


@pytest.mark.parametrize("task", TASKS)
def test_a_right_answer_scores_one_in_every_task(folder, task):
    right = {"pope": "No", "textvqa": "Stop.", "scienceqa": "A", "chair": "A dog, a cat."}[task]
    rows = ROWS[task]()[:1]
    assert score(load_task(task, source=folder(task, rows))[0], right)["score"] == 1


def test_a_seed_picks_the_same_rows_whatever_their_order_on_disk(folder, tmp_path):
    rows = pope_rows(40)
    one = load_task("pope", source=folder("pope", rows), n=9, seed=4)
    (tmp_path / "pope").rename(tmp_path / "first")
    two = load_task("pope", source=folder("pope", rows[::-1]), n=9, seed=4)
    assert [s.key for s in one] == [s.key for s in two] == sorted(s.key for s in one)
    assert [s.image.tobytes() for s in one] == [s.image.tobytes() for s in two]
    assert [s.key for s in load_task("pope", source=tmp_path / "first", n=9, seed=5)] != [
        s.key for s in one
    ]


def test_a_kind_keeps_its_rows_alone(folder):
    samples = load_task("pope", source=folder("pope"), kind="random")
    assert {s.kind for s in samples} == {"random"}
    assert len(samples) == 3


def test_one_folder_may_hold_a_folder_of_every_task(folder, tmp_path):
    for task in TASKS:
        folder(task)
    for task in TASKS:
        assert load_task(task, source=tmp_path) == load_task(task, source=tmp_path / task)


def test_reading_a_folder_prints_no_progress(folder, capfd):
    load_task("pope", source=folder("pope"))
    assert capfd.readouterr() == ("", "")


def test_an_unknown_task_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="'vqa'; it knows pope, textvqa, scienceqa, chair"):
        load_task("vqa")


def test_an_empty_task_is_refused(folder):
    place = folder("pope", pope_rows(1))
    path = place / "data/test-00000-of-00001.parquet"
    Dataset.from_parquet(str(path), cache_dir=str(place / "c")).select([]).to_parquet(path)
    with pytest.raises(ValueError, match="it has no rows"):
        load_task("pope", source=place)


@pytest.mark.parametrize("task", TASKS)
def test_the_bundle_has_rows_enough_and_says_where_things_are(task):
    samples = load_task(task)
    assert len(samples) >= 500
    assert all(s.image is not None for s in samples) or task == "scienceqa"
    pictured = [s for s in samples if s.image is not None and s.boxes]
    assert pictured
    for s in pictured:
        assert all(
            0 <= b.x0 < b.x1 <= s.image.width and 0 <= b.y0 < b.y1 <= s.image.height
            for b in s.boxes
        )


def test_bundled_kinds_are_those_that_the_figures_ask_for():
    kinds = {task: {s.kind for s in load_task(task)} for task in TASKS}
    assert kinds == {
        "pope": {"random", "popular", "adversarial"},
        "textvqa": {"word", "number"},
        "scienceqa": {"food chain", "objects", "text"},
        "chair": {"caption"},
    }
    alone = [s for s in load_task("scienceqa") if s.image is None]
    assert len(alone) >= 100
    assert {s.kind for s in alone} == {"text"}


def test_the_bundle_stays_small():
    size = sum(p.stat().st_size for p in (store.root() / "data/tasks").rglob("*") if p.is_file())
    assert size < 20e6


def test_a_folder_that_changed_is_read_anew(tmp_path, monkeypatch):
    from data.generate import tasks as generate

    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    for seed in (1, 2):
        generate._textvqa_folder(_made(tmp_path / "textvqa"), seed, 10 * seed)
        assert len(load_task("textvqa", source=tmp_path / "textvqa")) == 10 * seed


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_rows_rewritten_with_the_same_size_and_time_are_read_anew(tmp_path, form, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    place = tmp_path / "pope"
    (place / "data").mkdir(parents=True)
    file = place / f"data/test.{form}"
    card = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: data/*\n"
    )
    (place / "README.md").write_text(f"{card}---\n")
    picture = tmp_path / "pope/p.png"
    pope_rows(1)[0]["image"].save(picture)
    told, stamp, size = [], None, None
    for label in ("yes", "no "):  # of one length
        row = pope_rows(1)[0] | {"image": "p.png", "answer": label.strip()}
        row["question"] += " " * (3 - len(label.strip()))
        del row["boxes"]
        made = Dataset.from_list([row])
        getattr(made, {"jsonl": "to_json"}.get(form, f"to_{form}"))(file)
        if stamp:  # `touch -r`, an archive: only the content is another
            file.write_bytes(file.read_bytes().ljust(size, b"\n"))
            os.utime(file, ns=stamp)
        stamp, size = (file.stat().st_mtime_ns,) * 2, file.stat().st_size
        told.append((load_task("pope", source=place)[0].reference["label"], stamp, size))
    (first, *before), (second, *after) = told
    assert before == after
    assert [first, second] == ["yes", "no"]


def test_answers_of_a_picture_that_was_rewritten_are_not_those_of_the_one_before(tmp_path):
    row = pope_rows(1)[0] | {"image": "p.png"}
    place = lay(tmp_path / "pope", "pope", [row])
    asked = []
    for shade in (1, 2):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(place / "p.png", "BMP")
        os.utime(place / "p.png", (1, 1))
        (sample,) = load_task("pope", source=place)
        asked.append((provenance.asked(sample), (place / "p.png").stat().st_size))
    (first, one), (second, two) = asked
    assert one == two
    assert first != second


def alive(size=(1500, 1400)) -> int:
    """How many decoded pictures of that size there are."""
    gc.collect()
    known = [one for one in gc.get_objects() if issubclass(type(one), Image.Image)]
    return sum(vars(one).get("_im") is not None and one.size == size for one in known)


def test_pictures_are_open_only_while_they_are_used(tmp_path):
    rows = [
        row | {"image": Image.new("RGB", (1500, 1400), (i, 0, 0))}
        for i, row in enumerate(pope_rows(6))
    ]
    place = lay(tmp_path / "pope", "pope", rows)
    del rows
    samples = load_task("pope", source=place)
    assert alive() == 0
    kept = open_picture(samples[0].image)
    assert alive() == 1
    for sample in samples:
        assert sample.image.size == (1500, 1400)  # as a picture's own
    assert alive() == 1
    del kept
    assert sum(len(sample.image.encoded) for sample in samples) < 150_000


def test_a_sample_travels_as_the_bytes_of_its_file(tmp_path):
    (sample,) = load_task("pope", source=lay(tmp_path / "pope", "pope", pope_rows(1)))
    for there in (pickle.loads(pickle.dumps(sample)), copy.deepcopy(sample)):
        assert there == sample
        assert provenance.asked(there) == provenance.asked(sample)
        assert there.image.tobytes() == pope_rows(1)[0]["image"].tobytes()
    big = Image.new("RGB", (1500, 1400))
    embedded = load_task(
        "pope", source=lay(tmp_path / "b", "pope", [pope_rows(1)[0] | {"image": big}])
    )
    assert len(pickle.dumps(embedded)) < 50_000
    assert repr(sample.image) == f"Embedded({len(sample.image.encoded)} bytes)"


def test_an_embedded_picture_is_used_as_a_picture_is(tmp_path):
    row = pope_rows(1)[0]
    (sample,) = load_task("pope", source=lay(tmp_path / "pope", "pope", [row]))
    picture = row["image"]
    assert np.array_equal(np.asarray(sample.image), np.asarray(picture))
    assert sample.image.convert("L").tobytes() == picture.convert("L").tobytes()
    assert isinstance(sample.image, Image.Image)
    assert sample.image.open().tobytes() == picture.tobytes()
    assert sample.image == picture
    assert sample.image != picture.rotate(180).convert("L")
    assert sample.image.rotate(90).tobytes() == picture.rotate(90).tobytes()
    assert sample.image.copy().mode == "RGB"
    assert "_im" not in vars(sample.image)
    assert (sample.image.width, sample.image.height) == picture.size
    with pytest.raises(AttributeError, match="colour"):
        _ = sample.image.colour


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("seed", [0, 7])
def test_as_many_rows_as_there_are_is_all_of_them_and_one_more_is_refused(folder, seed):
    place = folder("pope")
    every = [sample.key for sample in load_task("pope", source=place)]
    asked = load_task("pope", source=place, n=len(every), seed=seed)
    assert [sample.key for sample in asked] == every
    assert len(load_task("pope", source=place, n=len(every) - 1, seed=seed)) == len(every) - 1
    with pytest.raises(ValueError, match=f"ask for 1 to {len(every)}"):
        load_task("pope", source=place, n=len(every) + 1, seed=seed)
