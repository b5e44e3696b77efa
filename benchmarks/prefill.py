"""Arithmetic reached in prefill, beside what one plain matrix product reaches on the same device.

Made for a GPU (`--device cuda --shape 7b`), where neither this nor any other script here has been
run: they have only been run on CPUs.
"""

import sys

import torch

from benchmarks import command
from benchmarks.measure import clocked
from benchmarks.models import Subject, subjects
from benchmarks.settings import Settings

TITLE = "Arithmetic in prefill"


def measured(settings: Settings) -> list[dict]:
    """One result for the random model; miniatures are too small to be asked."""
    return [measure(subjects(settings)[0], settings)]


def measure(subject: Subject, settings: Settings) -> dict:
    """Floating-point operations a second of a prefill and of a matrix product, in alternation."""
    vlm, device = subject.vlm, settings.device
    inputs = vlm.encode(subject.inputs)
    side = 8192 if device != "cpu" else 256 if settings.quick else 2048
    square = torch.randn(side, side, device=device, dtype=vlm.dtype)

    @torch.no_grad()
    def forward():
        return vlm.forward(inputs, logits_to_keep=1)

    repeats = 20 if device != "cpu" else 1
    ways = {
        "prefill": (operations(vlm, inputs.length), forward),
        f"matrix product of side {side}": (2 * side**3, lambda: square @ square),
    }
    speeds = {name: [] for name in ways}
    for _, run in ways.values():
        run()
    for _ in range(settings.runs):
        for name, (count, run) in ways.items():
            _, (cpu, wall) = clocked(lambda run=run: [run() for _ in range(repeats)], device)
            seconds = cpu if settings.clock == "cpu" else wall
            speeds[name].append(count * repeats / seconds / 1e12)
    told = {name: round(sorted(found)[len(found) // 2], 4) for name, found in speeds.items()}
    first, second = told.values()
    return subject.told | {"tflops": told, "part": round(first / second, 3), "rows": []}


def operations(vlm, length: int) -> float:
    """Operations of one prefill: two a weight of the decoder and token, and causal attention."""
    decoder, config = vlm.decoder, vlm.model.config.get_text_config()
    weights = sum(weight.numel() for weight in decoder.layers.parameters())
    attention = 2 * vlm.n_layers * config.hidden_size * length**2  # half of the square is masked
    head = 2 * config.hidden_size * config.vocab_size
    return 2 * weights * length + attention + head


if __name__ == "__main__":
    command.main({"prefill": sys.modules[__name__]})
