"""A figure's files: the same bytes twice, left alone where numbers agree, never torn or stale."""

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from irlib import store
from irlib.evidence.bounds import Estimate
from irlib.store import figure as writer
from irlib.store import provenance
from irlib.tasks.samples import Sample

KINDS = ("csv", "json", "png")
SAID = {"c": Estimate(value=1.5, low=1.2, high=1.8, n=10, units=10)}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("IRLIB_OUT", "IRLIB_NOTEBOOK", "IRLIB_CODE", "IRLIB_SET", "IRLIB_PDF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / "figures"))


def sample() -> Sample:
    facts = {"task": "pope", "key": "a", "question": "A dog?", "prompt": "A dog?"}
    return Sample(**facts, image=Image.new("RGB", (8, 8)), reference={"label": "yes"})


def draw(stem: str = "fig0_test", *, shift: float = 0, line=(1, 2), title: str = "", **options):
    """Draw and save a toy; `shift` moves its numbers, `line` and `title` what is seen."""
    pictured, axes = plt.subplots()
    axes.plot(line)
    axes.set_title(title)
    shares = [1 / 3 + shift, 2e-9 / 3 + shift]
    table = pd.DataFrame({"layer": [0, 1], "share": shares, "task": ["pope", "chair"]})
    saved = store.save_figure(pictured, stem, table, **options)
    plt.close(pictured)
    return saved


def files(stem: str = "fig0_test") -> dict[str, tuple[bytes, int]]:
    """What lies there under the stem: bytes, and the inode, which a rewrite changes."""
    found = sorted(store.figures().glob(f"{stem}.*"))
    return {path.suffix[1:]: (path.read_bytes(), path.stat().st_ino) for path in found}


def told(stem: str = "fig0_test") -> dict:
    return json.loads((store.figures() / f"{stem}.json").read_text())


def test_a_rerun_elsewhere_gives_the_same_bytes_of_all_files(tmp_path, monkeypatch):
    saved = []
    for name in ("one", "two"):
        monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / name))
        draw(samples=[sample()], parameters={"n": 3}, said=SAID, pdf=True)
        saved.append({kind: data for kind, (data, _) in files().items()})
    assert saved[0] == saved[1]
    assert sorted(saved[0]) == sorted([*KINDS, "pdf"])


def test_the_csv_has_six_significant_digits_and_no_index():
    draw()
    text = (store.figures() / "fig0_test.csv").read_text()
    assert text == "layer,share,task\n0,0.333333,pope\n1,6.66667e-10,chair\n"


def test_six_digits_are_all_that_a_column_of_several_kinds_has_too():
    table = pd.DataFrame({"of": ["score", 1 / 3, None, True]}, dtype=object)
    store.save_figure(plt.figure(), "fig0_test", table)
    assert (store.figures() / "fig0_test.csv").read_text() == 'of\nscore\n0.333333\n""\nTrue\n'
    assert table["of"][1] == 1 / 3


def test_json_and_png_tell_what_made_the_figure_and_neither_time_nor_commit():
    facts = {"n": 3, "noise": 2 / 3}
    draw(samples=[sample()], parameters=facts, said=SAID, seed=5, pdf=True)
    text = (store.figures() / "fig0_test.json").read_text()
    assert set(told()) == {
        *("stem", "profile", "parameters", "set", "seed", "threads", "versions", "sources"),
        *("notebook", "models", "tasks", "said", "files"),
    }
    assert told()["parameters"] == {"n": 3, "noise": 0.666667}
    assert told()["seed"] == 5
    assert told()["tasks"]["pope"]["rows"] == 1
    assert told()["said"] == [{"says": "c"} | vars(SAID["c"])]
    assert told()["files"] == {"csv": hashlib.sha256(files()["csv"][0]).hexdigest()}
    picture = Image.open(store.figures() / "fig0_test.png")
    assert picture.text == {"Provenance": text}
    assert b"CreationDate" not in files()["pdf"][0]
    assert min(picture.size) > 500


def test_no_place_on_this_machine_is_told_in_json_or_png(tmp_path):
    home = str(Path.home())
    named = {"source": f"{home}/rows", "keys": str(tmp_path / "a.txt"), "mine": f"~/x {home}/y"}
    said = {f"as in {tmp_path}/deep/claim": SAID["c"]}
    draw(parameters=named, said=said, vlm={f"{tmp_path}/mini": "abc"})
    text = (store.figures() / "fig0_test.json").read_text()
    assert not [place for place in ('"/', " /", "~/", home, str(tmp_path)) if place in text]
    assert Image.open(store.figures() / "fig0_test.png").text == {"Provenance": text}
    assert told()["parameters"]["source"] == "rows"
    assert told()["models"] == {"mini": "abc"}


