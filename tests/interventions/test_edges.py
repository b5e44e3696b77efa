"""An edge that is cut: what attention becomes, and every layer at once against one run a layer."""

from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import hooks_on, wide_none_high

from irlib import knockout, load, load_task, truncate
from irlib.hooks.hooks import rows
from irlib.interventions.edges import EDGES, KINDS, edge_of
from irlib.interventions.prefill import run
from irlib.interventions.staircase import answers_by_layer, logits_by_layer

# Of the logits' standard deviation, as in test_staircase: float32 rounding of other kernels, masks
# and orders of summation through four layers.
CLOSE = 2e-5

every_family = pytest.mark.parametrize("name", list(families.FAMILIES))
both_ways = pytest.mark.parametrize("attention", ["sdpa", "eager"])
SPANS = {  # by kind and layer, of four layers
    "from": {0: [0, 1, 2, 3], 2: [2, 3], 3: [3], 4: []},
    "upto": {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2, 3], 4: []},
    "single": {0: [0], 2: [2], 3: [3], 4: []},
    "window": {0: [0, 1, 2], 1: [1, 2, 3], 4: []},
}


@pytest.fixture
def two():
    """A wide and a high picture; questions and limits of different length."""
    return wide_none_high(7, 1, 4)[::2]


def edges_of(vlm, inputs):
    """The edges that these rows have: where the picture comes first there is no system, and only
    where a prompt is seen both ways does an image see its question."""
    system = inputs.spans.system.any(1).all()
    return [
        edge
        for edge in EDGES
        if (system or "system" not in edge)
        and (edge != "question>image" or "pali" in vlm.family.title.lower())
    ]


@torch.no_grad()
def assert_all_layers_are_as_one_by_one(vlm, inputs, edge):
    for kind, spans in SPANS.items():
        found = logits_by_layer(vlm, inputs, layers=list(spans), edge=edge, kind=kind)
        wanted = []
        for layers in spans.values():
            with knockout(vlm, inputs, edge=edge, layers=layers):
                wanted.append(vlm.forward(inputs)[:, -1])
        wanted = torch.stack(wanted)
        assert (found - wanted).abs().max() <= CLOSE * wanted.std(), (edge, kind)
        moved = (wanted - wanted[-1]).abs().max()  # a window may not reach so far in layer 0
        assert moved > 100 * CLOSE * wanted.std(), (edge, kind)


@families.every_way
def test_logits_equal_those_of_one_run_a_layer(model_of, two, name, attention):
    vlm = model_of(name, attention)
    inputs = vlm.encode(vlm.prepare(two))
    edges = edges_of(vlm, inputs) if attention == "sdpa" else [EDGES[3], EDGES[4], EDGES[6]]
    assert {"image>question", "image>answer", "question>answer"} <= {*edges}
    for edge in edges:
        assert_all_layers_are_as_one_by_one(vlm, inputs, edge)
    alone = vlm.encode(vlm.prepare(two[0]))  # with sdpa's shortcuts
    for edge in ("image>question", "question>answer"):
        assert_all_layers_are_as_one_by_one(vlm, alone, edge)
    assert hooks_on(vlm.decoder) == 0


@every_family
@pytest.mark.parametrize(("attention", "edge", "kind"), [
    ("sdpa", "image>question", "upto"), ("eager", "image>answer", "window"),
    ("sdpa", "question>answer", "from"), ("sdpa", "image>answer", "single"),
])  # fmt: skip
def test_answers_and_their_numbers_equal_those_of_one_run_a_layer(
    model_of, two, name, attention, edge, kind
):
    vlm = model_of(name, attention)
    inputs, spans = vlm.encode(vlm.prepare(two)), SPANS[kind]
    found = answers_by_layer(vlm, inputs, layers=list(spans), edge=edge, kind=kind, logprob=True)
    untouched = vlm.answer(inputs)
    whole = inputs.followed_by(untouched)
    with torch.no_grad():
        before = vlm.forward(whole)[:, inputs.length - 1].double().log_softmax(-1)
    for layer, layers in spans.items():
        with torch.no_grad(), knockout(vlm, inputs, edge=edge, layers=layers):
            said = vlm.answer(inputs)
            chances = vlm.forward(whole).double().log_softmax(-1)
        assert [ids.tolist() for ids in found[layer].ids] == [ids.tolist() for ids in said.ids]
        after = chances[:, inputs.length - 1]
        kl = (before.exp() * (before - after)).sum(-1)
        assert np.allclose(found[layer].kl, kl, atol=1e-4)
        for row, ids in enumerate(untouched.ids):
            at = torch.arange(len(ids)) + inputs.length - 1
            assert found[layer].logprob[row] == pytest.approx(
                chances[row, at, ids].sum().item(), abs=1e-3
            )
    assert found[4].kl == (0, 0)


