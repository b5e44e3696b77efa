"""Several devices on a machine with one: tensors that say where they are and mind who meets them.

A `Placed` tensor holds its numbers on the CPU and says that it is on "lazy:0" or "lazy:1", a kind
of device that torch knows by name and needs no driver for. Inside `devices()` each operation of
torch is looked at before it runs: tensors of two devices are refused as CUDA refuses them, others
are computed on the CPU and the result says where it is. So every number is real, and a tensor made
in the wrong place is an error where it meets the first that is not.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CPU = torch.device("cpu")
MOVES = {"aten::_to_copy", "aten::copy_"}  # tensors of two devices may meet here
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}  # give no tensor


class Placed(torch.Tensor):
    """Numbers on the CPU that say they are on another device."""

    @staticmethod
    def __new__(cls, numbers, device):
        return torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), dtype=numbers.dtype, device=device,
            storage_offset=numbers.storage_offset(), requires_grad=False,
        )  # fmt: skip

    def __init__(self, numbers, device):
        self.numbers = numbers

    def tolist(self):
        return self.numbers.tolist()

    def numpy(self):
        raise TypeError(f"can't convert {self.device} tensor to numpy; use .cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, kind, types, args=(), kwargs=None):
        return run(kind, args, kwargs or {})


def numbers(value):
    return value.numbers if isinstance(value, Placed) else value


def run(kind, args, kwargs):
    """One operation: refused, or its result, on the device where it belongs."""
    name = kind._schema.name
    tensors = [
        value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)
    ]
    asked = kwargs.get("device")
    if asked is not None and asked.type == "lazy":
        kwargs = kwargs | {"device": CPU}
    else:
        asked = CPU if asked is not None else None
    place = asked or (tensors[0].device if name in MOVES else meeting(name, args, tensors))
    if name.endswith("_") and not name.endswith("__"):  # in place
        kind(*tree_map(numbers, args), **tree_map(numbers, kwargs))
        return args[0]
    made = kind(*tree_map(numbers, args), **tree_map(numbers, kwargs))
    if place.type != "lazy" or name in READS:
        return made
    return tree_map(lambda v: Placed(v, place) if isinstance(v, torch.Tensor) else v, made)


def meeting(name, args, tensors):
    """The one device of an operation's tensors; a number on the CPU is welcome everywhere."""
    if name in INDEXED:  # so is an index
        where = args[0].device
        index = [i for i in args[1] if i is not None]
        others = [i.device for i in index if i.device != CPU]
        others += [t.device for t in args[2:3] if isinstance(t, torch.Tensor) and t.ndim]
    else:
        large = [t.device for t in tensors if t.ndim or t.device != CPU]
        where, others = (large or [CPU])[0], large
    if wrong := [device for device in others if device != where]:
        raise RuntimeError(f"{name}: found tensors on {where} and {wrong[0]}")
    return where


class _Looked(TorchDispatchMode):
    def __torch_dispatch__(self, kind, types, args=(), kwargs=None):
        return run(kind, args, kwargs or {})


class _Gathered(TorchFunctionMode):
    """torch.tensor of a list reads its items below torch's operations: here they are read first."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.tensor and isinstance(args[0], list):
            args = (tree_map(numbers, args[0]), *args[1:])
        return function(*args, **kwargs or {})


@contextmanager
def devices():
    """Inside the block "lazy:0" and "lazy:1" are devices as good as any."""
    before = torch._C._only_lift_cpu_tensors()
    autocast, enabled = torch.autocast, torch.is_autocast_enabled
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) then moves in the open
    # every real kind of device has an autocast; the numbers of this one are computed on the CPU
    torch.autocast = lambda kind, **how: autocast("cpu" if kind == "lazy" else kind, **how)
    torch.is_autocast_enabled = lambda kind="cuda": enabled("cpu" if kind == "lazy" else kind)
    try:
        with _Looked(), _Gathered():
            yield
    finally:
        torch.autocast, torch.is_autocast_enabled = autocast, enabled
        torch._C._set_only_lift_cpu_tensors(before)
