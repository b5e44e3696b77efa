"""An interrupt, wherever it comes, lets go of every row that was claimed."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from irlib.sweeps import filling
from irlib.sweeps.answers import Answers, Told
from irlib.sweeps.filling import fill

SETTING, LAYERS = {"model": "abc"}, [0, 1]
BLOCKS = [["a", "b"], ["c"], ["d"]]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture
def answers(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    return Answers(SETTING)


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("where", ["submit", "wait", "result", "add", "done"])
def test_claims_are_let_go_of_after_an_interrupt(where, at_once, answers, monkeypatch):
    under_way = []

    def submit(samples, layers):
        """A block that is under way on an executor; where it is told to be done, it is."""
        if where == "submit" and len(under_way) == at_once - 1:
            raise KeyboardInterrupt
        future = Future()
        if where == "result":
            future.set_exception(KeyboardInterrupt())
        elif where in ("add", "done"):
            future.set_result([(dict.fromkeys(LAYERS, Told("yes", 1.0, 0.0)), "")] * len(samples))
        under_way.append(future)
        return future

    monkeypatch.setattr(filling, "wait", interrupted if where == "wait" else filling.wait)
    monkeypatch.setattr(answers, "add", interrupted if where == "add" else answers.add)
    samples = {row: SimpleNamespace(task="t", key=row) for block in BLOCKS for row in block}
    options = {"layers": LAYERS, "submit": submit, "at_once": at_once}
    options |= {"done": interrupted} if where == "done" else {}
    with pytest.raises(KeyboardInterrupt) as told:
        fill(answers, BLOCKS, samples, **options)
    with Answers(SETTING).claim(samples) as others:  # another process may have every row
        assert others is not None
    assert told  # so that no claim is let go of merely because nothing refers to it any more
