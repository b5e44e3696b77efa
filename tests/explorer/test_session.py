"""A session: what a page may ask, in what order it is told, and that nothing piles up."""

import base64
import gc
import io
import os
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_sample, noise_picture
from PIL import Image

from irlib.explorer import session as module
from irlib.explorer.finding import Finder
from irlib.explorer.session import Session
from irlib.hooks.hooks import hooked


@pytest.fixture
def talk(tiny_llava, sample):
    told = []
    session = Session(tiny_llava, lambda name, panel: told.append((name, panel)))
    session.ask(lambda finder: finder.given(sample))
    return session, told


def hear(session, **message):
    thread = session.hear(message)
    if thread:
        thread.join()


def last(told, name="status"):
    return [panel for known, panel in told if known == name][-1]


def png(**options):
    made = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(made, "png", **options)
    return base64.b64encode(made.getvalue()).decode()


def test_a_question_is_told_panel_by_panel_and_ends_idle(talk):
    _, told = talk
    assert [name for name, _ in told if name != "status"] == ["asked", "shown", "strip"]
    assert [panel["busy"] for name, panel in told if name == "status"][-1] == ""
    parts = [panel["part"] for name, panel in told if name == "status" and panel["busy"]]
    assert parts == sorted(parts)
    assert len({panel["number"] for name, panel in told if name != "status"}) == 1


def test_words_are_computed_once_and_told_as_often_as_they_are_picked(talk, monkeypatch):
    session, told = talk
    hear(session, do="words", picked=[0])
    one = last(told, "shown")
    monkeypatch.setattr(module.reading, "shown", None)
    hear(session, do="words", picked=[])
    assert last(told, "shown")["picked"] == []
    hear(session, do="words", picked=[0])
    assert last(told, "shown") is one
    assert [pick["picked"] for pick in session.known()["picks"]] == [[], [0]]


def test_all_words_together_are_the_whole_answer(talk):
    session, told = talk
    every = list(range(len(last(told, "asked")["words"])))
    assert len(every) > 1
    hear(session, do="words", picked=every)
    assert last(told, "shown")["picked"] == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"do": "own", "question": "  "}, "write a question"),
        ({"do": "own"}, "write a question"),
        ({"do": "own", "question": "What?", "data": "AAAA", "name": "cat.png"}, "cat.png: asked"),
        ({"do": "own", "question": "What?", "data": "%%", "name": "cat.png"}, "no whole file"),
        ({"do": "own", "question": "What?", "data": png()[:60], "name": "cat.png"}, "cat.png"),
        ({"do": "own", "question": "What?", "data": "", "name": "cat.png"}, "found it empty"),
        ({"do": "own", "question": "What?", "path": "/nowhere/cat.png"}, "found no such file"),
        ({"do": "own", "question": "What is \ud800?"}, "half a letter"),
        ({"do": "own", "question": "What is <image> there?"}, "special token"),
        ({"do": "own", "question": "what " * 5000}, "positions"),
        ({"do": "row", "task": "vqa"}, "asked for the task 'vqa'"),
        ({"do": "words", "picked": [99]}, "no such words"),
        ({"do": "words", "picked": ["a"]}, "no such words"),
        ({"do": "words", "picked": 3}, "not iterable"),
        ({"do": "fly"}, "asked to do 'fly'"),
        ({"do": ["words"]}, "asked to do ['words']"),
        ({}, "asked to do None"),
    ],
)
def test_what_cannot_be_done_is_told_in_place_and_the_view_stays_usable(talk, message, error):
    session, told = talk
    before = session.known()
    hear(session, **message)
    assert error in last(told)["error"]
    assert last(told)["busy"] == ""
    assert session.known() == before
    hear(session, do="words", picked=[0])
    assert last(told)["error"] == ""
    assert last(told, "shown")["picked"] == [0]


def test_what_is_no_message_at_all_is_told_too(talk):
    session, told = talk
    session.hear(["do"])
    assert "asked to do None" in last(told)["error"]


def test_panels_before_any_question_are_refused_in_words(tiny_llava):
    told = []
    session = Session(tiny_llava, lambda name, panel: told.append((name, panel)))
    for do in ("words", "routes", "faithful"):
        hear(session, do=do)
        assert "ask a question first" in last(told)["error"]
    assert session.known() == {"picks": []}


