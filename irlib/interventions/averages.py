"""What an image token is on average: keys and values that can stand in the place of a picture's."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from irlib import doors
from irlib.hooks.hooks import edit, trace
from irlib.tasks.samples import Sample


@dataclass(frozen=True, eq=False)
class Means:
    """Mean keys (before rotation) and values of image tokens, `[layer, channel]`, in float32.

    `model` is the `digest` of the projections that made them.
    """

    keys: Tensor
    values: Tensor
    model: str

    def __repr__(self) -> str:
        return f"Means({self.keys.shape[0]} layers, {self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """A hash of these numbers and of their model: 16 hex digits."""
        told = hashlib.sha256(self.model.encode())
        for one in (self.keys, self.values):
            told.update(f"{tuple(one.shape)}".encode() + one.cpu().numpy().tobytes())
        return told.hexdigest()[:16]


@torch.no_grad()
def image_means(vlm, samples: Sequence[Sample], *, batch_size: int = 8) -> Means:
    """The mean keys and values of all image tokens of these samples, layer by layer: `Means`.

    Keys are taken before they are turned by their position, so that each token turns its own. Every
    token counts once, a picture with many more than one with few; a sample without a picture counts
    nothing. Take others than those that it is put into: a mean over one picture knows it. The
    baseline of Kim et al. 2025, arXiv 2509.17588. Raises `ValueError` where no sample has a
    picture, and for a decoder that has no projections of keys and values of their own.

    >>> from irlib import load, load_task
    >>> image_means(load("mini-llava"), load_task("pope", n=2)).keys.shape[0]
    12
    """
    size = doors.count("batch_size", batch_size, least=1)
    samples = [samples] if isinstance(samples, Sample) else list(samples)
    samples = [sample for sample in samples if sample.image is not None]
    if not samples:
        raise ValueError(
            "asked for the mean of image tokens, found no sample with a picture; give some"
        )
    modules, total, count = projections(vlm), {}, 0
    for begin in range(0, len(samples), size):
        inputs = vlm.prepare(samples[begin : begin + size])
        image = inputs.spans.image
        with trace(modules) as seen:
            vlm.forward(inputs, logits_to_keep=1)
        for key, made in seen.items():
            some = made[image.to(made.device)].double().sum(0).cpu()
            total[key] = total.get(key, 0) + some
        count += int(image.sum())
    keys, values = (
        torch.stack([total[name, layer] / count for layer in range(vlm.n_layers)]).float()
        for name in ("keys", "values")
    )
    return Means(keys, values, digest(vlm))


def projections(vlm) -> dict[tuple[str, int], nn.Module]:
    """The modules that make keys and values, by "keys" or "values" and layer."""
    found = {}
    for layer, module in enumerate(vlm.decoder.layers):
        for name, attribute in (("keys", "k_proj"), ("values", "v_proj")):
            if getattr(module.self_attn, attribute, None) is None:
                raise ValueError(
                    f"asked for the keys and values of {vlm.name}'s layers, found no projection "
                    f"{attribute} in {type(module.self_attn).__name__}; hide tokens by how='mask' "
                    "or how='drop'"
                )
            found[name, layer] = getattr(module.self_attn, attribute)
    widths = {(name, module.out_features) for (name, _), module in found.items()}
    if len(widths) > 2:
        raise ValueError(
            f"asked for the keys and values of {vlm.name}'s layers, found some of another width "
            f"than others ({sorted({width for _, width in widths})}), which have no one table of "
            "means; hide tokens by how='mask' or how='drop'"
        )
    return found


def digest(vlm) -> str:
    """A hash of the projections' weights, an adapter's among them: 16 hex digits.

    Of each tensor up to a thousand numbers, evenly; none of one that waits on disk.
    """
    told = hashlib.sha256()
    for module in projections(vlm).values():
        for weight in module.parameters():
            told.update(f"{tuple(weight.shape)}".encode())
            if weight.device.type != "meta":
                some = weight.detach().flatten()[:: max(1, weight.numel() // 1000)]
                told.update(some.cpu().double().numpy().tobytes())
    return told.hexdigest()[:16]


@contextmanager
def averaged(vlm, means: Means, where: Mapping[int, Tensor], now: dict) -> Iterator[None]:
    """Inside the block the tokens `where[layer]` `[row, position]` have these keys and values.

    `now["rows"]` are the rows of a run and `now["seen"]` the positions before it, as its first
    layer tells them. Raises `ValueError` for the means of another model.
    """
    modules = projections(vlm)

    def put(key, output):
        if now["seen"]:  # behind the prompt stands no image token
            return output
        name, layer = key
        mask = where[layer].to(output.device)[now["rows"].to(output.device)]
        mask = nn.functional.pad(mask, (0, output.shape[1] - mask.shape[1]))
        return torch.where(mask[..., None], getattr(means, name)[layer].to(output), output)

    with edit({key: modules[key] for key in modules if where[key[1]].any()}, put):
        yield


def check_means(vlm, means: Means) -> None:
    """Raise `ValueError` for what are no means of this model's layers."""
    wanted = [
        [vlm.n_layers, module.out_features]
        for (_, layer), module in projections(vlm).items()
        if layer == 0
    ]
    found = [list(getattr(means, name).shape) for name in ("keys", "values")]
    if found == wanted and means.model != (own := digest(vlm)):
        raise ValueError(
            f"asked to hide the image behind the means of a model {means.model}, found {vlm.name} "
            f"with other weights ({own}); give image_means(vlm, other_samples)"
        )
    finite = all(getattr(means, name).isfinite().all() for name in ("keys", "values"))
    if found != wanted or not finite:
        raise ValueError(
            f"asked to hide the image behind means of shape {found}, found layers of {vlm.name} "
            f"that take {wanted} finite numbers; give image_means(vlm, other_samples)"
        )
