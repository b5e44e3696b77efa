"""Whether this machine has the memory that is about to be taken."""

import psutil


def check_memory(needed: float, asked: str) -> None:
    """Raise `MemoryError` where this machine has fewer bytes to give than are `needed`."""
    there = psutil.virtual_memory().available
    if there < needed:
        raise MemoryError(
            f"asked {asked}, found {there / 1e9:.1f} GB of memory free, where it takes "
            f"{needed / 1e9:.1f} GB; end other programs, or use a larger machine"
        )
