"""LLaVA-CAM of all layers: irlib's one forward and backward against loops and libraries."""

import sys
import warnings

import torch

from benchmarks import alternatives, command, counts, libraries
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender, evenly
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.cam.cam import llava_cam

TITLE = "LLaVA-CAM, all layers"


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way and all that it is measured against."""
    return [*without_libraries(subject, settings), *from_libraries(subject, settings)]


def without_libraries(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way, one plain forward and backward, and the loop over layers."""
    vlm, inputs, answer = subject.vlm, subject.inputs, subject.answer
    n, length = vlm.n_layers, inputs.length + len(answer.ids[0])

    def agrees(ours, theirs):
        ours = ours if isinstance(ours, list) else [ours]
        laid = [grid.lay(heat) for grid, heat in zip(inputs.grids, theirs, strict=True)]
        return agreement("heat", [one.heat for one in ours], laid, **closeness(vlm))

    timed, loop = _loop(n, length, settings)
    return [
        Contender(
            "irlib, all layers from one forward and backward",
            lambda: llava_cam(vlm, inputs, answer, memory=4.0 * len(inputs)),
            count=counts.one_backward(n, length),
        ),
        Contender(
            "one plain forward and backward, no map",
            lambda: alternatives.plain_backward(vlm, inputs, answer),
            count=counts.one_backward(n, length),
            target=1.1 if subject.aimed else None,
            cost=True,
        ),
        Contender(
            "one forward and backward a layer",
            lambda: alternatives.separate_cam(vlm, inputs, answer, range(n)),
            agrees=agrees,
            timed=lambda: alternatives.separate_cam(vlm, inputs, answer, timed),
            target=15 if subject.aimed else None,
            **loop,
        ),
    ]


def from_libraries(subject: Subject, settings: Settings) -> list[Contender]:
    """The ways of two libraries and of the paper's authors, on one prompt."""
    vlm, inputs, answer = subject.vlm, subject.inputs, subject.answer
    n, length = vlm.n_layers, inputs.length + len(answer.ids[0])

    def agrees(ours, theirs):
        return agreement("heat", ours.heat, inputs.grid.lay(theirs), **closeness(vlm))

    def agrees_with_authors(_, theirs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their rows do not all fall on the image
            ours = llava_cam(vlm, inputs, answer, target="authors", relu_grad=True)
        return agrees(ours, theirs)

    timed, loop = _loop(n, length, settings)
    return [
        Contender(
            "pytorch-grad-cam's procedure, all layers as targets",
            lambda: libraries.library_cam(vlm, inputs, answer),
            count=counts.one_backward(n, length, weights=True),
            agrees=agrees,
        ),
        Contender(
            "captum's LayerGradCam, layer by layer",
            lambda: libraries.captum_cam(vlm, inputs, answer, range(n)),
            agrees=agrees,
            timed=lambda: libraries.captum_cam(vlm, inputs, answer, timed),
            **loop,
        ),
        Contender(
            "the authors' procedure, layer by layer",
            lambda: libraries.authors_cam(vlm, inputs, answer, range(n)),
            count=n * counts.one_backward(n, inputs.length, weights=True),
            agrees=agrees_with_authors,
            timed=lambda: libraries.authors_cam(vlm, inputs, answer, timed),
            scale=n / len(timed),
            passes=loop["passes"],
            target=30 if subject.aimed else None,
        ),
    ]


def _loop(n, length, settings):
    """The layers of a loop that are timed, and what the whole loop is of them."""
    timed, whole = evenly(n, settings.passes), counts.separate_backwards(n, length, range(n))
    passes = "all" if len(timed) == n else f"{len(timed)} of {n} layers"
    scale = whole / counts.separate_backwards(n, length, timed)
    return timed, {"count": whole, "scale": scale, "passes": passes}


def memory(subject: Subject, told: dict) -> dict:
    """What each way keeps for its backward, and the peak expected of irlib's."""
    vlm, inputs, answer, n = subject.vlm, subject.inputs, subject.answer, subject.vlm.n_layers
    saved = {
        "irlib": kept_for_backward(vlm, lambda: llava_cam(vlm, inputs, answer)),
        "one plain forward and backward": kept_for_backward(
            vlm, lambda: alternatives.plain_backward(vlm, inputs, answer)
        ),
        "pytorch-grad-cam's procedure": kept_for_backward(
            vlm, lambda: libraries.library_cam(vlm, inputs, answer)
        ),
    }
    width = vlm.model.config.get_text_config().hidden_size
    maps = 2 * n * int(inputs.spans.image.sum()) * width * 4 / 1e6
    plain = told["rows"][1]["whole_once"]["peak_mb"]
    return {
        "kept_for_backward_mb": saved,
        "features_and_slopes_mb": round(maps, 1),
        "expected_peak_mb": plain and round(plain + 2 * maps, 1),
        "bound": "the peak of a plain forward and backward, and features and slopes of the image "
        "tokens (2 x layers x image tokens x channels x 4 bytes) as they come and stacked",
    }


def kept_for_backward(vlm, run) -> float:
    """Megabytes that autograd keeps between forward and backward, the model's own left out."""
    own = {weight.untyped_storage().data_ptr() for weight in vlm.model.parameters()}
    seen, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return round(sum(seen.values()) / 1e6, 1)


if __name__ == "__main__":
    command.main({"cam": sys.modules[__name__]})
