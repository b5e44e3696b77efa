"""A sweep of a cut edge: the table, the store and what is refused."""

import pytest
import torch
from conftest import make_sample, noise_picture
from pandas.testing import assert_frame_equal

from irlib import knockout, sweep
from irlib.sweeps import blocks


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def many():
    return [make_sample(noise_picture(40 + i, 50, seed=i), f"What is {i}?", f"s{i}")
            for i in range(3)]  # fmt: skip


@pytest.fixture
def computed(monkeypatch):
    """The settings of every batch that is computed, filled as it happens."""
    asked, real = [], blocks.answers_by_layer

    def count(vlm, inputs, **options):
        asked.append(options)
        return real(vlm, inputs, **options)

    monkeypatch.setattr(blocks, "answers_by_layer", count)
    return asked


LAYERS = {  # of four layers, by kind and what a row's layer says
    "from": {0: [0, 1, 2, 3], 1: [1, 2, 3], 2: [2, 3], 3: [3], 4: []},
    "upto": {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2, 3], 4: []},
    "single": {0: [0], 1: [1], 2: [2], 3: [3], 4: []},
    "window": {0: [0, 1, 2], 1: [1, 2, 3], 4: []},
}


def run(vlm, samples, **options):
    return sweep(vlm, samples, **{"batch_size": 2, "progress": False} | options)


@pytest.mark.parametrize("kind", list(LAYERS))
def test_each_row_says_what_one_knockout_says(tiny_llava, many, kind):
    table = run(tiny_llava, many, edge="image>question", kind=kind, logprob=True)
    assert len(table) == 3 * len(LAYERS[kind])
    assert set(table["edge"]) == {"image>question"}
    assert set(table["span"]) == {kind}
    told = table.set_index(["sample", "layer"])
    for sample in many:
        inputs = tiny_llava.prepare(sample)
        whole = inputs.followed_by(answer := tiny_llava.answer(inputs))
        for layer, layers in LAYERS[kind].items():
            with knockout(tiny_llava, inputs, edge="image>question", layers=layers):
                assert told.loc[sample.key, layer]["answer"] == tiny_llava.answer(inputs).text
                with torch.no_grad():
                    logits = tiny_llava.forward(whole)[0, inputs.length - 1 : -1]
            left = logits.log_softmax(-1).gather(1, answer.ids[0][:, None]).sum().item()
            assert told.loc[sample.key, layer]["logprob"] == pytest.approx(left, abs=1e-3)
            assert told.loc[sample.key, layer]["width"] == len(layers)
    assert (table["kl"] > 1e-4).any()


def test_every_edge_kind_and_window_is_kept_for_itself(tiny_llava, many, computed):
    settings = [
        {}, {"edge": "image>question"}, {"edge": "image>answer"},
        {"edge": "image>answer", "kind": "single"}, {"edge": "image>answer", "kind": "window"},
        {"edge": "image>answer", "kind": "window", "window": 2},
    ]  # fmt: skip
    tables = [run(tiny_llava, many, **setting) for setting in settings]
    assert len(computed) == 2 * len(settings)
    for setting, table in zip(settings, tables, strict=True):
        assert_frame_equal(run(tiny_llava, many, **setting), table)
    run(tiny_llava, many, edge="image>answer", window=7 - 3)  # a window that is not looked at
    assert len(computed) == 2 * len(settings)
    assert not {"edge", "span", "width"} & {*tables[0].columns}
    assert [len(table) // 3 for table in tables] == [5, 5, 5, 5, 3, 4]


def test_rows_that_have_no_such_edge_are_named_and_the_others_kept(
    tiny_llava, many, text_sample, computed
):
    with pytest.raises(ValueError, match="found 1 that could not be had") as told:
        run(tiny_llava, [*many, text_sample], edge="image>answer")
    assert "asked to cut the edge 'image>answer', found no image in it" in str(told.value)
    assert "leave that row out" in str(told.value)
    computed.clear()
    run(tiny_llava, many, edge="image>answer")
    assert computed == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge": "image>text"}, "found no such edge; use one of system>image"),
        ({"edge": "image>answer", "kind": "on"}, "the layers 'on', found no such kind"),
        ({"kind": "window"}, "the layers 'window' and no edge"),
        ({"edge": "image>answer", "keep": 1}, "keep 1 image tokens and to cut"),
        ({"edge": "image>answer", "kind": "window", "window": 5}, "window of 5 layers, found 4"),
        ({"edge": "image>answer", "kind": "window", "layers": [2]}, "begin at most at 1"),
        ({"edge": "image>answer", "kind": "window", "window": 1.5}, "window=1.5, found a float"),
        ({"edge": "image>answer", "layers": [5]}, r"layers\[0\]=5, found it out of range"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    tiny_llava, many, computed, options, message
):
    with pytest.raises(ValueError, match=message):
        run(tiny_llava, many, **options)
    assert computed == []