@pytest.mark.parametrize("name", ["llava", "internvl", "instructblip", "gemma3", "paligemma"])
@both_ways
def test_attention_is_what_is_left_without_the_cut_cells(model_of, two, name, attention):
    """Oracle: the untouched weights of the first changed layer, the cut cells set to 0 and the rest
    scaled to a sum of 1; the layers before it are as they were."""
    vlm = model_of(name, attention)
    inputs = vlm.encode(vlm.prepare(two))
    whole = inputs.followed_by(vlm.answer(inputs))
    with torch.no_grad(), rows(vlm.decoder, None) as untouched:
        vlm.forward(whole)
    for edge in edges_of(vlm, inputs):
        source, _, target = edge.partition(">")
        last = torch.arange(whole.length) == inputs.length - 1
        segments = {"system": whole.spans.system, "image": whole.spans.image,
                    "question": whole.spans.user & ~last}  # fmt: skip
        answer = last | (torch.arange(whole.length) >= inputs.length)
        segments["answer"] = answer.expand(len(inputs), -1)
        cut = segments[target][:, None, :, None] & segments[source][:, None, None]
        left = untouched[2] * ~cut
        left = left / left.sum(-1, keepdim=True)
        for given in (inputs, whole):  # a prompt that is followed by an answer, or both
            with (
                torch.no_grad(),
                knockout(vlm, given, edge=edge, layers=2),
                rows(vlm.decoder, None) as seen,
            ):
                vlm.forward(whole)
            real = whole.text["attention_mask"].bool()
            for layer, wanted in ((0, untouched[0]), (1, untouched[1]), (2, left)):
                gap = (seen[layer] - wanted).transpose(1, 2)[real].abs().max()
                assert gap < 1e-5, (edge, layer)
            assert (untouched[2] * cut).transpose(1, 2)[real].max() > 1e-3 or name == "gemma3"
            assert (seen[3] - untouched[3]).transpose(1, 2)[real].abs().max() > 1e-6


def test_text_is_cut_off_from_a_picture_as_truncation_does_it_where_all_edges_are_cut(
    tiny_llava, two
):
    """In llava all that stands behind the picture is the question and the answer."""
    inputs = tiny_llava.encode(tiny_llava.prepare(two))
    for layer in range(5):
        layers = range(layer, 4)
        with (
            knockout(tiny_llava, inputs, edge="image>question", layers=layers),
            knockout(tiny_llava, inputs, edge="image>answer", layers=layers),
        ):
            both = tiny_llava.answer(inputs)
        with truncate(tiny_llava, inputs, layer=layer):
            hidden = tiny_llava.answer(inputs)
        assert both.texts == hidden.texts


def test_rows_without_a_picture_have_a_question_that_can_be_cut(tiny_llava, two, text_sample):
    inputs = tiny_llava.encode(tiny_llava.prepare([*two, text_sample]))
    assert_all_layers_are_as_one_by_one(tiny_llava, inputs, "question>answer")
    for call in (
        lambda edge: edge_of(inputs, edge),
        lambda edge: logits_by_layer(tiny_llava, inputs, layers=[0], edge=edge),
        lambda edge: answers_by_layer(tiny_llava, inputs, layers=[4], edge=edge),
        lambda edge: knockout(tiny_llava, inputs, edge=edge, layers=[0]).__enter__(),
    ):
        with pytest.raises(ValueError, match=r"'image>question', found no image in it \(row 2: ta"):
            call("image>question")


