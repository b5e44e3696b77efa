"""What `patch` does at one layer after another, all of them at once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor

from irlib.inputs.records import Inputs
from irlib.interventions.changes import Change
from irlib.interventions.donors import Donor
from irlib.interventions.likelihood import Changed
from irlib.interventions.patching import patch
from irlib.interventions.prefill import Run, run
from irlib.interventions.staircase import changed_answers, changed_logits


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch(Change):
    """`patch` at one layer after another, its states those of `donor`."""

    donor: Donor

    def check(self, vlm, inputs: Inputs, layers: Sequence[int]) -> None:
        """Raise `ValueError` for what cannot be done to these inputs at these layers."""
        self.donor.check(inputs)
        for layer in layers:
            self.span(layer, vlm.n_layers)

    def touches(self, inputs: Inputs) -> list[bool]:
        """Every row is changed."""
        return [True] * len(inputs)

    def run(self, vlm, inputs: Inputs, *, layers: Sequence[int], whole: bool) -> Run:
        """The full pass that all layers share, the donor's states in the rows that begin there."""
        where = self.donor.where(inputs)
        made = run(vlm, inputs, layers=layers, changed=where, whole=whole)
        given, states = self.donor.given(vlm, [*made.states]), {}
        for layer, own in made.states.items():
            here = where.gather(1, made.index[layer]) & made.real
            states[layer] = own.clone()
            states[layer][here.to(own.device)] = given[layer].to(own)
        return replace(made, states=states)

    def inside(self, vlm, inputs: Inputs, layer: int) -> AbstractContextManager:
        """The block in which whatever runs is changed; nothing at the layer behind the last."""
        if layer == vlm.n_layers:
            return nullcontext()
        donor, segment = self.donor.inputs, self.donor.segment
        return patch(vlm, inputs, donor, segment=segment, layer=layer)


def patched_logits(
    vlm, inputs: Inputs, donor: Inputs, *, segment: str = "image", layers: Sequence[int]
) -> Tensor:
    """Logits `[layer, row, vocabulary]` after each prompt, patched at each of `layers` alone.

    What a forward inside `patch` gives at the last position, all layers from one pass of both runs
    and one climb; n_layers is the untouched model. Raises `ValueError` where `patch` does.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs, donor = (vlm.prepare(sample) for sample in load_task("pope", n=2))
    >>> patched_logits(vlm, inputs, donor, layers=[0, 12]).shape[:2]
    torch.Size([2, 1])
    """
    change = Patch(donor=Donor.of(vlm, inputs, donor, segment))
    return changed_logits(vlm, inputs, layers, change)


def patched_answers(
    vlm,
    inputs: Inputs,
    donor: Inputs,
    *,
    segment: str = "image",
    layers: Sequence[int],
    max_new_tokens: int | None = None,
    logprob: bool = False,
) -> dict[int, Changed]:
    """The greedy answer of each row, patched at each of `layers` alone, as `Changed`.

    `answers_by_layer` says what that holds; `logprob` is that of the untouched answer. Raises
    `ValueError` where `patch` and `vlm.answer` do.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs, donor = (vlm.prepare(sample) for sample in load_task("pope", n=2))
    >>> answers = patched_answers(vlm, inputs, donor, layers=[0, 12])
    >>> answers[12].text == vlm.answer(inputs).text
    True
    """
    change, options = Patch(donor=Donor.of(vlm, inputs, donor, segment)), {"logprob": logprob}
    return changed_answers(vlm, inputs, layers, change, max_new_tokens=max_new_tokens, **options)
