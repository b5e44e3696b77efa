"""Where a decoder layer can be read: the sites of figure 7, asked of the layer itself.

Names do not tell. `post_attention_layernorm` norms what feeds the MLP in LLaMA, and in Gemma and
OLMo 2 what the attention adds; Cohere's layers run attention and MLP side by side and have none. So
a copy without weights runs once, and what is handed from module to module is watched.
"""

import copy

import torch
from torch import nn
from transformers import AutoModel

from irlib.hooks.hooks import edit

SITES = ("input_norm", "attention", "post_attention", "mlp", "block")


def sites_of(decoder: nn.Module) -> dict[str, str]:
    """The sites of a language model's layers: `{site: the module's name inside a layer}`.

    "input_norm" is the norm that feeds the attention, "post_attention" the norm behind it that
    feeds the MLP (the paper's site), "block" the layer itself, "". A site that some layer lacks is
    not among them.

    >>> from transformers import Cohere2Config, Cohere2Model
    >>> sites_of(Cohere2Model(Cohere2Config(hidden_size=8, intermediate_size=8, vocab_size=9,
    ...     num_attention_heads=1, num_key_value_heads=1, num_hidden_layers=1, pad_token_id=0)))
    {'input_norm': 'input_layernorm', 'attention': 'self_attn', 'mlp': 'mlp', 'block': ''}
    """
    skeleton, got, made = _watched(decoder)
    found = [
        _sites(layer, _within(f"layers.{i}", got), _within(f"layers.{i}", made))
        for i, layer in enumerate(skeleton.layers)
    ]
    return {
        site: found[0][site]
        for site in SITES
        if site in found[0] and all(one.get(site) == found[0][site] for one in found)
    }


def last_norm(decoder: nn.Module) -> str:
    """The name of a language model's norm that reads what its last layer gives.

    >>> from transformers import PhiConfig, PhiModel
    >>> last_norm(PhiModel(PhiConfig(hidden_size=8, intermediate_size=8, vocab_size=9,
    ...     num_attention_heads=1, num_hidden_layers=1, pad_token_id=0)))
    'final_layernorm'
    """
    skeleton, got, made = _watched(decoder)
    last = made[f"layers.{len(skeleton.layers) - 1}"]
    names = [name for name, _ in skeleton.named_children() if name in got]
    return next(name for name in names if any(tensor is last for tensor in got[name]))


def _watched(decoder) -> tuple[nn.Module, dict[str, list], dict[str, torch.Tensor]]:
    """A copy without weights, run once: what its modules got and what they made, by their names.

    The modules are its children, its layers and the layers' children.
    """
    config = copy.deepcopy(decoder.config)
    with torch.device("meta"):  # bfloat16: experts know no other way to be run there
        skeleton = AutoModel.from_config(
            config, attn_implementation="eager", dtype=torch.bfloat16, trust_remote_code=False
        ).eval()
    got, made = {}, {}

    def take(key, args, kwargs):
        got[key] = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        return args, kwargs

    def give(key, output):
        made[key] = output
        return output

    modules = {
        name: module
        for name, module in skeleton.named_modules()
        if name and name.count(".") <= 2 and ("." not in name or name.startswith("layers."))
    }
    states = torch.empty(1, 2, config.hidden_size, device="meta", dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, 2, 2, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), edit(modules, take, at="input"), edit(modules, give):
        skeleton(inputs_embeds=states, attention_mask=mask, use_cache=False)
    return skeleton, got, made


def _within(layer, seen) -> dict:
    """What was seen of a layer, by its children's names; its own is ""."""
    return {
        name.removeprefix(layer).removeprefix("."): value
        for name, value in seen.items()
        if name == layer or name.startswith(f"{layer}.")
    }


def _sites(layer, got, made) -> dict[str, str]:
    """The sites of one layer, from the tensors that its children got and made."""
    children = dict(layer.named_children())
    heavy = [  # of a layer's children only attention and MLP hold matrices
        name
        for name, child in children.items()
        if name in made and any(weight.ndim > 1 for weight in child.parameters())
    ]
    found = {"block": ""}
    if "self_attn" not in heavy:
        return found
    found["attention"] = "self_attn"

    def same(some, others) -> bool:
        return any(one is other for one in some for other in others)

    norms = [  # OLMo's have no weights at all; dropout hands on what it gets
        name
        for name, output in made.items()
        if name not in ("", *heavy) and not same([output], got[name])
    ]

    def feeding(name) -> str | None:
        return next((norm for norm in norms if same([made[norm]], got[name])), None)

    def first(name) -> bool:  # it reads what comes into the layer
        return same(got[name], got[""])

    if before := feeding("self_attn"):
        found["input_norm"] = before
    others = [name for name in heavy if name != "self_attn"]
    if len(others) == 1:
        (found["mlp"],) = others
        if (behind := feeding(found["mlp"])) and not first(behind):
            found["post_attention"] = behind
    return found
