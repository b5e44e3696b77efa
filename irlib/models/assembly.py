"""A LLaVA put together of a published language model and what the project trained for it.

The language model is a GGUF file; the bundle holds tower, projector and low-rank updates of the
decoder, which are merged. What comes out is a plain folder of transformers.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from irlib.models.gguf import GGUF

LANGUAGE = "model.language_model"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"  # of a low-rank update, its scale in the second
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "token_embd": "embed_tokens", "output_norm": "norm",
}  # fmt: skip
CONTROL = 3  # the type of a token that no text spells


def language(file: GGUF) -> dict[str, Tensor]:
    """Return the float32 tensors of a Llama in a GGUF file under transformers' names.

    Raises `ValueError` for another kind of model.
    """
    if file.facts.get("general.architecture") != "llama":
        raise ValueError(
            f"asked for a language model, found {file.facts.get('general.architecture')!r} in the "
            "GGUF file; Llamas are read"
        )
    heads = {
        "attn_q": file.facts["llama.attention.head_count"],
        "attn_k": file.facts["llama.attention.head_count_kv"],
    }
    made = {}
    for name, array in file.tensors():
        *layer, part, kind = name.removeprefix("blk.").split(".")
        tensor = torch.from_numpy(array)
        if part in heads:  # llama.cpp keeps the halves that turn together side by side
            pairs = tensor.view(heads[part], -1, 2, tensor.shape[1])
            tensor = pairs.transpose(1, 2).reshape(tensor.shape)
        place = ".".join((*(f"layers.{i}" for i in layer), NAMES[part], kind))
        made[place] = tensor
    return made


def at_random(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return a decoder of the same shapes whose layers are as before training.

    Their matrices are drawn with transformers' deviation of .02, norms are ones; the words'
    embeddings stay.
    """
    draw, made = torch.Generator().manual_seed(seed), {}
    for name in sorted(state):
        made[name] = torch.ones_like(state[name])
        if name.startswith("embed_tokens"):
            made[name] = state[name]
        elif state[name].ndim == 2:
            made[name].normal_(0, 0.02, generator=draw)
    return made


def words(file: GGUF, **special: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer in a GGUF file, `special` tokens by name behind its own.

    Raises `ValueError` for one that is not cut as SmolLM's.
    """
    facts = file.facts
    kind = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"asked for a tokenizer, found one of the kind {kind}; SmolLM's is read")
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    types = facts["tokenizer.ggml.token_type"]
    core.add_special_tokens([t for t, k in zip(tokens, types, strict=True) if k == CONTROL])
    named = {
        f"{role}_token": tokens[facts[f"tokenizer.ggml.{told}_token_id"]]
        for role, told in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **named,
        extra_special_tokens=special,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=facts["llama.context_length"],
    )


def merged(state: Mapping[str, Tensor], parts: Mapping[str, Tensor], rows: int) -> dict:
    """Return a whole model's bfloat16 tensors: the decoder `state` and a bundle's `parts`.

    A part whose name ends in DOWN is, with its partner in UP, added to the matrix of that name; the
    embeddings are filled up with zeros to `rows`. Raises `KeyError` for a matrix that is not there.
    """
    made = {f"{LANGUAGE}.{name}": tensor for name, tensor in state.items()}
    table = made[f"{LANGUAGE}.embed_tokens.weight"]
    more = torch.zeros(rows - len(table), table.shape[1])
    made[f"{LANGUAGE}.embed_tokens.weight"] = torch.cat([table, more])
    for name, tensor in parts.items():
        if name.endswith(DOWN):
            place = name.removesuffix(DOWN)
            up = parts[place + UP].float()
            made[f"{place}.weight"] = made[f"{place}.weight"] + up @ tensor.float()
        elif not name.endswith(UP):
            made[name] = tensor
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in made.items()}


def put_together(file: GGUF, parts: Path, told: Mapping, out: Path) -> None:
    """Write a model's folder: what the bundle's folder `parts` holds, joined to a GGUF's decoder.

    `told` is the model's entry in the bundle: `weights`, its files of tensors; `plain`, the files
    that are copied; `random`, a seed, where its decoder's layers are as before training.
    """
    out.mkdir(parents=True)
    for name in told["plain"]:
        (out / name).write_bytes((parts / name).read_bytes())
    config = json.loads((parts / "config.json").read_text(encoding="utf-8"))
    state = language(file)
    if "random" in told:
        state = at_random(state, told["random"])
    tensors = {}
    for name in told["weights"]:
        tensors |= load_file(parts / name)
    made = merged(state, tensors, config["text_config"]["vocab_size"])
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})
    words(file, image_token="<image>").save_pretrained(out)
