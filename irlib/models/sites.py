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
    found = [_sites(*seen) for seen in _watched(decoder)]
    return {
        site: found[0][site]
        for site in SITES
        if site in found[0] and all(one.get(site) == found[0][site] for one in found)
    }


def _watched(decoder) -> list[tuple[nn.Module, dict, dict]]:
    """Of each layer of a copy without weights: itself, what its children got and what they made.

    `{child's name: tensors}`; the layer's own name is "".
    """
    config = copy.deepcopy(decoder.config)
    with torch.device("meta"):  # bfloat16: experts know no other way to be run there
        skeleton = AutoModel.from_config(
            config, attn_implementation="eager", dtype=torch.bfloat16, trust_remote_code=False
        ).eval()
    got, made = {}, {}

    def take(key, args, kwargs):
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        got[key] = tensors
        return args, kwargs

    def give(key, output):
        made[key] = output
        return output

    modules = {
        (index, name): module
        for index, layer in enumerate(skeleton.layers)
        for name, module in [("", layer), *layer.named_children()]
    }
    states = torch.empty(1, 2, config.hidden_size, device="meta", dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, 2, 2, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), edit(modules, take, at="input"), edit(modules, give):
        skeleton(inputs_embeds=states, attention_mask=mask, use_cache=False)

    def of(layer, seen):
        return {name: value for (index, name), value in seen.items() if index == layer}

    return [(layer, of(i, got), of(i, made)) for i, layer in enumerate(skeleton.layers)]


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

    if (before := feeding("self_attn")) and first(before):
        found["input_norm"] = before
    others = [name for name in heavy if name != "self_attn"]
    if len(others) == 1:
        (found["mlp"],) = others
        if (behind := feeding(found["mlp"])) and not first(behind):
            found["post_attention"] = behind
    return found
