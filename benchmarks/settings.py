"""What a run of the benchmarks is asked for."""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Settings:
    """How to measure, and on what.

    `runs` alternating rounds give each median. Of a loop over layers, `passes` are timed in each
    round and the whole is extrapolated from them (0: all of them are timed). `tokens` is the length
    of a free answer. `shape` is the random model's: "ratio", "7b" or "tiny"; `minis` are bundled
    models measured beside it.
    """

    runs: int = 5
    passes: int = 5
    threads: int = 1
    device: str = "cpu"
    shape: str = "ratio"
    minis: tuple[str, ...] = ("mini-llava",)
    tokens: int = 64
    quick: bool = False

    @property
    def clock(self) -> str:
        """What ratios are made of: CPU seconds where one thread does all, else wall seconds."""
        return "cpu" if self.device == "cpu" and self.threads == 1 else "wall"

    @property
    def suffix(self) -> str:
        """What a results file is called by besides its comparison: the GPU, its name and shape."""
        if self.device == "cpu":
            return "" if self.shape == "ratio" else f"-{self.shape}"
        return f"-{slug(self.device)}-{self.shape}"


def slug(device: str) -> str:
    """What a device is called in the name of a file: "cpu", or its own name."""
    name = device if device == "cpu" else torch.cuda.get_device_name(device)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


QUICK = {"runs": 1, "passes": 0, "shape": "tiny", "minis": (), "tokens": 3, "quick": True}
"""Two layers and few tokens: whether everything works and agrees, not how fast it is."""