def test_latex_is_written_beside_the_figure_where_there_is_some_and_goes_with_it():
    draw(tex="\\toprule")
    assert files()["tex"][0] == b"\\toprule"
    draw()
    assert "tex" not in files()


def test_a_pdf_comes_on_request_and_none_of_another_drawing_stays(monkeypatch):
    assert "pdf" not in (draw(), files())[1]
    draw(pdf=True)
    first = files()
    assert draw().kept
    assert files() == first  # of this very drawing
    draw(seed=1)
    assert "pdf" not in files()
    monkeypatch.setenv("IRLIB_PDF", "1")
    draw(seed=1)
    assert "pdf" in files()


def test_models_that_are_gone_are_told_by_what_was_noted_of_them():
    draw(vlm={"one": "abc", "two": "def"})
    assert told()["models"] == {"one": "abc", "two": "def"}


def test_a_profile_has_a_folder_of_its_own_and_a_trial_the_one_that_is_named(tmp_path, monkeypatch):
    draw(profile="paper")
    assert (tmp_path / "figures/paper/fig0_test.png").is_file()
    monkeypatch.setenv("IRLIB_OUT", str(tmp_path / "mine"))
    draw(profile="paper")
    assert (tmp_path / "mine/fig0_test.png").is_file()


@pytest.mark.parametrize(
    "name", ["../../x", "..", "/tmp/x", "a/b", "a\\b", "", ".x", "a\n", "a" * 200]
)
@pytest.mark.parametrize("what", ["stem", "profile"])
def test_nothing_is_written_outside_of_its_folder(name, what, tmp_path, monkeypatch):
    for out in (None, str(tmp_path / "figures/mini")):
        monkeypatch.setenv("IRLIB_OUT", out) if out else None
        with pytest.raises(ValueError, match="found no plain name in it; give one of letters"):
            draw(**({"stem": "fig0_test"} | {what: name}))
    assert not list(tmp_path.iterdir())


def test_a_figure_without_a_table_is_refused():
    with pytest.raises(TypeError, match="with a list for its table; the csv needs a DataFrame"):
        store.save_figure(plt.figure(), "fig0_test", [1, 2])


def test_a_parameter_that_cannot_be_told_is_refused():
    with pytest.raises(TypeError, match="asked to tell the parameter <object"):
        draw(parameters={"thing": object()})


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "figures").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"asked to write .*fig0_test\.csv.*IRLIB_FIGURES"):
        draw()


WHOLE = {"samples": 1, "parameters": {"n": 3}, "vlm": {"m": "abc"}, "tex": "t"}


def again(**changes):
    """Draw as `WHOLE` says, with these changes."""
    options = WHOLE | {"said": SAID} | changes
    return draw(**options | {"samples": [sample()] * options["samples"]})


@pytest.mark.parametrize(
    "moved",
    [
        {},
        {"shift": 1e-6},
        {"shift": 0.01},
        {"line": (1, 2.001)},
        {"tex": "0.3334"},
        {"said": {"c": replace(SAID["c"], value=1.501)}},
    ],
)
def test_files_are_left_untouched_where_hashes_are_equal_and_numbers_agree(moved, caplog):
    assert not again().kept
    first = files()
    with caplog.at_level("INFO"):
        saved = again(**moved)
    assert saved.kept
    assert files() == first
    assert "fig0_test.png: left as it was" in str(saved)
    assert "left as it was" in caplog.text


def test_another_thread_count_python_or_build_is_no_other_figure(monkeypatch):
    again()
    first, facts = files(), provenance.surroundings()
    versions = facts["versions"] | {"python": "3.14.1", "torch": f"{facts['versions']['torch']}+x"}
    there = {"threads": 99, "versions": versions}
    monkeypatch.setattr(provenance, "surroundings", lambda: there)
    assert again().kept
    assert files() == first
    versions["torch"] = "9.9"
    assert not again().kept


@pytest.mark.parametrize(
    "moved",
    [
        {"shift": 0.1},
        {"parameters": {"n": 4}},
        {"parameters": {}},
        {"seed": 1},
        {"samples": 2},
        {"vlm": {"m": "abd"}},
        {"tex": ""},
        {"line": range(40)},  # what the table does not tell
        {"said": {"c": replace(SAID["c"], value=-1.5)}},
        {"said": {"d": SAID["c"]}},
        {"said": {"c": replace(SAID["c"], units=20)}},
        {"said": {}},
    ],
)
def test_files_are_written_anew_where_anything_else_changed(moved):
    again()
    first = files()
    assert not again(**moved).kept
    assert files()["json"] != first["json"]
    assert again(**moved).kept  # and stand from then on