def test_an_upload_and_a_question_about_it_keep_their_picture(talk):
    session, told = talk
    hear(session, do="own", question="What is in the picture?", data=png(), name="red.png")
    asked = last(told, "asked")
    assert (asked["task"], asked["key"], asked["right"]) == ("user", "red.png", None)
    assert (asked["picture"]["width"], asked["boxes"]) == (64, [])
    hear(session, do="own", question="Is there a red cat?")
    again = last(told, "asked")
    assert again["picture"] == asked["picture"]
    assert "inputs = vlm.prepare(picture, 'Is there a red cat?')" in again["python"]


def test_a_question_of_ones_own_about_a_rows_picture_has_not_that_rows_box(talk):
    session, told = talk
    assert len(last(told, "asked")["boxes"]) == 1
    hear(session, do="own", question="Is there a red cat?")
    assert last(told, "asked")["boxes"] == []


def test_a_new_question_ends_the_old_one(tiny_llava, talk, monkeypatch):
    session, told = talk
    begun, go, ran_on = threading.Event(), threading.Event(), []

    def slow(*_):
        begun.set()
        go.wait(120)
        tiny_llava.answer(session.read()[0])  # ends here, at its first module
        ran_on.append(True)
        return {}

    monkeypatch.setattr(module.reading, "routes", slow)
    first = session.hear({"do": "routes"})
    begun.wait(120)
    second = session.hear({"do": "own", "question": "Is there a red cat?"})
    go.set()
    first.join()
    second.join()
    assert last(told, "asked")["question"] == "Is there a red cat?"
    assert last(told)["error"] == ""
    assert ran_on == []
    assert "routes" not in session.known()


@pytest.fixture
def held(monkeypatch):
    """A panel that waits for `go` once it has begun, and then goes on to the model."""
    begun, go = threading.Event(), threading.Event()

    def hold(name):
        compute = getattr(module.reading, name)

        def slow(vlm, inputs, *more, **settings):
            begun.set()
            go.wait(120)
            vlm.answer(inputs)  # ends here, at its first module, if it is to end
            return compute(vlm, inputs, *more, **settings)

        monkeypatch.setattr(module.reading, name, slow)
        return begun, go

    return hold


def test_a_word_picked_while_the_picture_is_hidden_comes_first_and_the_strip_after(
    talk, held, sample
):
    session, told = talk
    whole = last(told, "strip")
    begun, go = held("strip")
    del told[:]
    first = session.ask(lambda finder: finder.given(sample), wait=False)
    begun.wait(120)
    second = session.hear({"do": "words", "picked": [0]})
    go.set()
    first.join()
    second.join()
    assert [name for name, _ in told if name != "status"] == ["asked", "shown", "shown", "strip"]
    assert last(told, "shown")["picked"] == [0]
    assert last(told, "strip")["answers"] == whole["answers"]
    assert last(told)["busy"] == ""


def test_what_is_asked_of_the_old_answer_does_not_end_a_new_question(talk, monkeypatch):
    session, told = talk
    begun, go = threading.Event(), threading.Event()
    compute = module.attention_rows

    def slow(*read):
        begun.set()
        go.wait(120)
        return compute(*read)

    monkeypatch.setattr(module, "attention_rows", slow)
    question = session.hear({"do": "own", "question": "Is there a red cat?"})
    begun.wait(120)
    assert [session.hear({"do": do, "picked": [0]}) for do in ("words", "routes")] == [None, None]
    go.set()
    question.join()
    assert last(told, "asked")["question"] == "Is there a red cat?"
    assert last(told, "strip")["number"] == last(told, "asked")["number"]
    hear(session, do="words", picked=[0])
    assert last(told, "shown")["picked"] == [0]


def test_words_of_an_answer_that_is_gone_are_left(talk):
    session, told = talk
    gone = last(told, "asked")["number"]
    hear(session, do="own", question="Is there a red cat?")
    assert session.hear({"do": "words", "picked": [0], "number": gone}) is None
    assert last(told, "shown")["picked"] == []
    hear(session, do="words", picked=[0], number=last(told, "asked")["number"])
    assert last(told, "shown")["picked"] == [0]


def test_a_pipe_is_no_picture_to_wait_for(talk, tmp_path):
    session, told = talk
    os.mkfifo(tmp_path / "pipe")
    hear(session, do="own", question="What?", path=str(tmp_path / "pipe"))
    assert "found no file" in last(told)["error"]


def test_an_error_that_nobody_thought_of_is_told_in_place_too(talk, monkeypatch):
    session, told = talk
    monkeypatch.setattr(module.reading, "routes", lambda *_: {}["nothing"])
    hear(session, do="routes")
    assert last(told)["error"] == "KeyError: 'nothing'"
    assert last(told)["busy"] == ""


