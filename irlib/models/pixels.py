"""Noise on pictures that a processor has already brought into its own layout."""

import torch
from torch import Generator, Tensor


def on_pixels(pixels: Tensor, processor, draw: Generator) -> Tensor:
    """Noise for pixels `[..., channel, y, x]`: 1 is the full range of a picture's brightness.

    It is what noise of standard deviation 1, added to a picture of 0 to 1, becomes behind the
    processor's rescaling and normalisation.
    """
    return torch.randn(pixels.shape, generator=draw) * _unit(processor)[:, None, None]


def on_patches(pixels: Tensor, processor, draw: Generator) -> Tensor:
    """The same for flat patches `[patch, channel * time * y * x]`, alike at all times.

    A still picture stands in such a patch several times over.
    """
    unit = _unit(processor)
    shape = (len(pixels), len(unit), 1, processor.patch_size**2)
    noise = torch.randn(shape, generator=draw) * unit[:, None, None]
    return noise.expand(-1, -1, processor.temporal_patch_size, -1).reshape(pixels.shape)


def on_rows(pixels: Tensor, processor, draw: Generator) -> Tensor:
    """The same for flat patches `[picture, patch, y * x * channel]`."""
    unit = _unit(processor)
    return torch.randn(pixels.shape, generator=draw) * unit.repeat(pixels.shape[-1] // len(unit))


def _unit(processor) -> Tensor:
    """What 1 in pixel units of 0 to 1 is in the processor's output, by channel."""
    scale = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    std = torch.tensor(processor.image_std if processor.do_normalize else [1.0] * 3)
    return scale / std.expand(3)
