"""The explorer: a slider, a picture that follows it, refusals where there is nothing to show."""

import pytest

from irlib.attention import attention_flow
from irlib.explorer.view import explore


def test_slider_counts_layers_from_zero_and_begins_where_asked(tiny_llava, sample):
    view = explore(tiny_llava, sample, layer=2)
    slider, picture = view.children
    assert (slider.min, slider.max, slider.value) == (0, tiny_llava.n_layers - 1, 2)
    assert picture.value == view.figures[2].png(150)


def test_moving_the_slider_shows_that_layers_figure(tiny_llava, sample):
    view = explore(tiny_llava, sample, layer=0)
    slider, picture = view.children
    before = picture.value
    slider.value = 1
    assert picture.value == view.figures[1].png(150)
    assert picture.value != before
    slider.value = 0
    assert picture.value == before


def test_the_first_view_is_in_the_middle_by_default(tiny_llava, sample):
    view = explore(tiny_llava, sample)
    assert list(view.figures) == [tiny_llava.n_layers // 2]


def test_the_view_prints_question_and_shares_of_its_layer(tiny_llava, sample):
    figure = explore(tiny_llava, sample, layer=1).figures[1]
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    inputs = tiny_llava.prepare(sample)
    flow = attention_flow(tiny_llava, inputs, tiny_llava.answer(inputs))
    share = flow.query("layer == 1 and segment == 'image'")["share"].item()
    assert f"image\n{100 * share:.0f} %" in words
    heads = [text.get_text() for text in figure.texts]
    assert heads[0] == tiny_llava.name
    assert any(text.startswith(sample.question) for text in heads)


def test_a_picture_and_a_question_of_ones_own_will_do(tiny_llava, photograph):
    view = explore(tiny_llava, image=photograph, question="What is in the picture?", layer=1)
    assert list(view.figures) == [1]


def test_settings_reach_llava_cam(tiny_llava, sample):
    last = tiny_llava.n_layers - 1
    paper, input_norm = (
        explore(tiny_llava, sample, layer=last, site=site).figures[last].axes[1]
        for site in ("post_attention", "input_norm")
    )
    assert "zero" in [text.get_text() for text in paper.texts]
    assert "zero" not in [text.get_text() for text in input_norm.texts]


@pytest.mark.parametrize("layer", [4, -1, 1.5, True])
def test_a_layer_that_the_model_lacks_is_refused(tiny_llava, sample, layer):
    with pytest.raises(ValueError, match=rf"asked for layer={layer}, .*whole number in 0\.\.3"):
        explore(tiny_llava, sample, layer=layer)


def test_a_sample_without_a_picture_is_refused(tiny_llava, text_sample):
    with pytest.raises(ValueError, match="without a picture"):
        explore(tiny_llava, text_sample)


@pytest.mark.parametrize("wrong", [{"layers": [1]}, {"site": ["mlp", "block"]}])
def test_some_layers_or_several_sites_are_refused(tiny_llava, sample, wrong):
    with pytest.raises(ValueError, match="leave layers out and name one site"):
        explore(tiny_llava, sample, **wrong)
