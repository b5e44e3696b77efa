"""The lines of Python that a page gives: run as they stand, they make what the page shows."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import noise_picture

from irlib import load, load_task
from irlib.explorer.finding import Finder
from irlib.explorer.session import Session
from irlib.explorer.view import explore
from irlib.store import root
from irlib.tasks import Box, Sample

FRONT = root() / "irlib/explorer/front"


@pytest.fixture(scope="module")
def vlm():
    """The bundled model, which any reader's lines can load."""
    return load("mini-llava")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, with a picture and a table of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    noise_picture(60, 40, seed=0).save("pictures/cat.png")
    (tmp_path / "my.csv").write_text("image,question,answer\npictures/cat.png,What is it?,cat\n")
    return tmp_path


def made(session):
    """The names that the lines of a session make, each picture's note obeyed."""
    asked = session.known()["asked"]
    names = {}
    exec("\n".join(asked["python"]), names)
    inputs, answer = session.read()
    assert names["inputs"].text["input_ids"].tolist() == inputs.text["input_ids"].tolist()
    assert names["answer"].text == answer.text == asked["answer"]
    if inputs.pictures[0] is not None:
        assert (np.array(names["inputs"].pictures[0]) == np.array(inputs.pictures[0])).all()
    assert names["inputs"].samples[0].boxes == inputs.samples[0].boxes
    return names


def asked(vlm, **message):
    session = Session(vlm, lambda *_: None)
    session.hear(message).join()
    return session


@pytest.mark.parametrize("task", ["pope", "scienceqa", "chair"])
def test_a_row_is_loaded_by_its_key_and_so_is_its_picture_for_another_question(vlm, task):
    session = asked(vlm, do="row", task=task, row=2)
    assert made(session)["inputs"].samples[0] == session.read()[0].samples[0]
    session.hear({"do": "own", "question": "Is there a cat?"}).join()
    made(session)
    if session.read()[0].pictures[0] is not None:
        assert "[0].image, 'Is there a cat?'" in session.known()["asked"]["python"][3]


def test_a_path_is_a_path(vlm, here):
    session = asked(vlm, do="own", path="pictures/cat.png", question='Is it "a cat"?\nOr not?')
    made(session)
    session.hear({"do": "own", "question": "And now?"}).join()
    assert session.known()["asked"]["python"][3] == (
        "inputs = vlm.prepare('pictures/cat.png', 'And now?')"
    )
    session.hear({"do": "own", "question": "What is a cat?", "bare": True}).join()
    made(session)


def test_of_an_upload_the_lines_say_that_its_path_is_wanted(vlm, here):
    data = base64.b64encode((here / "pictures/cat.png").read_bytes()).decode()
    told = {"do": "own", "data": data, "name": "cat.png"}
    session = asked(vlm, **told, question="What is it?")
    with pytest.raises(FileNotFoundError, match=r"cat\.png"):
        made(session)
    shutil.copy("pictures/cat.png", "cat.png")  # which is what the line asks for
    made(session)
    session.hear({"do": "own", "question": "And now?"}).join()
    made(session)
    lines = session.known()["asked"]["python"]
    assert lines[3].startswith("picture = 'cat.png'  # an upload")
    assert lines[4] == "inputs = vlm.prepare(picture, 'And now?')"


def test_a_row_of_ones_own_table_is_written_out_with_its_prompt(vlm, here):
    (row,) = load_task("my.csv")
    session = explore(vlm, row).session
    names = made(session)
    assert names["sample"] == row
    session.hear({"do": "own", "question": "And now?"}).join()
    made(session)
    assert "sample" not in "\n".join(session.known()["asked"]["python"])


def test_pixels_have_no_path_and_the_lines_say_where_one_belongs(vlm, here):
    picture = noise_picture(50, 60, seed=1)
    whole = Sample(
        task="mine", key="a", question="Is it?", prompt="Is it? Say yes or no.", image=picture,
        reference={"answers": ["yes"]}, boxes=(Box(label="it", x0=1, y0=2, x1=9.5, y1=9),),
        max_new_tokens=5, kind="odd",
    )  # fmt: skip
    for view in (explore(vlm, picture, "What is it?"), explore(vlm, whole)):
        (line,) = (one for one in view.asked["python"] if one.startswith("picture ="))
        assert "it came as pixels" in line
        picture.save("picture.png")
        made(view.session)


def test_a_row_that_load_task_gives_otherwise_is_written_out(vlm, here):
    (bare,) = load_task("pope", n=1, style="bare")
    lines = explore(vlm, bare).asked["python"]
    assert "sample = Sample(" in lines
    assert not any("load_task" in line for line in lines)
    (held,) = load_task("pope", n=1, source="held")
    told = [Finder(source).given(held).said.inputs for source in ("bundled", "held")]
    assert told == ["sample", f"load_task('pope', keys=[{held.key!r}], source='held')[0]"]


def test_a_model_in_a_folder_has_a_note_and_a_bundled_one_none(tiny_llava, vlm, sample):
    assert "# a folder" in "\n".join(explore(tiny_llava, sample).asked["python"])
    assert "# a folder" not in "\n".join(explore(vlm, sample).asked["python"])


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")
@pytest.mark.parametrize("site", ["mlp", "attends"])
@pytest.mark.parametrize("picture", [True, False])
def test_all_lines_of_the_button_run(vlm, here, site, picture):
    view = explore(vlm, "pictures/cat.png" if picture else None, "What is a cat?")
    view.session.hear({"do": "words", "picked": [0]}).join()
    told = {
        "panels": {"asked": view.asked, "shown": view.shown},
        "state": {"site": site, "pool": "token", "layer": 3, "picked": [0]},
    }
    code = f'import {{ python }} from "./save.js"; console.log(python({json.dumps(told)}))'
    order = ["node", "--input-type=module", "-e", code]
    lines = subprocess.run(order, check=True, capture_output=True, text=True, cwd=FRONT).stdout
    names = {}
    exec(lines, names)
    assert names["answer"].text == view.asked["answer"]
    assert names["hidden"] == view.strip["answers"][view.strip["which"][3]]
    assert ("maps" in names) == (picture and site == "mlp")
    assert len(names["flow"])
