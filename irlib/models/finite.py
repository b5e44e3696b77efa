"""Numbers that are none: refused in pixels and logits before they become a result."""

import torch
from torch import Tensor


def check_pixels(inputs) -> None:
    """Raise `ValueError` where the pixels of any row are not finite numbers."""
    for visual in inputs.visual:
        check_finite("pixels", visual and visual.get("pixel_values"))


def check_finite(what: str, values: Tensor | None) -> None:
    """Raise `ValueError` where `values` are not finite numbers; `what` names them."""
    if values is not None and not values.isfinite().all():
        raise ValueError(
            f"asked the model for an answer, found {what} that are not finite numbers; check the "
            "picture and the weights, and try dtype=float32 where the model runs in float16"
        )


def finite_scores(ids: Tensor, scores: Tensor) -> Tensor:
    """A logits processor that changes nothing; suppressed tokens are -inf, a NaN is a fault."""
    check_finite("logits", scores.nan_to_num(neginf=0.0, posinf=torch.inf, nan=torch.nan))
    return scores