def test_an_edge_that_no_row_looks_along_is_refused(model_of, two):
    for name, edge, found in (
        ("llava", "question>image", "that its target stands before its source"),
        ("instructblip", "system>answer", "no system in it"),
    ):
        vlm = model_of(name)
        inputs = vlm.prepare(two)
        with pytest.raises(ValueError, match=f"{edge}', found {found}"):
            logits_by_layer(vlm, inputs, layers=[0], edge=edge)
        with (
            pytest.raises(ValueError, match=f"{edge}', found {found}"),
            knockout(vlm, inputs, edge=edge, layers=[0]),
        ):
            pass
        assert hooks_on(vlm.decoder) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge": "image>text"}, r"edge 'image>text', found no such edge; use one of system>image"),
        ({"edge": ""}, "edge '', found no such edge"),
        ({"edge": "answer>image"}, "found no such edge"),
        ({"edge": None, "kind": "upto"}, "the layers 'upto' and no edge"),
        ({"kind": "before"}, "the layers 'before', found no such kind; use one of from, upto"),
        ({"kind": "window", "window": 3, "layers": [2]}, r"3 layers from layer 2 on, found 4 laye"),
        ({"kind": "window", "window": 5, "layers": [0]}, "window of 5 layers, found 4 layers"),
        ({"kind": "window", "window": 0}, "window=0, found it out of range"),
        ({"layers": [5]}, r"layer=5, found it out of range; .* in 0\.\.4"),
        ({"keep": 2, "layers": [1]}, "keep 2 image tokens and to cut the edge"),
    ],
)
def test_what_is_no_edge_and_no_window_is_refused(tiny_llava, two, options, message):
    inputs = tiny_llava.prepare(two)
    for call in (answers_by_layer, logits_by_layer):
        with pytest.raises(ValueError, match=message):
            call(tiny_llava, inputs, **{"layers": [0], "edge": "image>question"} | options)


def test_layers_of_a_knockout_are_counted(tiny_llava, two):
    inputs = tiny_llava.prepare(two)
    for layers, message in ((4, r"layers\[0\]=4, found it out of range"), ("0", "found a str")):
        with (
            pytest.raises(ValueError, match=message),
            knockout(tiny_llava, inputs, edge="image>answer", layers=layers),
        ):
            pass
    with (
        knockout(tiny_llava, inputs, edge="image>answer", layers=[0]),
        pytest.raises(ValueError, match="use the inputs it was given"),
    ):
        tiny_llava.forward(tiny_llava.prepare([two[0], replace(two[0], image=two[1].image)]))


def test_only_what_can_feel_a_cut_is_computed_again(model_of, two):
    for name, edge, carried in (
        ("llava", "image>answer", lambda spans, length: 1),
        ("llava", "image>question", lambda spans, length: int(spans.user.sum())),
        ("llava", "system>image", lambda spans, length: length - int(spans.system.sum())),
        ("instructblip", "image>question", lambda spans, length: int(spans.user.sum())),
        ("paligemma", "image>answer", lambda spans, length: length),  # sees its prompt both ways
    ):
        inputs = model_of(name).prepare(two[0])
        made = run(model_of(name), inputs, layers=[0], edge=edge, whole=False)
        assert made.states[0].shape[1] == carried(inputs.spans, inputs.length)
        assert made.keys[0][0].shape[2] <= inputs.length - 1


def test_bundled_model_reads_straight_and_finds_by_way_of_the_question():
    """The shape that was measured on other rows: presence goes image > question > answer, reading
    from the image to the answer; and each layer's answers are those of its own run."""
    vlm, layers = load("mini-llava"), range(12)
    for task, straight in (("pope", False), ("textvqa", True)):
        inputs = vlm.encode(vlm.prepare(load_task(task, n=8)))
        found = answers_by_layer(vlm, inputs, layers=[0, 12], edge="image>answer")
        changed = [a != b for a, b in zip(found[0].texts, found[12].texts, strict=True)]
        assert all(changed) if straight else not any(changed)
        with knockout(vlm, inputs, edge="image>answer", layers=layers):
            assert vlm.answer(inputs).texts == found[0].texts


def test_every_kind_is_tried(two):
    assert set(SPANS) == set(KINDS)
