"""What no result may come of: inputs of another model, and numbers that are none."""

import torch
from torch import Tensor

from irlib import doors
from irlib.inputs.records import Inputs


def check_inputs(vlm, inputs: Inputs) -> None:
    """Raise `TypeError` for what are no inputs, `ValueError` where they are another model's, lie
    elsewhere, are of another dtype, or their pixels are not finite numbers."""
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    if inputs.reader is not None:
        vlm.reader.check(inputs.reader, "inputs", pictures=True)
    ids, pixels = inputs.text["input_ids"], [one["pixel_values"] for one in inputs.visual
                                             if one and "pixel_values" in one]  # fmt: skip
    if ids.device.type != vlm.device.type or any(one.dtype != vlm.dtype for one in pixels):
        kinds = sorted({str(one.dtype).removeprefix("torch.") for one in pixels})
        raise ValueError(
            f"asked {vlm!r} to take inputs, found them on {ids.device} with pixels in "
            f"{', '.join(kinds)}; prepare them with this model: vlm.prepare(inputs.samples)"
        )
    check_pixels(inputs)


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
