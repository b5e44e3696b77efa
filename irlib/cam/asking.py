"""What may be asked of LLaVA-CAM: refused here, in words, before anything runs."""

import torch

from irlib import doors
from irlib.inputs.grids import VIEWS
from irlib.inputs.records import Inputs


def check_inputs(inputs: Inputs) -> None:
    """Raise `ValueError` for inputs without one picture in each row, or without its pixels."""
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    if None in inputs.grids:
        raise ValueError(
            "asked for LLaVA-CAM, found a sample without a picture; leave it out: there is nothing "
            "to map"
        )
    inputs.check_one("maps")
    if not all("pixel_values" in visual for visual in inputs.visual):
        raise ValueError(
            "asked for LLaVA-CAM, found inputs without pixels; give those of vlm.prepare, not of "
            "vlm.encode"
        )


POOLS = ("mean", "token")


def check_settings(noise, memory, threshold, views, relu_grad, pool) -> None:
    """Raise `ValueError` for what is out of its range, `TypeError` for a flag that is none."""
    doors.flag("relu_grad", relu_grad)
    doors.number("noise", noise)
    doors.number("memory", memory, above=True)
    if threshold is not None:
        doors.number("threshold", threshold, most=1)
    if views not in VIEWS:
        raise ValueError(f"asked for views={views!r}, found no such; use one of {VIEWS}")
    if pool not in POOLS:
        raise ValueError(f"asked for pool={pool!r}, found no such; use one of {POOLS}")


def check_gradients(vlm) -> None:
    """Raise `RuntimeError` where no slope can be had, or none that could be trusted."""
    found = None
    if torch.is_inference_mode_enabled() or any(w.is_inference() for w in vlm.model.parameters()):
        found = "torch.inference_mode, in which nothing has a gradient, around it or its load(...)"
    elif torch.is_autocast_enabled(vlm.device.type):
        found = "torch.autocast around it, in whose few bits gradients vanish or overflow"
    if found:
        raise RuntimeError(
            f"asked for LLaVA-CAM, found {found}; leave that block, or use torch.no_grad, which "
            "does no harm"
        )


def sites_and_layers(vlm, site, layers) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sites and the layers asked for, some of each; raises `ValueError` for unknown ones."""
    sites = (site,) if isinstance(site, str) or not hasattr(site, "__iter__") else tuple(site)
    layers = range(vlm.n_layers) if layers is None else layers
    layers = tuple(doors.counts("layers", layers))
    if not layers or not sites or set(layers) - set(range(vlm.n_layers)):
        raise ValueError(
            f"asked for the maps of layers {list(layers)} at the sites {list(sites)}, found "
            f"{vlm.n_layers} layers; give one site or more, and some of 0..{vlm.n_layers - 1}"
        )
    for name in sites:
        vlm.site(name)  # raises for an unknown one
    return sites, layers
