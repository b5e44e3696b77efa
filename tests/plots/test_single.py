import numpy as np
import pandas as pd
import pytest

from irlib import attention_flow, llava_cam, load, load_task
from irlib.plots import attention_of


@pytest.fixture(scope="module")
def asked():
    vlm = load("mini-llava")
    return vlm, vlm.prepare(load_task("pope", n=1)[0])


def test_maps_show_the_layers_that_are_asked_for(asked):
    maps = llava_cam(*asked, "Yes")
    titles = [axes.get_title() for axes in maps.show(layers=[0, 4]).axes if axes.get_title()]
    assert titles == ["layer 0", "layer 4"]
    titles = [axes.get_title() for axes in maps.show().axes if axes.get_title()]
    assert len(titles) == 7
    assert (titles[0], titles[-1]) == ("layer 0", "layer 11")
    assert [a.get_title() for a in maps.show(3).axes if a.get_title()] == ["layer 3"]


def test_maps_of_some_layers_know_their_numbers(asked):
    some = llava_cam(*asked, "Yes", layers=[4, 9])
    assert [a.get_title() for a in some.show().axes if a.get_title()] == ["layer 4", "layer 9"]
    for strange in ([0], [12], [-1], [True], 12):
        with pytest.raises(ValueError, match=r"found the layers \[4, 9\]"):
            some.show(layers=strange)


def test_all_layers_stand_in_rows_that_do_not_touch(asked):
    figure = llava_cam(*asked, "Yes").show(layers=range(12))
    boxes = np.array([axes.get_position().extents for axes in figure.axes[2:]])
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            apart = (one[:2] >= other[2:]).any() or (other[:2] >= one[2:]).any()
            assert apart
    assert boxes.min() >= 0


def test_maps_of_an_empty_answer_are_not_shown(asked):
    with pytest.raises(ValueError, match="those of an empty answer"):
        llava_cam(*asked, "").show()


def test_a_flow_is_drawn_as_it_is(asked):
    """Oracle: the heights of the bars are the table's shares."""
    flow = attention_flow(*asked, "Yes")
    figure = attention_of(flow)
    heights = sorted(bar.get_height() for bar in figure.axes[0].patches)
    shares = sorted(flow.share.tolist() + [0.0] * (len(heights) - len(flow)))
    assert np.allclose(heights, shares, atol=1e-12)


def test_a_flow_of_two_models_is_refused(asked):
    flow = attention_flow(*asked, "Yes")
    with pytest.raises(ValueError, match="one model's attention, found"):
        attention_of(pd.concat([flow, flow.assign(model="other")]))


def test_the_layers_of_figure_5_are_named_below_the_strip_of_its_panels():
    from irlib.plots import truncation_curves

    rows = {"model": "m", "metric": "POPE Acc", "layer": range(5), "n": 9}
    band = pd.DataFrame(rows | {"value": 0.5, "low": 0.4, "high": 0.6})
    cliff = {"layer": 2, "low": 1, "high": 3, "margin": 0.05, "units": 9, "resolves": 0.1}
    cliffs = pd.DataFrame(
        [{"model": "m", "metric": "POPE Acc", "n_layers": 4, "blank": 0.3} | cliff]
    )
    figure = truncation_curves(band, cliffs, divergence=band[band["layer"] < 4])
    above, below = figure.axes
    figure.canvas.draw()
    assert [label.get_text() for label in below.get_xticklabels()][::4] == ["0", "never"]
    assert not any(label.get_visible() for label in above.get_xticklabels())
