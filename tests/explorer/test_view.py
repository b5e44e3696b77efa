"""`explore`: a widget whose panels are there at once, a figure, and one file."""

import json
import re
import threading

import pytest
from PIL import Image

from irlib.explorer.view import View, explore


@pytest.fixture
def view(tiny_llava, sample):
    return explore(tiny_llava, sample, layer=1)


def test_all_panels_are_there_when_it_is_made(view, tiny_llava):
    assert view.layer == 1
    assert view.asked["layers"] == tiny_llava.n_layers
    assert set(view.shown["maps"]) >= {"post_attention/mean", "block/token", "attention"}
    assert len(view.strip["which"]) == tiny_llava.n_layers + 1
    assert view.status["busy"] == ""
    assert view.asked["question"] in repr(view)


def test_the_first_layer_is_the_middle_one_by_default(tiny_llava, sample):
    assert explore(tiny_llava, sample).layer == tiny_llava.n_layers // 2


@pytest.mark.parametrize("layer", [4, -1, 1.5, True])
def test_a_layer_that_the_model_lacks_is_refused(tiny_llava, sample, layer):
    with pytest.raises(ValueError, match=rf"asked for layer={layer}, .*whole number in 0\.\.3"):
        explore(tiny_llava, sample, layer=layer)


def test_a_layer_set_later_is_one_of_the_models_too(view):
    for layer in (4, -1):
        with pytest.raises(ValueError, match=rf"asked for layer={layer}"):
            view.layer = layer
    assert view.layer == 1


def test_two_samples_are_no_one_question(tiny_llava, sample):
    with pytest.raises(ValueError, match="asked to explore 2 samples"):
        explore(tiny_llava, [sample, sample])


def test_a_kept_page_tells_what_must_be_known_of_the_picture(photograph):
    from irlib.models.loading import load

    view = explore(load("mini-llava"), image=photograph, question="What is in the picture?")
    told = re.search(r'id="told">(.*?)</script>', view.html(), re.DOTALL)[1]
    assert "trained on the bundled drawings alone" in json.loads(told)["status"]["note"]


@pytest.mark.filterwarnings("ignore:the question")
def test_a_first_question_that_cannot_be_asked_is_refused(tiny_llava, picture):
    with pytest.raises(ValueError, match="found the question None"):
        explore(tiny_llava, image=picture)
    with pytest.raises(ValueError, match="positions"):
        explore(tiny_llava, picture, "what " * 5000)


def test_a_picture_and_a_question_of_ones_own_will_do(tiny_llava, photograph):
    view = explore(tiny_llava, image=photograph, question="What is in the picture?")
    assert (view.asked["task"], view.asked["key"]) == ("user", "grace_hopper.jpg")


def test_a_sample_without_a_picture_has_shares_and_no_map(tiny_llava, text_sample):
    view = explore(tiny_llava, text_sample)
    assert (view.asked["picture"], view.shown["maps"]) == (None, {})
    with pytest.raises(ValueError, match="without a picture"):
        view.figure()


def test_with_nothing_asked_it_is_the_first_row_of_textvqa(tiny_llava):
    view = explore(tiny_llava)
    assert view.asked["place"][:2] == ("textvqa", 0)


def test_a_message_of_the_page_reaches_the_session_and_the_page_comes_back(view, monkeypatch):
    sent = []
    monkeypatch.setattr(View, "send", lambda _, content: sent.append(content))
    view._handle_custom_msg({"do": "words", "picked": [0]}, [])
    for thread in threading.enumerate():
        if thread.name == "explorer":
            thread.join()
    assert view.shown["picked"] == [0]
    view._handle_custom_msg({"do": "page"}, [])
    assert sent[-1]["page"].startswith("<!doctype html>")


def test_the_figure_is_of_the_layer_asked_for(view):
    titles = [axes.get_title() for axes in view.figure(2).axes]
    assert "LLaVA-CAM, layer 2" in titles
    assert "LLaVA-CAM, layer 1" in [axes.get_title() for axes in view.figure().axes]


def told(path):
    return json.loads(re.search(r'id="told">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_saved_file_holds_the_panels_and_the_words_that_were_picked(view, tmp_path):
    path = view.save(tmp_path / "view.html")
    panels = told(path)
    assert panels["asked"]["answer"] == view.asked["answer"]
    assert panels["layer"] == 1
    assert [pick["picked"] for pick in panels["picks"]] == [[]]
    every = [pick["picked"] for pick in told(view.save(path, words=True))["picks"]]
    assert every == [[], *([place] for place in range(len(view.asked["words"])))]
    assert view.shown["picked"] == []
    assert path.stat().st_size < 3e6


def test_a_saved_file_tells_no_place_of_this_machine(view, tmp_path, tiny_folder):
    text = view.save(tmp_path / "view.html").read_text()
    assert str(tiny_folder.parent) not in text
    assert str(tmp_path) not in text


def test_a_large_photograph_stays_small_in_the_file_and_keeps_its_size(tiny_llava, tmp_path):
    from conftest import noise_picture

    view = explore(tiny_llava, noise_picture(3000, 2000, seed=0), "What is in the picture?")
    assert (view.asked["picture"]["width"], view.asked["grid"]["frame"][3]) == (3000, 2000)
    assert view.asked["picture"]["url"].startswith("data:image/jpeg;base64,")
    assert view.save(tmp_path / "view.html").stat().st_size < 3e6


def test_python_makes_the_same_answer_and_map(tmp_path, monkeypatch):
    from irlib import load, load_task

    view = explore(load("mini-llava"), load_task("pope", n=1, seed=2)[0])
    names = {}
    exec("\n".join(view.asked["python"]), names)
    assert names["answer"].text == view.asked["answer"]
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 60), "red").save("cat.png")
    view = explore(load("mini-llava"), "cat.png", "Is there a cat?")
    exec("\n".join(view.asked["python"]), names)
    assert names["answer"].text == view.asked["answer"]
