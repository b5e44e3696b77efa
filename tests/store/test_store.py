"""The store: the same bytes twice, whole files or none, tables computed once."""

import errno
import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from irlib import store
from irlib.evidence.judging import verdict
from irlib.store import provenance
from irlib.tasks.samples import Sample

KINDS = ("csv", "json", "pdf", "png")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("IRLIB_FRESH", raising=False)


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


def draw(stem: str = "fig0_test", **options) -> None:
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    table = pd.DataFrame({"layer": [0, 1], "share": [1 / 3, 2e-9 / 3], "task": ["pope", "chair"]})
    store.save_figure(figure, stem, table, **options)
    plt.close(figure)


def test_a_rerun_gives_the_same_bytes_of_all_four_files():
    saved = []
    for _ in range(2):
        draw(samples=[sample()], parameters={"n": 3}, verdicts=[verdict("c", [1.0, 2.0] * 5)])
        saved.append({k: (store.figures() / f"fig0_test.{k}").read_bytes() for k in KINDS})
    assert saved[0] == saved[1]
    assert sorted(p.suffix[1:] for p in store.figures().iterdir()) == sorted(KINDS)


def test_the_csv_has_six_significant_digits_and_no_index():
    draw()
    text = (store.figures() / "fig0_test.csv").read_text()
    assert text == "layer,share,task\n0,0.333333,pope\n1,6.66667e-10,chair\n"


def test_json_and_png_tell_what_made_the_figure_and_neither_time_nor_commit():
    draw(samples=[sample()], parameters={"n": 3}, verdicts=[verdict("c", [1.0, 2.0] * 5)], seed=5)
    text = (store.figures() / "fig0_test.json").read_text()
    told = json.loads(text)
    assert set(told) == {
        *("stem", "profile", "parameters", "seed", "threads", "versions", "irlib", "notebook"),
        *("models", "tasks", "verdicts"),
    }
    assert told["parameters"] == {"n": 3}
    assert told["seed"] == 5
    assert told["tasks"]["pope"]["rows"] == 1
    assert told["verdicts"][0]["outcome"] == "agrees"
    picture = Image.open(store.figures() / "fig0_test.png")
    assert picture.text == {"Provenance": text}
    assert b"CreationDate" not in (store.figures() / "fig0_test.pdf").read_bytes()


def test_latex_is_written_beside_the_figure_where_there_is_some():
    draw(tex="\\toprule")
    assert (store.figures() / "fig0_test.tex").read_text() == "\\toprule"
    draw("fig1_test")
    assert not (store.figures() / "fig1_test.tex").exists()


def test_models_that_are_gone_are_told_by_what_was_noted_of_them():
    draw(vlm={"one": "abc", "two": "def"})
    told = json.loads((store.figures() / "fig0_test.json").read_text())
    assert told["models"] == {"one": "abc", "two": "def"}


def test_a_profile_has_a_folder_of_its_own(tmp_path):
    draw(profile="paper")
    assert (tmp_path / "figures/paper/fig0_test.png").is_file()


def test_a_figure_without_a_table_is_refused():
    with pytest.raises(TypeError, match="with a list for its table; the csv needs a DataFrame"):
        store.save_figure(plt.figure(), "fig0_test", [1, 2])


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "figures").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"asked to write .*fig0_test\.csv.*IRLIB_FIGURES"):
        draw()


def test_a_full_disk_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "kept.csv"
    store.write(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device; make room"):
        store.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_source_edit_changes_the_hash(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/style.py").write_text("x = 1")
    before = provenance.sources(tmp_path)
    (tmp_path / "plots/style.py").write_text("x = 2")
    assert provenance.sources(tmp_path) != before


def package(tmp_path, **files) -> Path:
    """A package of these sources; `a__b` is the module b of a package a."""
    for name, source in files.items():
        path = (tmp_path / "pack" / name.replace("__", "/")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "pack"


def test_a_closure_is_all_that_is_imported_in_whatever_words_and_wherever(tmp_path):
    sources = {
        "start": "import os, pack.one\nfrom pack import two, verb\nfrom pack.sub.deep import f",
        "one": "def f():\n    from pack.lazy import g",
        "two": "from . import near",
        "sub__init": "", "sub__deep": "from .side import h\nfrom ..up import i",
        "sub__side": "", "up": "", "near": "from pack import start, kept", "lazy": "",
        "kept": "import pack.behind", "behind": "", "unused": "import pack.start",
    }  # fmt: skip
    root = package(tmp_path, **sources)
    (root / "sub/init.py").rename(root / "sub/__init__.py")
    found = provenance.closure(["start"], root, leave=["kept"])
    names = [path.relative_to(root).as_posix() for path in found]
    assert names == [
        *("lazy.py", "near.py", "one.py", "start.py", "sub/__init__.py", "sub/deep.py"),
        *("sub/side.py", "two.py", "up.py"),
    ]
    with pytest.raises(FileNotFoundError, match="asked for the sources of 'stort'"):
        provenance.closure(["stort"], root)


def test_the_instruments_hash_changes_with_every_file_that_answers_hang_on(tmp_path):
    here = shutil.copytree(store.root() / "irlib", tmp_path / "irlib")
    before = provenance.instrument(here)
    for path in sorted(here.rglob("*.py")):
        source = path.read_text()
        path.write_text(source + "# edited\n")
        name = path.relative_to(here).parts[0].removesuffix(".py")
        answers = name in "families grids hooks inputs layouts models prompts truncation".split()
        answers |= name in "pixels processors staircase vlm".split()
        free = name in "across answers blocks cam cli plots scores store sweeps tasks".split()
        assert not answers or provenance.instrument(here) != before, name
        assert not free or provenance.instrument(here) == before, name
        path.write_text(source)


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
    with pytest.raises(ValueError, match=r"found a list; give a PIL picture or a path"):
        provenance.asked(sample(image=[1]))
    with pytest.raises(FileNotFoundError):
        provenance.asked(sample(image=tmp_path / "nowhere.png"))


def test_a_parameter_that_cannot_be_told_is_refused():
    with pytest.raises(TypeError, match="asked to tell the parameter <object"):
        draw(parameters={"thing": object()})


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


def test_a_notebook_is_known_by_its_code_whatever_its_outputs(tmp_path):
    path = tmp_path / "n.ipynb"

    def save(code: str, outputs: list) -> str:
        cell = {"cell_type": "code", "source": [code], "outputs": outputs}
        path.write_text(json.dumps({"cells": [cell]}))
        return provenance.notebook(path)

    assert save("x = 1", []) == save("x = 1", [{"text": "1"}]) != save("x = 2", [])


def test_png_bytes_hold_a_readable_picture():
    draw()
    picture = Image.open(io.BytesIO((store.figures() / "fig0_test.png").read_bytes()))
    assert min(picture.size) > 500
