"""Hide image tokens from a decoder layer on, and rank them by the attention that they get."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import rows
from irlib.inputs.records import Inputs
from irlib.interventions.hiding import hiding


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
) -> Iterator[None]:
    """Inside the block no text sees the image tokens in decoder layers >= `layer` (eq. 13).

    The door to it, which says what is meant and refused, is `ways.truncate`: this is its "mask".
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    start = layer_by_row(vlm, inputs, layer)
    image = inputs.spans.image
    hidden = image & ~kept(vlm, inputs, start.cpu(), keep, ranking, rank_row)
    hidden = hidden.roll(doors.count("offset", offset, most=1), dims=1)
    by_layer = {i: hidden & (start <= i)[:, None] for i in range(vlm.n_layers)}
    # hidden positions keep their own view: a query that sees nothing would have no softmax
    unseen = {i: (~mask, mask) for i, mask in by_layer.items()}
    with hiding(vlm, inputs, unseen, beyond=True):
        yield


@torch.no_grad()
def rank(vlm, inputs: Inputs, *, rank_row: str = "last") -> Tensor:
    """Head-averaged attention `[layer, row, position]` of the ranking row of each prompt (eq. 9).

    `rank_row` is "last", the last position of the prompt, or "last_image", the last image token.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> rank(vlm, vlm.prepare(question="What is a cat?"))[0].sum().round(decimals=4).item()
    1.0
    """
    if rank_row not in ("last", "last_image"):
        raise ValueError(
            f"asked to rank by the row {rank_row!r}, found no such row; use 'last' or 'last_image'"
        )
    position = torch.arange(inputs.length, device=vlm.device)
    from_rows = position.expand(len(inputs), -1)
    if rank_row == "last_image":
        from_rows = from_rows.where(inputs.spans.image, -1)
    last = from_rows.amax(1, keepdim=True) % inputs.length  # no picture: any row will do
    with rows(vlm.decoder, last, reduce=lambda weights, _: weights.mean(1)[:, 0]) as seen:
        vlm.forward(inputs, logits_to_keep=1)
    return torch.stack([seen[layer].to(vlm.device) for layer in sorted(seen)])


def layer_by_row(vlm, inputs: Inputs, layer: int | Sequence[int]) -> Tensor:
    """The layer of each row of `inputs`; raises `ValueError` for one out of range."""
    try:
        start = doors.one_or_more("layer", layer)
        start = start if doors.listed(layer) else start * len(inputs)
        fits = len(start) == len(inputs) and max(start) <= vlm.n_layers
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"asked to hide the image from layer {layer}, found {vlm.n_layers} layers and "
            f"{len(inputs)} rows; give one layer, or one a row, in 0..{vlm.n_layers} "
            f"({vlm.n_layers} leaves the model as it is)"
        )
    return torch.tensor(start, device=vlm.device)


def check_keep(inputs: Inputs, keep: int, start: Tensor | None) -> None:
    """Raise `ValueError` where `keep` image tokens cannot stay, ranked before layer `start[row]`.

    `start` is None for tokens that somebody else ranks.
    """
    counts = inputs.spans.image.sum(1)
    pictures = counts > 0
    if doors.count("keep", keep) and (pictures & (counts < keep)).any():
        raise ValueError(
            f"asked to keep {keep} image tokens, found {counts[pictures].tolist()} a picture; "
            "keep between 0 and that number"
        )
    if keep and start is not None and (start.cpu()[pictures.cpu()] == 0).any():
        raise ValueError(
            f"asked to keep {keep} image tokens from layer 0 on, found no layer before it to "
            "rank them by; start at layer 1, or give ranking=, one score an image token"
        )


def kept(vlm, inputs, start, keep, ranking, rank_row) -> Tensor:
    """Mask `[row, position]` of the image tokens that stay visible."""
    image = inputs.spans.image
    kept, counts = torch.zeros_like(image), image.sum(1)
    check_keep(inputs, keep, start if ranking is None else None)
    if keep == 0 or not image.any():
        return kept
    if ranking is None:
        attention = rank(vlm, inputs, rank_row=rank_row)
        ranking = [attention[start[row] - 1, row, image[row]] for row in range(len(inputs))]
    try:
        ranking = [torch.as_tensor(scores) for scores in ranking]
        found = f"scores of shape {[list(scores.shape) for scores in ranking]}"
        fits = [[count] for count in counts.tolist()] == [list(one.shape) for one in ranking]
        if fits and any(scores.isnan().any() for scores in ranking):
            found, fits = "scores that are no number (NaN)", False
    except (TypeError, ValueError) as error:
        found, fits = f"a {type(ranking).__name__} that does not read ({error})", False
    if not fits:
        raise ValueError(
            f"asked to rank the image tokens, found {found} for {counts.tolist()} tokens; "
            "give ranking as [row][token], one score an image token"
        )
    for row, scores in enumerate(ranking):
        best = scores.argsort(descending=True, stable=True)[:keep]
        kept[row, image[row].nonzero().flatten()[best.to(image.device)]] = True
    return kept
