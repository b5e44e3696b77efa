"""What a machine computes with beside its processor, in words."""

import torch


def accelerators() -> list[str]:
    """Return a line a GPU, its name and memory in GB; one for Apple's; none where there is none.

    >>> isinstance(accelerators(), list)
    True
    """
    if torch.backends.mps.is_available():
        return ["Apple GPU"]
    known = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"{one.name}, {one.total_memory / 1e9:.0f} GB" for one in known]
