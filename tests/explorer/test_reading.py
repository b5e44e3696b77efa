"""Each panel beside the instrument that it is of, on tiny models; and as strict JSON."""

import base64
import json

import numpy as np
import pytest
import torch

from irlib.attention import attention_flow, attention_map
from irlib.cam.cam import llava_cam
from irlib.evidence.rulers import faithfulness
from irlib.explorer import packing, reading
from irlib.explorer.lines import Said
from irlib.explorer.maps import attention_maps, attention_rows, cam_maps
from irlib.interventions.edges import knockout
from irlib.interventions.truncation import truncate

MODEL = {"name": "tiny", "sha256": "0"}
SAID = Said("None", "None, 'What?'")


@pytest.fixture
def read(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    return tiny_llava, inputs, answer, attention_rows(tiny_llava, inputs, answer)


def unpacked(panel, shape):
    whole = np.frombuffer(base64.b64decode(panel["data"]), {8: "u1", 16: "<u2"}[panel["bits"]])
    share = whole.reshape(shape) / (2 ** panel["bits"] - 1)
    return share * np.array(panel["peak"])[:, None, None]


def test_maps_of_the_whole_answer_are_llava_cams_at_each_site_and_pool(read):
    vlm, inputs, answer, _ = read
    made = cam_maps(vlm, inputs, answer, range(len(answer.ids[0])))
    for pool in ("mean", "token"):
        told = llava_cam(vlm, inputs, answer, site=list(vlm.sites), pool=pool)
        mine = {one.site: one for one in made if one.pool == pool}
        assert mine.keys() == told.keys()
        for site, maps in told.items():
            faint = 1e-6 * maps.heat.max()  # a sum of rounding, where the slope is none
            np.testing.assert_allclose(mine[site].heat, maps.heat, rtol=1e-5, atol=faint)
            if pool == "token":  # where a slope is rounding, both say that there is no heat
                assert ((mine[site].heat == 0) == (maps.heat == 0)).all()


def test_maps_of_one_token_are_llava_cams_of_that_target(read):
    vlm, inputs, answer, _ = read
    for token in (0, len(answer.ids[0]) - 1):
        told = llava_cam(vlm, inputs, answer, target=token)
        made = cam_maps(vlm, inputs, answer, [token])
        (mine,) = (m for m in made if (m.site, m.pool) == ("post_attention", "mean"))
        np.testing.assert_allclose(mine.heat, told.heat, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["llava_next", "instructblip", "qwen2_vl", "gemma3"])
def test_other_grids_have_llava_cams_maps_too(family, sample, name):
    vlm = family(name)
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs, max_new_tokens=3)
    if not answer.spoken:
        answer = type(answer)((torch.tensor([5, 6]),), ("x",), reader=vlm.reader)
    told = llava_cam(vlm, inputs, answer, site="mlp")
    made = cam_maps(vlm, inputs, answer, range(len(answer.ids[0])))
    (mine,) = (m for m in made if (m.site, m.pool) == ("mlp", "mean"))
    np.testing.assert_allclose(mine.heat, told.heat, rtol=1e-4, atol=1e-7 * told.heat.max())


def test_shares_of_the_whole_answer_are_attention_flows_with_the_first_token_apart(read):
    vlm, inputs, answer, attention = read
    told = reading.shown(vlm, inputs, answer, attention)
    flow = attention_flow(vlm, inputs, answer, first=True)
    flow = flow.pivot(index="segment", columns="layer", values="share").loc[told["segments"]]
    np.testing.assert_allclose(told["share"], flow.values, atol=1e-5)  # six digits are kept


def test_shares_and_attention_of_words_are_of_the_rows_before_their_tokens(read):
    vlm, inputs, answer, attention = read
    whole = attention_map(vlm, inputs, answer)
    row = inputs.length - 1 + 1  # predicts token 1
    image = inputs.spans.image[0].numpy()
    np.testing.assert_allclose(attention[:, 1], whole.weights[:, row], atol=1e-6)
    maps = attention_maps(vlm, inputs, attention, [1])
    seen = whole.weights[:, row, : len(image)][:, image]
    np.testing.assert_allclose(maps.heat, inputs.grid.lay(seen), atol=1e-6)


def test_picked_words_have_other_maps_than_the_whole_and_say_whose_they_are(read):
    vlm, inputs, answer, attention = read
    whole = reading.shown(vlm, inputs, answer, attention)
    words = reading.asked(vlm, inputs, answer, MODEL, said=SAID)["words"]
    one = reading.shown(vlm, inputs, answer, attention, picked=[0])
    assert (one["picked"], one["tokens"]) == ([0], words[0]["tokens"])
    assert whole["tokens"] == [*range(len(answer.ids[0]))]
    assert one["maps"]["mlp/mean"]["data"] != whole["maps"]["mlp/mean"]["data"]


