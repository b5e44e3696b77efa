"""A change that is made at one layer after another: the image hidden, or an edge cut."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from irlib.inputs.records import Inputs
from irlib.interventions.edges import check_name, edge_of, knockout, span
from irlib.interventions.prefill import Run, run
from irlib.interventions.truncation import check_keep, layer_by_row, truncate


@dataclass(frozen=True)
class Change:
    """What is done at a layer: `truncate` with `keep`, or `knockout` of an `edge` in the layers
    that `kind` and `window` make of it."""

    keep: int = 0
    edge: str | None = None
    kind: str = "from"
    window: int = 3

    def check(self, vlm, inputs: Inputs, layers: Sequence[int]) -> None:
        """Raise `ValueError` for what cannot be done to these inputs at these layers."""
        self.check_alone()
        for layer in layers:
            if self.edge is None:
                check_keep(inputs, self.keep, layer_by_row(vlm, inputs, layer))
            self.span(layer, vlm.n_layers)
        if self.edge is not None:
            edge_of(inputs, self.edge)

    def check_alone(self) -> None:
        """Raise `ValueError` for what nobody can ask for, whatever the inputs."""
        if self.edge is not None:
            check_name(self.edge)
        if self.edge is not None and self.keep:
            raise ValueError(
                f"asked to keep {self.keep} image tokens and to cut the edge {self.edge!r}, found "
                "that a cut edge keeps none; give keep without edge, or edge without keep"
            )
        if self.edge is None and self.kind != "from":
            raise ValueError(
                f"asked for the layers {self.kind!r} and no edge, found that truncation hides the "
                "image from a layer on; give an edge such as 'image>question', or kind='from'"
            )

    def span(self, layer: int, n_layers: int) -> tuple[int, int]:
        """The first layer that is changed and the one behind the last."""
        return span(self.kind, layer, window=self.window, n_layers=n_layers)

    @property
    def setting(self) -> dict[str, object]:
        """All that an answer hangs on, as JSON: the window only where there is one."""
        if self.edge is None:
            return {"keep": self.keep}
        window = {"window": self.window} if self.kind == "window" else {}
        return {"edge": self.edge, "kind": self.kind, **window}

    def touches(self, inputs: Inputs) -> list[bool]:
        """Whether each row is changed: there is an image to hide, or an edge to cut."""
        seen = inputs.spans.image.any(1)
        return [True] * len(inputs) if self.edge is not None else seen.tolist()

    def run(self, vlm, inputs: Inputs, *, layers: Sequence[int], whole: bool) -> Run:
        """The full pass that all of `layers` share."""
        return run(vlm, inputs, layers=layers, keep=self.keep, edge=self.edge, whole=whole)

    def inside(self, vlm, inputs: Inputs, layer: int) -> AbstractContextManager:
        """The block in which whatever runs is changed."""
        if self.edge is None:
            return truncate(vlm, inputs, layer=layer, keep=self.keep)
        return knockout(vlm, inputs, edge=self.edge, layers=range(*self.span(layer, vlm.n_layers)))