def test_cancel_keeps_what_is_there_and_says_so(talk, monkeypatch):
    session, told = talk
    before = session.known()

    def slow(vlm, inputs, answer):
        session.hear({"do": "cancel"})
        return vlm.answer(inputs)

    monkeypatch.setattr(module.reading, "routes", slow)
    hear(session, do="routes")
    assert last(told)["note"] == "stopped"
    assert session.known() == before


def test_an_interrupted_wait_ends_idle(talk, monkeypatch):
    session, told = talk

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.reading, "shown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.pick_each()
    assert (last(told)["busy"], last(told)["note"]) == ("", "stopped")
    hear(session, do="words", picked=[0])
    assert last(told, "shown")["picked"] == [0]


def test_a_narrow_picture_in_tiles_is_told_whole_and_can_be_stopped(family, monkeypatch):
    vlm, told = family("llava_next"), []
    session = Session(vlm, lambda name, panel: told.append((name, panel)))
    narrow = replace(make_sample(noise_picture(30, 200, seed=0)), max_new_tokens=128)
    session.ask(lambda finder: finder.given(narrow))
    assert [name for name, _ in told if name != "status"] == ["asked", "shown", "strip"]
    assert last(told, "asked")["grid"]["rows"] > last(told, "asked")["grid"]["cols"]
    answers = module.reading.answers_by_layer

    def stopped(*read, **settings):
        session.hear({"do": "cancel"})
        return answers(*read, **settings)

    monkeypatch.setattr(module.reading, "answers_by_layer", stopped)
    hear(session, do="routes")
    assert last(told)["note"] == "stopped"
    assert "routes" not in session.known()


PICTURES = {
    "1x1": (1, 1, "RGB", "png"), "5000x20": (5000, 20, "RGB", "png"),
    "20x5000": (20, 5000, "RGB", "png"), "cmyk": (50, 40, "CMYK", "jpeg"),
    "16 bits": (50, 40, "I;16", "png"), "rgba": (50, 40, "RGBA", "png"),
    "two grey": (50, 40, "LA", "png"), "palette": (50, 40, "P", "gif"),
    "animated": (50, 40, "RGB", "webp"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_odd_pictures_have_maps(talk, name):
    session, told = talk
    wide, high, mode, form = PICTURES[name]
    made, picture = io.BytesIO(), noise_picture(wide, high, seed=0)
    if mode == "I;16":
        picture = Image.fromarray(257 * np.array(picture.convert("L"), "uint16"))
    else:
        picture = picture.convert(mode)
    more = {"save_all": True, "append_images": [picture]} if name == "animated" else {}
    picture.save(made, form, **more)
    data = base64.b64encode(made.getvalue()).decode()
    hear(session, do="own", question="What?", data=data, name=name)
    assert last(told)["error"] == ""
    asked = last(told, "asked")
    assert (asked["key"], asked["picture"]["width"], asked["picture"]["height"]) == (
        name, wide, high)  # fmt: skip
    assert last(told, "shown")["maps"]["post_attention/mean"]["peak"]


def test_many_questions_grow_neither_hooks_nor_what_is_kept(tiny_llava, sample):
    session = Session(tiny_llava, lambda *_: None)
    held, sizes = [], []
    for number in range(12):
        session.ask(lambda finder: finder.given(sample))
        hear(session, do="words", picked=[0])
        held.append(weakref.ref(session._read[1]))
        sizes.append(len(repr(session.known())))
        if number % 4 == 3:
            hear(session, do="own", question=" ")
    gc.collect()
    assert not hooked(tiny_llava.model)
    assert [one for one in held[:-1] if one() is not None] == []
    assert max(sizes) - min(sizes) < 100
    assert not [t for t in threading.enumerate() if t.name == "explorer"]


def test_rows_go_round_and_name_themselves():
    finder = Finder()
    first, beyond = finder.row("pope", 0), finder.row("pope", len(finder._rows["pope"]))
    assert beyond.sample.key == first.sample.key
    assert finder.row("pope", -1).place[1] == first.place[2] - 1
    assert first.said.inputs == f"load_task('pope', keys=[{first.sample.key!r}])[0]"


def test_another_picture_on_a_bundled_model_is_told_what_that_means(photograph):
    from irlib.models.loading import load

    told = []
    session = Session(load("mini-llava"), lambda name, panel: told.append((name, panel)))
    hear(session, do="own", question="What is in the picture?", path=str(photograph))
    assert "trained on the bundled drawings alone" in last(told)["note"]
    hear(session, do="row", task="pope", row=0)
    assert last(told)["note"] == ""
