"""What a number was made from: any change is another hash, and none hangs on the machine."""

import dataclasses
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from irlib import store
from irlib.store import contents, provenance
from irlib.tasks.samples import Box, Sample


def sample(shade: int = 0, **changes) -> Sample:
    facts = {
        "task": "pope",
        "key": "random/1",
        "question": "Is there a dog?",
        "prompt": "Is there a dog?",
        "image": Image.new("RGB", (8, 8), (shade, 0, 0)),
        "reference": {"label": "yes"},
    }
    return Sample(**facts | changes)


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Is there a cat?"},
        {"prompt": "Is there a cat?"},
        {"max_new_tokens": 3},
        {"image": None},
        {"image": Image.new("RGB", (8, 8), (1, 0, 0))},
        {"image": Image.new("RGB", (4, 16))},
        {"image": Image.new("L", (8, 8))},
    ],
)
def test_what_a_model_is_asked_is_words_picture_and_length(change):
    assert provenance.asked(sample(**change)) != provenance.asked(sample())


def test_what_an_answer_does_not_hang_on_is_not_asked():
    others = {"key": "b", "task": "chair", "kind": "c", "reference": {}, "boxes": (1,)}
    assert provenance.asked(sample(**others)) == provenance.asked(sample())
    assert provenance.asked(sample(max_new_tokens=3), max_new_tokens=128) == (
        provenance.asked(sample())
    )


def test_pictures_are_known_by_what_is_seen_of_them(tmp_path):
    turned, palette = (Image.new("RGB", (8, 8)) for _ in range(2))
    turned.getexif()[0x0112] = 6
    assert provenance.asked(sample(image=turned)) != provenance.asked(sample())
    for mode in ("P", "PA"):
        told = []
        for colour in (0, 255):
            palette = Image.new(mode, (8, 8))
            palette.putpalette([colour] * 768)
            told.append(provenance.asked(sample(image=palette)))
            told.append(provenance.rows([sample(image=palette)])["pope"]["sha256"])
        assert len(set(told)) == 4
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"one")
    same = {provenance.asked(sample(image=tmp_path / name)) for name in ("a.png", "b.png")}
    assert len(same) == 1
    (tmp_path / "b.png").write_bytes(b"two")
    assert provenance.asked(sample(image=str(tmp_path / "b.png"))) not in same


def test_a_picture_that_is_none_or_nowhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"found a int; give a PIL picture or a path"):
        provenance.asked(sample(image=[1]))
    with pytest.raises(FileNotFoundError):
        provenance.asked(sample(image=tmp_path / "nowhere.png"))


def test_a_model_is_known_by_its_files_and_without_files_by_its_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model = torch.nn.Linear(2, 2)
    model.config = SimpleNamespace()
    model.name_or_path = ""
    vlm = SimpleNamespace(model=model)
    tensors = provenance.model(vlm)
    with torch.no_grad():
        model.weight += 1
    assert provenance.model(vlm) != tensors
    model.name_or_path = str(tmp_path)
    files = provenance.model(vlm)
    (tmp_path / "README.md").write_text("a card is no weight")
    assert provenance.model(vlm) == files
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert provenance.model(vlm) != files


CHANGES = {
    "task": "textvqa",
    "key": "random/2",
    "question": "Is there a cat?",
    "prompt": "Is there a cat?",
    "image": Image.new("RGB", (8, 8), (1, 0, 0)),
    "reference": {"label": "no"},
    "boxes": (Box(label="dog", x0=0, y0=0, x1=4, y1=4),),
    "kind": "popular",
    "max_new_tokens": 3,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Sample)])
def test_rows_are_known_by_everything_that_is_in_them(field):
    changed = provenance.rows([sample(**{field: CHANGES[field]})])
    assert changed != provenance.rows([sample()])


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Box)])
@pytest.mark.parametrize("which", [0, 1])
def test_a_moved_box_is_another_row(field, which):
    boxes = [Box(label="dog", x0=0, y0=1, x1=4, y1=5), Box(label="cat", x0=2, y0=3, x1=6, y1=7)]
    before = provenance.rows([sample(), sample(boxes=tuple(boxes))])
    value = "cow" if field == "label" else getattr(boxes[which], field) + 0.5
    boxes[which] = dataclasses.replace(boxes[which], **{field: value})
    assert provenance.rows([sample(), sample(boxes=tuple(boxes))]) != before


def test_rows_are_known_each_in_its_place_and_counted_by_task():
    one, two = sample(), sample(key="b")
    other = sample(task="chair")
    told = provenance.rows([one, other, two])
    assert {task: facts["rows"] for task, facts in told.items()} == {"chair": 1, "pope": 2}
    assert provenance.rows([two, one])["pope"] != told["pope"]
    assert provenance.rows([one, two]) == {"pope": told["pope"]}
    assert provenance.rows([one])["pope"]["sha256"] != told["pope"]["sha256"]
    assert provenance.rows([]) == {}


def test_weights_written_anew_with_the_same_size_and_time_are_other_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    vlm = SimpleNamespace(model=SimpleNamespace(name_or_path=str(tmp_path)))
    path.write_bytes(b"weights")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    for old in (0, 10):  # at once, and of a file that has lain for a while
        path.write_bytes(b"weights")
        os.utime(path, ns=times)
        before = provenance.model(vlm)
        time.sleep(contents.STILL * 1.1 if old else 0)
        assert provenance.model(vlm) == before
        path.write_bytes(b"weightz")
        os.utime(path, ns=times)
        assert provenance.model(vlm) != before


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/home/me/rows", "rows"),
        ("/home/me/rows/", "rows"),
        ("/home/me", "~"),
        ("~/rows", "rows"),
        ("../../home/me/rows", "rows"),
        (r"C:\Users\me\rows", "rows"),
        ("file:///home/me/rows", "rows"),
        ("rows of /home/me/x: bad", "rows of x: bad"),
        ("key=/home/me/q", "key=q"),
        ("rows in ~me/q", "rows in q"),
        ("rows in ~me", "rows in ~me"),
        ("rows in ../../../../../../home/me/q", "rows in q"),
        ("../../../../../../home/me/my rows", "my rows"),
        (Path("/home/me/my rows"), "my rows"),
        (str(store.root() / "data/tasks"), "data/tasks"),
        *(
            (same, same)
            for same in ("bundled", "hub:a/b", "yes/no", "see https://a.b/c/d", "", "/")
        ),
        ({"/home/me/mini": [1 / 3, float("nan")]}, {"mini": [0.333333, None]}),
        ({"b", "a"}, ["a", "b"]),
    ],
)
def test_a_parameter_is_told_in_six_digits_and_without_a_place(said, told):
    assert provenance.identity(said) == told
