"""`explore`: the view of one question as a widget in a notebook, and as a file."""

from pathlib import Path

import anywidget
import traitlets
from matplotlib.figure import Figure

from irlib import doors, store
from irlib.attention.flow import attention_flow
from irlib.cam.cam import llava_cam
from irlib.explorer.page import MOST, page, script, style
from irlib.explorer.session import Session
from irlib.plots.explore import explore_view
from irlib.tasks.samples import Sample


class View(anywidget.AnyWidget):
    """The view as a widget: what it shows are its panels, plain dicts; `hear` is what a page asks.

    `asked`, `shown`, `strip`, `routes`, `faithful` and `status` are described in explorer.reading.
    """

    _esm, _css = script(), style()
    layer = traitlets.Int().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    strip = traitlets.Dict().tag(sync=True)
    routes = traitlets.Dict().tag(sync=True)
    faithful = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)

    def __init__(self, vlm, *, source: str = "bundled", layer: int):
        self.session = Session(vlm, lambda name, panel: setattr(self, name, panel), source=source)
        super().__init__(layer=layer)
        self.on_msg(lambda _, message, __: self.hear(message))

    @traitlets.validate("layer")
    def _within(self, proposed: dict) -> int:
        return doors.count("layer", proposed["value"], most=self.session.vlm.n_layers - 1)

    def __repr__(self) -> str:
        asked = self.asked or {"model": self.session.vlm.name, "asked": "", "answer": ""}
        return f"View({asked['model']}: {asked['asked']} → {asked['answer']})"

    def hear(self, message: dict) -> None:
        """Do what the page asks for."""
        if message == {"do": "page"}:
            self.send({"page": self.html()})
        else:
            self.session.hear(message)

    def figure(self, layer: int | None = None) -> Figure:
        """One layer of the whole answer as a plain figure, for pages that run no widgets; the first
        one shown if None. Raises ValueError for a layer out of range and where there is no map.
        """
        vlm, (inputs, answer) = self.session.vlm, self.session.read()
        flow, maps = attention_flow(vlm, inputs, answer), llava_cam(vlm, inputs, answer)
        layer = self.layer if layer is None else layer
        return explore_view(flow, maps, f"{self.asked['asked']}  →  {answer.text}", layer=layer)

    def html(self) -> str:
        """The view as one HTML document that needs no kernel and no network.

        It holds the maps of the whole answer and of the words picked so far. Raises ValueError
        where there is no answer yet, and where the page would pass 3 MB.
        """
        return document(self.session, layer=self.layer)

    def save(self, path: str | Path, *, words: bool = False) -> Path:
        """Write `html()` to a file and return its path; with `words` the maps of each word too.

        >>> import tempfile
        >>> from irlib import load, load_task
        >>> view = explore(load("mini-llava"), load_task("pope", n=1)[0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     view.save(f"{folder}/view.html").name
        'view.html'
        """
        path = doors.path("path", path)
        if doors.flag("words", words):
            self.session.pick_each()
        store.write(path, self.html().encode())
        return path


def document(session: Session, *, layer: int | None = None) -> str:
    """The page of what a session has told; raises as `View.html` does."""
    told = session.known()
    if "asked" not in told:
        raise ValueError("asked for a page, found no answer yet; ask a question first")
    asked = told["asked"]
    status = {"note": "\n".join(session.beyond())}
    made = page(
        {"layer": layer, "status": status, **told}, title=f"{asked['model']}: {asked['asked']}"
    )
    if (size := len(made.encode())) > MOST:
        raise ValueError(
            f"asked for a page, found {size / 1e6:.1f} MB, {len(told['picks'])} picks of words in "
            f"it; {MOST / 1e6:.0f} MB are the most: ask again, and pick fewer words"
        )
    return made


def explore(
    vlm,
    sample: Sample | None = None,
    question: str | None = None,
    *,
    image=None,
    layer: int | None = None,
    source: str = "bundled",
) -> View:
    """Return the interactive view of one question: a widget, and with `view.save` one HTML file.

    Left what is asked: a row of a task in `source`, a path, an upload, a question, and the answer
    as words to pick. In the middle the heat of the picked words on the picture, layer by layer:
    LLaVA-CAM at each site, slopes as a mean or token by token, and the attention of the answer's
    rows. Right the answer's attention by segment, the answer with the picture hidden from each
    layer on, and with routes cut. `sample` and `question` are what `vlm.prepare` takes; TextVQA's
    first row if None. It begins at `layer`, counted from 0, the middle one if None.

    What is asked in the view is computed in the background, one question at a time: leave the model
    alone meanwhile. Raises ValueError for a layer out of range, and where this first question
    cannot be asked.

    >>> from irlib import load, load_task
    >>> view = explore(load("mini-llava"), load_task("pope", n=1)[0], layer=3)
    >>> view.shown["segments"][:2], len(view.strip["which"])
    (['first', 'system'], 13)
    """
    layer = vlm.n_layers // 2 if layer is None else layer
    layer = doors.count("layer", layer, most=vlm.n_layers - 1)
    view = View(vlm, source=source, layer=layer)
    if sample is None and question is None and image is None:
        view.session.ask(lambda finder: finder.row("textvqa", 0))
    else:
        asked = vlm.prepare(sample, question, image=image).samples
        if len(asked) != 1:
            raise ValueError(
                f"asked to explore {len(asked)} samples, found a view of one question; give one"
            )
        view.session.ask(lambda finder: finder.given(asked[0]))
    if view.status["error"]:
        raise ValueError(view.status["error"])
    return view
