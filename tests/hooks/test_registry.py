"""The two private names of transformers that irlib touches, in one room: it shows if they move."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AttentionInterface, LlamaConfig, LlamaModel

import irlib
from irlib.hooks import registry

PRIVATE = ("_global_mapping", "_attn_implementation")


@pytest.fixture
def decoder():
    config = LlamaConfig(
        hidden_size=8, intermediate_size=8, vocab_size=9, num_attention_heads=2,
        num_key_value_heads=1, num_hidden_layers=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaModel(config)


@pytest.mark.parametrize("name", PRIVATE)
def test_one_module_alone_touches_a_private_name_of_transformers(name):
    files = Path(irlib.__file__).parent.rglob("*.py")
    private = re.compile(f"(?<!set){name}")  # set_attn_implementation is public
    assert [path.stem for path in files if private.search(path.read_text())] == ["registry"]


def test_transformers_still_keeps_its_attentions_where_they_are_looked_for():
    assert registry.registered("sdpa") is AttentionInterface()["sdpa"]
    assert registry.registered("nothing of this name") is None


def test_what_is_registered_is_called_and_taken_away_again(decoder):
    called = []

    def attention(module, query, key, value, mask, **kwargs):
        called.append(module)
        return value.repeat_interleave(2, 1).transpose(1, 2), None

    registry.register("irlib_test", attention)
    try:
        decoder.set_attn_implementation("irlib_test")
        decoder(torch.tensor([[1, 2]]))
    finally:
        registry.register("irlib_test", None)
    assert called == [decoder.layers[0].self_attn]
    assert registry.registered("irlib_test") is None
    assert "irlib_test" not in AttentionInterface()


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_transformers_still_tells_which_attention_a_model_has(decoder, name):
    decoder.set_attn_implementation(name)
    assert registry.attention_of(decoder) == name


def test_a_private_name_that_has_moved_is_told_in_words(decoder, monkeypatch):
    monkeypatch.delattr("transformers.utils.generic.GeneralInterface._global_mapping")
    for gone in (AttentionInterface, *AttentionInterface.__mro__):
        monkeypatch.delattr(gone, "_global_mapping", raising=False)
    for call in (lambda: registry.registered("sdpa"), lambda: registry.register("sdpa", None)):
        with pytest.raises(
            RuntimeError, match=r"_global_mapping .*no such name; install .*registry"
        ):
            call()
    decoder.config = object()
    with pytest.raises(RuntimeError, match=r"_attn_implementation .*no such name; install"):
        registry.attention_of(decoder)