def test_a_packed_map_is_the_map_and_what_lies_in_the_box_is_its_tables(read):
    vlm, inputs, answer, attention = read
    maps = llava_cam(vlm, inputs, answer, site="mlp", pool="token")
    told = reading.shown(vlm, inputs, answer, attention)["maps"]["mlp/token"]
    np.testing.assert_allclose(
        unpacked(told, maps.heat.shape), maps.heat, atol=1e-4 * maps.heat.max()
    )
    table = maps.table()
    for name in ("inside", "hit"):
        found = np.array([np.nan if v is None else v for v in told[name]], float)
        np.testing.assert_allclose(found, table[name].values.astype(float), rtol=1e-5)


def test_a_layer_whose_heat_is_rounding_alone_has_no_map(read):
    # behind the last but one block only a norm reads: what it gains by its own features is zero
    vlm, inputs, answer, attention = read
    last = vlm.n_layers - 2
    maps = llava_cam(vlm, inputs, answer, site="block", pool="token")
    assert maps.heat[last].max() == 0 < maps.heat.max()
    told = reading.shown(vlm, inputs, answer, attention)["maps"]["block/token"]
    assert (told["peak"][last], told["inside"][last]) == (0, None)
    assert told["peak"][0] > 0


def test_many_cells_are_packed_in_eight_bits():
    heat = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    told = packing.heat(heat, bits=8)
    np.testing.assert_allclose(unpacked(told, heat.shape), heat, atol=1 / 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_hottest_cell_stays_the_hottest_when_it_is_packed(bits):
    heat = np.array([[[0.0, 1 - 1e-7], [1.0, 0.5]]], np.float32)  # another is as high but for a bit
    told = unpacked(packing.heat(heat, bits=bits), heat.shape)
    assert told.argmax() == heat.argmax()


def test_the_strip_is_truncate_around_answer_layer_by_layer(read):
    vlm, inputs, answer, _ = read
    told = reading.strip(vlm, inputs, answer)
    most = min(inputs.limits()[0], len(answer.ids[0]) + reading.BEYOND)
    for layer, which in enumerate(told["which"]):
        with truncate(vlm, inputs, layer=layer):
            said = vlm.answer(inputs, max_new_tokens=most).text
        assert told["answers"][which].removesuffix(" …") == said
        assert (which == 0) == (said == answer.text)
    assert told["which"][-1] == 0
    assert all(told["which"][layer] == 0 for layer in range(told["keeps"], vlm.n_layers + 1))
    assert told["keeps"] == 0 or told["which"][told["keeps"] - 1] != 0


def test_a_route_is_knockout_around_answer_window_by_window(read):
    vlm, inputs, answer, _ = read
    told = reading.routes(vlm, inputs, answer, ["image>answer"])
    (edge,), window = told["edges"], told["window"]
    assert len(edge["which"]) == vlm.n_layers - window + 1
    for first, which in enumerate(edge["which"]):
        layers = range(first, first + window)
        with knockout(vlm, inputs, edge="image>answer", layers=layers):
            said = vlm.answer(inputs).text
        cut = edge["answers"][which]
        assert said == cut or (cut.endswith(" …") and said.startswith(cut.removesuffix(" …")))


def test_faithful_is_what_the_ruler_gives(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    told = reading.faithful(tiny_llava, inputs, tiny_llava.answer(inputs))
    table = faithfulness(tiny_llava, sample, ["token mlp"], sizes=[0.25]).iloc[0]
    assert told["maps"]["mlp/token"] == pytest.approx(
        [table["inserted"], table["deleted"]], rel=1e-4
    )


def test_without_a_picture_there_are_shares_and_an_answer_and_no_map(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    answer = tiny_llava.answer(inputs)
    asked = reading.asked(tiny_llava, inputs, answer, MODEL, said=SAID)
    assert (asked["picture"], asked["grid"]) == (None, None)
    shown = reading.shown(tiny_llava, inputs, answer, attention_rows(tiny_llava, inputs, answer))
    assert shown["maps"] == {}
    np.testing.assert_allclose(np.sum(shown["share"], 0), 1, atol=1e-4)
    assert reading.strip(tiny_llava, inputs, answer)["keeps"] == 0
    told = reading.routes(tiny_llava, inputs, answer)
    assert set(told["without"]) == {"image>question", "image>answer"}
    with pytest.raises(ValueError, match="found no picture"):
        reading.faithful(tiny_llava, inputs, answer)


def test_every_panel_is_strict_json(read):
    vlm, inputs, answer, attention = read
    panels = [
        reading.asked(vlm, inputs, answer, MODEL, said=SAID),
        reading.shown(vlm, inputs, answer, attention),
        reading.strip(vlm, inputs, answer),
        reading.routes(vlm, inputs, answer),
        reading.faithful(vlm, inputs, answer),
    ]
    for panel in panels:
        assert json.loads(json.dumps(panel, allow_nan=False)) == panel
