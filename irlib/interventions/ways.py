"""The ways to hide image tokens from a layer on: masked, removed, or replaced by their mean."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from irlib import doors
from irlib.inputs.records import Inputs
from irlib.interventions import truncation
from irlib.interventions.alone import answers_one_by_one
from irlib.interventions.averages import Means, averaged, check_means
from irlib.interventions.changes import Change
from irlib.interventions.hiding import hiding
from irlib.interventions.likelihood import Changed
from irlib.interventions.recognising import following
from irlib.interventions.renumbering import check_renumber, renumbered

WAYS = ("mask", "drop", "mean")


@contextmanager
def truncate(
    vlm,
    inputs: Inputs,
    *,
    layer: int | Sequence[int],
    keep: int = 0,
    ranking: Sequence | None = None,
    rank_row: str = "last",
    offset: int = 0,
    how: str = "mask",
    renumber: bool = False,
    means: Means | None = None,
) -> Iterator[None]:
    """Inside the block no text sees the image tokens in decoder layers >= `layer` (eq. 13).

    `layer` is 0-based, one for all rows of `inputs` or one a row; n_layers leaves the model as it
    is. Works in one forward and in generation, on these inputs alone or followed by an answer, or
    on rows taken from them: each is known by its tokens and its picture, as the first decoder layer
    is given them, which costs one pass of the vision tower (none after `vlm.encode`). The
    `keep` best image tokens stay visible (eq. 11-12): ranked once, on the prompt, by the
    head-averaged attention of its last position in layer `layer` - 1, or of the last image token
    with `rank_row="last_image"` (eq. 10 to the letter), or by your own `ranking`, one score an
    image token: `[row][token]`, higher is better. A row without a picture is left as it is.
    `offset=1` hides the columns one to the right, as the authors' code seems to.

    `how` they are hidden: "mask" (the paper's) masks columns, keys stay where they are and hidden
    positions keep their own view. "drop" removes the tokens from the sequence, positions kept: to
    every row that stays, a token that it does not see and one that is not there are the same, so
    this is "mask"; shapes stay what they are. With `renumber` what follows them moves up, in these
    layers, an answer's tokens too. "mean" sets their keys and values to `means`, those of
    `image_means(vlm, other_samples)`, and hides nothing else: attention keeps its scale.

    Raises `ValueError` for a layer out of range, for more kept than image tokens, for `keep` > 0
    from layer 0 without a ranking, for another `how`, for `renumber` where it is not "drop" or
    where positions cannot be renumbered (several a token, windows), for means of another model, and
    for a run on other inputs, whatever it is that runs: also where nothing is to be hidden, where
    rows are taken that are equal but hidden from different layers, and where a generation goes on
    from a cache that was filled outside.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> with truncate(vlm, inputs, layer=0):
    ...     hidden = vlm.answer(inputs).text
    >>> hidden == vlm.answer(inputs).text  # there is no picture to hide
    True
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    check_way(vlm, how=how, renumber=renumber, means=means)
    if how == "mask" or (how == "drop" and not renumber):
        hidden = {"keep": keep, "ranking": ranking, "rank_row": rank_row, "offset": offset}
        with truncation.truncate(vlm, inputs, layer=layer, **hidden):
            yield
        return
    inputs = vlm.encode(inputs)
    start = truncation.layer_by_row(vlm, inputs, layer)
    kept = truncation.kept(vlm, inputs, start.cpu(), keep, ranking, rank_row)
    gone = (inputs.spans.image & ~kept).roll(doors.count("offset", offset, most=1), dims=1)
    where = {i: gone & (start <= i)[:, None] for i in range(vlm.n_layers)}
    with ExitStack() as stack:
        now = stack.enter_context(following(vlm, inputs, torch.stack([*where.values()], 1)))
        if how == "mean":
            stack.enter_context(averaged(vlm, means, where, now))
        else:
            unseen = {i: (~mask, mask) for i, mask in where.items()}
            stack.enter_context(hiding(vlm, inputs, unseen, beyond=True))
            stack.enter_context(renumbered(vlm, where, now))
        yield


@dataclass(frozen=True)
class Way(Change):
    """Truncation in another way than masking, at one layer after another."""

    how: str = "drop"
    renumber: bool = False
    means: Means | None = None

    def check_alone(self) -> None:
        """Raise `ValueError` for what nobody can ask for, whatever the inputs."""
        super().check_alone()
        if self.edge is not None:
            raise ValueError(
                f"asked to cut the edge {self.edge!r} by how={self.how!r}, found that an edge is "
                "always masked; give edge without how, or how without edge"
            )

    @property
    def setting(self) -> dict[str, object]:
        """All that an answer hangs on, as JSON."""
        means = {"means": self.means.fingerprint} if self.means is not None else {}
        return super().setting | {"how": self.how, "renumber": self.renumber} | means

    @property
    def name(self) -> str:
        """Its name in a table: its `how`, and whether positions are renumbered."""
        return self.how + ", renumbered" * self.renumber

    def inside(self, vlm, inputs: Inputs, layer: int):
        """The block in which whatever runs is changed."""
        options = {"how": self.how, "renumber": self.renumber, "means": self.means}
        return truncate(vlm, inputs, layer=layer, keep=self.keep, **options)


def answers_by_way(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    max_new_tokens: int | None = None,
    logprob: bool = False,
    **way,
) -> dict[int, Changed]:
    """`staircase.answers_by_layer` with the image hidden as `Way(**way)` says.

    A generation and a forward or two a layer: nothing is shared.
    """
    change = Way(**way)
    change.check(vlm, inputs, layers)
    return answers_one_by_one(vlm, inputs, layers, change, max_new_tokens, logprob)


def check_way(vlm, *, how: str, renumber: bool, means: Means | None) -> None:
    """Raise `ValueError` for a way that is none, or that this model cannot go."""
    if how not in WAYS:
        raise ValueError(
            f"asked to hide image tokens by how={how!r}, found no such way; use one of "
            f"{', '.join(WAYS)}"
        )
    if doors.flag("renumber", renumber) and how != "drop":
        raise ValueError(
            f"asked to renumber positions with how={how!r}, found that nothing is removed from the "
            "sequence; give how='drop', or leave renumber out"
        )
    if (means is None) == (how == "mean"):
        found = "no means" if means is None else "means, which only how='mean' takes"
        raise ValueError(
            f"asked to hide image tokens by how={how!r}, found {found}; give "
            "means=image_means(vlm, other_samples) with how='mean' alone"
        )
    if renumber:
        check_renumber(vlm)
    if how == "mean":
        doors.kind("means", means, Means, give="image_means(vlm, samples)")
        check_means(vlm, means)
