"""Where a model's weights go, as what numbers, and how packed: checked before any is read."""

from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import nn
from transformers import BitsAndBytesConfig

DTYPES = {str(kind).removeprefix("torch."): kind for kind in
          (torch.float32, torch.bfloat16, torch.float16, torch.float64)}  # fmt: skip
SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")
PACKED = ("4bit", "8bit")


def placement(device, device_map, dtype, quantization, config: Mapping) -> dict:
    """The arguments of transformers' from_pretrained for what `load` was asked, checked.

    `config` is the checkpoint's config.json. Raises `ValueError` for a device that is not there, an
    unknown dtype or quantization, and for two places at once; `ImportError` without bitsandbytes.

    >>> placement("cpu", None, "float32", None, {})
    {'device_map': {'': 'cpu'}, 'dtype': torch.float32}
    """
    if device is not None and device_map is not None:
        raise ValueError(
            f"asked for the device {device!r} and the device_map {device_map!r}, found two places "
            "for one model; give device for one, device_map for several"
        )
    if device_map is None:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
        device_map = {"": str(_there(device))}
    elif isinstance(device_map, Mapping):
        for place in {place for place in device_map.values() if place != "disk"}:
            _there(place)
    elif device_map not in SPREADS:
        raise ValueError(
            f"asked for the device_map {device_map!r}, found no such way to spread a model; use "
            f"one of {SPREADS}, a dict of modules and devices, or device for a single one"
        )
    kind = _dtype(dtype)
    packing = _packing(quantization, device_map, kind, config) if quantization is not None else {}
    return {"device_map": device_map, "dtype": kind, **packing}


def keep_gradients(model: nn.Module) -> nn.Module:
    """The model, its 4-bit layers kept in the form that gradients pass through.

    On CPUs with AVX512-BF16 bitsandbytes turns them into another at the first run, whose product
    silently ends the graph: LLaVA-CAM would see the way around each layer and not the one through.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
    return model


def _there(device) -> torch.device:
    """The device, if this machine has it."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        found, why = None, str(error).strip().partition("\n")[0]
    if found is None or found.type == "meta":
        why = why if found is None else "it holds no numbers"
        raise ValueError(
            f"asked for the device {device!r}, found that it cannot be used here ({why}); use "
            + ('"cpu" or "cuda"' if torch.cuda.is_available() else '"cpu"')
        )
    return found


def _dtype(dtype):
    """The dtype by its name or itself; "auto", the checkpoint's own, for None."""
    if dtype is None or dtype == "auto":
        return "auto"
    found = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        raise ValueError(
            f"asked for the dtype {dtype!r}, found none of that name for a model's numbers; use "
            f"one of {list(DTYPES)}, or None for the checkpoint's own"
        )
    return found


def _packing(quantization, device_map, dtype, config):
    """The argument that packs the weights of the linear layers with bitsandbytes."""
    asked = f"asked for the quantization {quantization!r}"
    if quantization not in PACKED:
        raise ValueError(f"{asked}, found no such one; use one of {PACKED}, or None")
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method")
        raise ValueError(
            f"{asked}, found weights that are packed already ({method}); leave quantization out"
        )
    places = set(device_map.values()) if isinstance(device_map, Mapping) else set()
    if places & {"cpu", "disk"} and places != {"cpu"}:
        raise ValueError(
            f"{asked}, found a device_map with {sorted(map(str, places))}; bitsandbytes packs no "
            "weights on the disk, and on the CPU only where all of them are there: use GPUs alone"
        )
    if find_spec("bitsandbytes") is None:
        raise ImportError(
            f"{asked}, found no bitsandbytes, which packs the weights; "
            "install it: pip install -c constraints.txt -e '.[quantised]'"
        )
    told = config.get("dtype") or config.get("torch_dtype") or "float32"
    compute = told if dtype == "auto" else dtype
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=quantization == "4bit",
            load_in_8bit=quantization == "8bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute,
        )
    }