def spoil_csv(folder: Path) -> None:
    path = folder / "fig0_test.csv"
    path.write_text(path.read_text().replace("0.333333", "0.333334"))


def spoil_png(folder: Path) -> None:
    path = folder / "fig0_test.png"
    path.write_bytes(path.read_bytes()[:-200])


def flip_png(folder: Path) -> None:
    data = bytearray((folder / "fig0_test.png").read_bytes())
    data[-100] ^= 1
    (folder / "fig0_test.png").write_bytes(data)


def repaint_png(folder: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("Provenance", (folder / "fig0_test.json").read_text())
    picture = Image.open(folder / "fig0_test.png")
    Image.new("RGB", picture.size).save(folder / "fig0_test.png", pnginfo=about)


def strip_png(folder: Path) -> None:
    Image.open(folder / "fig0_test.png").save(folder / "fig0_test.png")


def edit_json(folder: Path) -> None:
    path = folder / "fig0_test.json"
    path.write_text(path.read_text().replace('"threads": ', '"threads": 9'))


def empty_json(folder: Path) -> None:
    (folder / "fig0_test.json").write_text("[]")


@pytest.mark.parametrize(
    "spoil",
    [
        *(spoil_csv, spoil_png, flip_png, repaint_png, strip_png, edit_json, empty_json),
        *(lambda folder, kind=kind: (folder / f"fig0_test.{kind}").unlink() for kind in KINDS),
        lambda folder: (folder / "fig0_test.tex").write_text("other"),
        lambda folder: (folder / "fig0_test.tex").unlink(),
        lambda folder: (folder / "fig0_test.csv").write_bytes(b"\xff"),
    ],
)
def test_a_file_that_is_torn_gone_or_of_another_run_is_never_left(spoil):
    again()
    whole = {kind: data for kind, (data, _) in files().items()}
    spoil(store.figures())
    assert not again().kept
    assert {kind: data for kind, (data, _) in files().items()} == whole


SCRIPT = """
import sys
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt, pandas as pd
from irlib import save_figure
import beside
figure, axes = plt.subplots()
print(save_figure(figure, sys.argv[1], pd.DataFrame({"n": [beside.N]})).kept)
"""


def test_a_parameter_that_was_set_is_told_even_where_the_notebook_does_not(monkeypatch):
    for value in (2, 3):
        monkeypatch.setenv("IRLIB_SET", json.dumps({"shown": value}))
        assert not again().kept
        assert told()["set"] == {"shown": value}


def test_a_script_is_known_by_its_own_code_and_by_what_lies_beside_it(tmp_path):
    def run(code: str, *, beside: str = "N = 1.0") -> str:
        (tmp_path / "script.py").write_text(code)
        (tmp_path / "beside.py").write_text(beside)
        order = [sys.executable, str(tmp_path / "script.py"), "fig0_script"]
        place = {**os.environ, "PYTHONPATH": str(store.root())}
        done = subprocess.run(order, capture_output=True, text=True, check=True, env=place)
        return done.stdout.strip()

    found = [run(SCRIPT), run(SCRIPT), run(SCRIPT + "# edited"), run(SCRIPT, beside="N = 1.001")]
    assert found == ["False", "True", "False", "False"]


def test_code_typed_at_a_prompt_is_unknown_and_its_figure_always_written():
    code = compile("save()", "<stdin>", "exec")
    for _ in range(2):
        exec(code, {"save": lambda: None})
        scope = {"store": store, "figure": plt.figure(), "table": pd.DataFrame({"n": [1]})}
        exec("saved = store.save_figure(figure, 'fig0_test', table)", scope)
        assert not scope["saved"].kept
    assert told()["notebook"] is None


def test_code_edited_while_it_ran_is_unknown(monkeypatch):
    again()
    monkeypatch.setattr(writer, "IMPORTED", 0)  # as if every source had been saved since
    assert not again().kept
    assert told()["sources"] is None
    assert not again().kept  # nothing may rely on it later
    monkeypatch.undo()


def test_a_notebook_is_known_by_its_code_whatever_its_outputs(tmp_path, monkeypatch):
    def save(code: str, outputs: list) -> str:
        cell = {"cell_type": "code", "source": [code], "outputs": outputs}
        (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
        monkeypatch.setenv("IRLIB_NOTEBOOK", str(tmp_path / "n.ipynb"))
        draw()
        return told()["notebook"]

    first = save("x = 1", [])
    assert first == save("x = 1", [{"text": "1"}]) != save("x = 2", [])
    monkeypatch.setenv("IRLIB_CODE", first)  # what the runner started
    assert save("x = 2", []) is None


def test_png_bytes_hold_a_readable_picture():
    draw()
    picture = Image.open(io.BytesIO(files()["png"][0]))
    assert min(picture.size) > 500
