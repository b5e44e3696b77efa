"""`read` a GGUF file, llama.cpp's format of quantised models: what is told of it, its tensors.

Of the kinds of numbers in it the plain ones, Q4_1 and Q8_0 are read; a block of these is 32 numbers
that share a scale. The format: ggml-org/ggml, docs/gguf.md.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

SCALARS = dict(zip(range(13), "B b H h I i f ? s a Q q d".split(), strict=True))  # of a fact
BLOCK = 32


@dataclass
class _Reader:
    """Walks over the bytes of a file, little-endian."""

    data: bytes
    at: int = 0

    def take(self, code: str) -> tuple:
        made = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return made

    def text(self) -> str:
        (length,) = self.take("Q")
        (made,) = self.take(f"{length}s")
        return made.decode("utf-8")

    def value(self, kind: int) -> object:
        code = SCALARS[kind]
        if code == "s":
            return self.text()
        if code == "a":
            inner, length = self.take("IQ")
            if SCALARS[inner] in "sa":
                return [self.value(inner) for _ in range(length)]
            return list(self.take(f"{length}{SCALARS[inner]}"))
        return self.take(code)[0]


@dataclass(frozen=True)
class GGUF:
    """A file's facts by name, and its tensors: `tensors()` yields (name, float32 array)."""

    facts: dict[str, object]
    _places: tuple = field(repr=False)
    _data: bytes = field(repr=False)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and float32 array of each tensor, rows first, one at a time."""
        for name, shape, kind, at in self._places:
            blocks, size, unpack = KINDS[kind]
            count = math.prod(shape) // blocks
            raw = np.frombuffer(self._data, np.uint8, count * size, at).reshape(count, size)
            yield name, unpack(raw).astype(np.float32).reshape(shape)


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    """Scale, least value and 32 numbers of 4 bits, of each byte the low ones first."""
    packed = raw[:, 4:]
    return np.hstack([packed & 15, packed >> 4]) * _half(raw[:, :2]) + _half(raw[:, 2:4])


def _q8_0(raw: np.ndarray) -> np.ndarray:
    """Scale and 32 whole numbers of 8 bits."""
    return np.ascontiguousarray(raw[:, 2:]).view(np.int8) * _half(raw[:, :2])


KINDS = {  # ggml's number of a kind: numbers in a block, its bytes, what unpacks blocks
    0: (1, 4, lambda raw: raw.view(np.float32)),
    1: (1, 2, _half),
    3: (BLOCK, 20, _q4_1),
    8: (BLOCK, 34, _q8_0),
}


def read(data: bytes, what: str) -> GGUF:
    """The GGUF file in these bytes; `what` names it in errors.

    Raises `ValueError` for bytes that are no GGUF of version 2 or 3, end too early, or hold tensors
    of other kinds.
    """
    asked = f"asked for the model in {what}"
    if data[:4] != b"GGUF":
        raise ValueError(f"{asked}, found no GGUF file (it begins with {data[:4]!r}); take another")
    reader, facts, told = _Reader(data, 4), {}, []
    try:
        version, tensors, pairs = reader.take("IQQ")
        if version not in (2, 3):
            raise ValueError(f"{asked}, found GGUF of version {version}; 2 and 3 are read")
        for _ in range(pairs):
            name = reader.text()
            facts[name] = reader.value(*reader.take("I"))
        for _ in range(tensors):
            name, (dimensions,) = reader.text(), reader.take("I")
            shape = reader.take(f"{dimensions}Q")[::-1]  # told with the fastest first
            told.append((name, shape, *reader.take("IQ")))
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{asked}, found that it cannot be read at byte {reader.at} ({error}); take a whole one"
        ) from error
    if other := sorted({kind for _, _, kind, _ in told} - KINDS.keys()):
        raise ValueError(
            f"{asked}, found tensors of the kinds {other} of ggml; read are F32 (0), F16 (1), "
            "Q4_1 (3) and Q8_0 (8): take a file quantised so"
        )
    step = facts.get("general.alignment", 32)
    start, places, end = -(-reader.at // step) * step, [], 0
    for name, shape, kind, offset in told:
        blocks, size, _ = KINDS[kind]
        if shape[-1] % blocks:
            raise ValueError(f"{asked}, found {name} of shape {shape}, no blocks of {blocks}")
        places.append((name, shape, kind, start + offset))
        end = max(end, start + offset + math.prod(shape) // blocks * size)
    if end > len(data):
        raise ValueError(
            f"{asked}, found {len(data):,} bytes of the {end:,} that its tensors take; take a "
            "whole one"
        )
    return GGUF(facts, tuple(places), data)
