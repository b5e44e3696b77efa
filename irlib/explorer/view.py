"""The interactive view: a slider over the layers, the map on the picture, the attention."""

import ipywidgets

from irlib import doors
from irlib.attention import attention_flow
from irlib.cam.cam import llava_cam
from irlib.plots import caption, explore_view


def explore(
    vlm, sample=None, question: str | None = None, *, image=None, layer: int | None = None, **cam
) -> ipywidgets.VBox:
    """Return a widget over one sample, or over any picture and question.

    Moving the slider shows LLaVA-CAM at that layer beside the answer's attention by segment; it
    begins at `layer` (the middle one if None), counted from 0. `cam` goes to llava_cam(): one site,
    noise, n, target. The widget's `figures` holds the views by layer, as drawn so far;
    `figures[layer]` is a plain figure for a page without widgets.

    Raises ValueError for a layer out of range, for some layers or several sites, and for a sample
    without a picture.

    >>> from irlib import load, load_task
    >>> view = explore(load("mini-llava"), load_task("pope", n=1)[0], layer=3)
    >>> sorted(view.figures)
    [3]
    """
    inputs = vlm.prepare(sample, question, image=image)
    layer = vlm.n_layers // 2 if layer is None else layer
    layer = doors.count("layer", layer, most=vlm.n_layers - 1)
    if "layers" in cam or not isinstance(cam.get("site", ""), str):
        raise ValueError(
            "explore was asked for some layers or several sites; it shows every layer of one site; "
            "leave layers out and name one site"
        )
    answer = vlm.answer(inputs)
    maps = llava_cam(vlm, inputs, answer, **cam)
    flow = attention_flow(vlm, inputs, answer)
    (asked,) = inputs.samples
    title = (
        caption(asked, answer.text) if asked.reference else f"{asked.question}  →  {answer.text}"
    )
    figures = {}

    def show(number: int) -> bytes:
        if number not in figures:
            figures[number] = explore_view(flow, maps, title, layer=number)
        return figures[number].png(150)

    slider = ipywidgets.IntSlider(
        value=layer, min=0, max=vlm.n_layers - 1, description="layer", continuous_update=False
    )
    picture = ipywidgets.Image(value=show(layer), format="png", width=840)
    slider.observe(lambda change: setattr(picture, "value", show(change["new"])), names="value")
    view = ipywidgets.VBox([slider, picture])
    view.figures = figures
    return view
