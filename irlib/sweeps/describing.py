"""What determines an answer besides the row that is asked: the model, the code, the machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch

from irlib.hooks.registry import attention_of
from irlib.store import provenance, sources

# between a worker and who asks it
MUST_AGREE = ("model", "weights", "words", "dtype", "autocast", "instrument")
SOURCES = sources.instrument()  # of what was imported, whatever becomes of the files later
WAYS = sources.ways()
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def describe(vlm) -> dict[str, object]:
    """What of a model, the instrument and this machine determines an answer, as JSON.

    The weights are told twice: by the files they came from and by sums over the tensors as they
    are now, so that a model changed in memory is another one.
    """
    told, config = provenance.surroundings(), vlm.model.config
    quantised = getattr(config, "quantization_config", None)
    device = vlm.device
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "model": provenance.model(vlm),
        "weights": _weights(vlm.model),
        "dtype": str(vlm.dtype),
        "autocast": str(torch.get_autocast_dtype(device.type))
        if torch.is_autocast_enabled(device.type)
        else None,
        "quantised": json.loads(json.dumps(getattr(quantised, "to_dict", dict)(), default=str)),
        "attention": attention_of(vlm.decoder),
        "generation": json.loads(vlm.model.generation_config.to_json_string()),
        "words": _words(vlm),
        "device": named,
        "instrument": SOURCES,
        "threads": told["threads"],
        "versions": {name: told["versions"][name] for name in provenance.ANSWERING},
    }


def compare(told: Mapping, expected: Mapping, names: Sequence[str]) -> None:
    """Raise `ValueError` where a worker differs from what is expected of it."""
    if other := [name for name in names if told[name] != expected[name]]:
        pairs = [f"{name} {told[name]!r} instead of {expected[name]!r}" for name in other]
        raise ValueError(
            f"asked workers for answers, found one with {'; '.join(pairs)}; give all of them the "
            "same model files, irlib, packages, devices and OMP_NUM_THREADS"
        )


def _words(vlm) -> str:
    """A sha256 of what makes a sample inputs, as it is in memory: settings, templates, tokens."""
    processor, config = vlm.processor, vlm.model.config.to_dict()
    images = getattr(processor, "image_processor", None)
    told = {
        "config": {key: value for key, value in config.items() if not key.startswith("_")},
        "processor": [getattr(processor, "chat_template", None), processor.to_dict()],
        "images": images.to_dict() if images is not None else None,
        "tokens": [
            processor.tokenizer.chat_template, processor.tokenizer.backend_tokenizer.to_str()
        ],
        "family": {k: v for k, v in vars(vlm.family).items() if isinstance(v, str | tuple | bool)},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _weights(model) -> str:
    """A sha256 of the sums of every tensor's rows and columns, its bits taken as integers.

    Exact whatever the order of adding, and a hundred times faster than hashing the tensors.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.is_meta or not tensor.numel():
            continue
        flat = tensor.detach().reshape(-1, tensor.shape[-1] if tensor.ndim else 1).contiguous()
        bits = flat.view(BITS.get(flat.element_size(), torch.uint8))
        for axis in (0, 1):
            digest.update(bits.sum(axis, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()
