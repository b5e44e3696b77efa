"""Watch and change a network while it runs: `trace`, `edit`, `attend`, and the probe `rows`.

The only place that registers anything on a model. Everything is placed on entering a `with` block
and taken away on leaving it, whatever happens inside. Modules are given as `{key: module}`, and
what comes back is keyed the same way, never by position.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from irlib.hooks.probe import probed
from irlib.hooks.registry import attention_of, own_attention


@contextmanager
def trace(modules: Mapping[Hashable, nn.Module]) -> Iterator[dict[Hashable, Tensor]]:
    """Record the output of each module during one run: `{key: output}`, filled while it runs.

    The first element is kept where a module returns a tuple. Raises `RuntimeError` on leaving if
    a module did not run, and during the run if it runs twice.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> with trace({"hidden": net[0]}) as seen:
    ...     _ = net(torch.ones(5, 2))
    >>> seen["hidden"].shape
    torch.Size([5, 3])
    """
    seen: dict[Hashable, Tensor] = {}

    def record(key, output):
        seen[key] = output
        return output

    with edit(modules, record, once=True):
        yield seen


@contextmanager
def edit(
    modules: Mapping[Hashable, nn.Module],
    change: Callable,
    *,
    at: str = "output",
    once: bool = False,
) -> Iterator[None]:
    """Let `change` decide what each module returns, or what it is called with, inside the block.

    `at="output"`: `change(key, output) -> output`; where a module returns a tuple, `output` is its
    first element and the others pass by. `at="input"`: `change(key, args, kwargs) -> (args,
    kwargs)`. `once=True` refuses a module that runs twice, or not at all (`RuntimeError`).

    >>> net = nn.Linear(2, 3)
    >>> with edit({"net": net}, lambda key, output: output * 0):
    ...     net(torch.ones(1, 2)).abs().sum().item()
    0.0
    """
    _check(modules, at)
    ran: set[Hashable] = set()

    def mark(key):
        if once and key in ran:
            raise RuntimeError(
                f"asked for one run of {key!r}, but it ran twice inside the block; "
                "run the model once, or open one block for each run"
            )
        ran.add(key)

    def hook_output(key):
        def hook(module, args, output):
            mark(key)
            if isinstance(output, tuple):
                return (change(key, output[0]), *output[1:])
            return change(key, output)

        return hook

    def hook_input(key):
        def hook(module, args, kwargs):
            mark(key)
            return change(key, args, kwargs)

        return hook

    with ExitStack() as stack:
        for key, module in modules.items():
            if at == "output":
                handle = module.register_forward_hook(hook_output(key))
            else:
                handle = module.register_forward_pre_hook(hook_input(key), with_kwargs=True)
            stack.callback(handle.remove)
        yield
        if once and (missed := [key for key in modules if key not in ran]):
            raise RuntimeError(
                f"asked for one run of {missed}, but they did not run inside the block; "
                "run the model they belong to inside it"
            )


def hooked(model: nn.Module) -> bool:
    """Whether something on the model watches or changes its runs.

    transformers leaves hooks of its own, which record what it is asked to return, and a model may
    be loaded with one that scales its logits: they do not count.

    >>> net = nn.Sequential(nn.Linear(2, 3))
    >>> with trace({"first": net[0]}):
    ...     hooked(net)
    ...     _ = net(torch.ones(1, 2))
    True
    """
    hooks = [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    own = ("transformers.", "irlib.models.")
    return any(not getattr(hook, "__module__", "").startswith(own) for hook in hooks)


@contextmanager
def rows(
    decoder: nn.Module,
    positions: Tensor | None,
    *,
    reduce: Callable[[Tensor, Tensor], object] | None = None,
    attentions: Mapping[Hashable, nn.Module] | None = None,
    memory: float | None = None,
) -> Iterator[dict[int, object]]:
    """Read chosen rows of every attention matrix in one forward, without building the others.

    `decoder` is a transformers language model (`model.get_decoder()`), `positions [row, query]`
    the wanted query positions of each row of the batch, None for all. `attentions` are its
    attention modules by key, where they are not `layers[i].self_attn`. Inside the block it computes
    attention as before (sdpa, eager, flash, with the masks made for them), and beside it softmax(q
    k^T) for those rows in float32. Filled while the model runs: `{key: weights [row, head, query,
    key]}`, or what `reduce(weights, visible [row, 1, query, key])` makes of them, `visible` being
    what the mask lets these rows see. With `memory`, in GiB, weights that would take more come to
    `reduce` in parts of queries; what it makes of them, `[row, query, ...]`, is joined. Raises
    `RuntimeError` if the decoder runs twice or not at all, or computes attention by ways of its
    own, `ValueError` for attention with sinks or biases.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> with rows(vlm.decoder, torch.tensor([[inputs.length - 1]])) as weights:
    ...     _ = vlm.forward(inputs)
    >>> round(weights[0].sum(-1).mean().item(), 4)
    1.0
    """
    seen: dict[int, object] = {}

    def pass_on(key, args, kwargs):
        def probe(parts):
            made = [part[0] if reduce is None else reduce(*part) for part in parts]
            axis = 2 if reduce is None else 1
            seen[key] = made[0] if len(made) == 1 else torch.cat(made, axis)

        probes = (*kwargs.get("irlib_probes", ()), (probe, positions, memory))
        return args, dict(kwargs, irlib_probes=probes)

    if memory is not None and not memory > 0:
        raise ValueError(f"asked to read attention in {memory} GiB; give memory above 0")
    if attentions is None:
        attentions = {index: layer.self_attn for index, layer in enumerate(decoder.layers)}
    name = attention_of(decoder)
    with probed(name), edit(attentions, pass_on, at="input", once=True):
        yield seen
    if missed := [key for key in attentions if key not in seen]:
        raise RuntimeError(
            f"asked for the attention of {missed}, found that it is not computed by way of "
            f"transformers' registry ({name!r}); use a decoder of transformers as it comes"
        )


@contextmanager
def attend(decoder: nn.Module, attention: Callable) -> Iterator[None]:
    """Let `attention` compute every attention of a transformers language model inside the block.

    `attention(layer, query, key, value, mask, scaling) -> output`: query and output are `[row,
    head, query, width]`, key and value what the layer's cache returns, `mask` the layer's own as
    sdpa takes it (bool, or None), `scaling` the factor of the scores.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> with attend(vlm.decoder, lambda layer, query, *others: query * 0):
    ...     blind = vlm.forward(vlm.prepare(question="What is a cat?"))
    >>> blind.shape[0]
    1
    """

    def pass_on(key, args, kwargs):
        return args, dict(kwargs, irlib_attention=attention)

    modules = {index: layer.self_attn for index, layer in enumerate(decoder.layers)}
    with own_attention(decoder), edit(modules, pass_on, at="input"):
        yield


def _check(modules, at):
    if at not in ("output", "input"):
        raise ValueError(f"asked to edit at {at!r}, found no such place; use 'output' or 'input'")
    if wrong := [key for key, module in modules.items() if not isinstance(module, nn.Module)]:
        found = type(modules[wrong[0]]).__name__
        raise TypeError(
            f"asked to hook {wrong}, found a {found} where a torch module belongs; "
            "give {key: module}, with modules taken from the model that will run"
        )
