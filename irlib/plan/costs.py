"""What a pass costs: token-layers, floating-point operations and bytes, from shapes alone.

A multiply-add is two operations. Attention is counted in full, without the half that causality
would spare; norms, activations and softmax are left out: they are below a hundredth. Held to
torch's own counter of operations by tests/plan/test_costs.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a model determines its costs.

    `layer` and `head` are elements of the matrices of one decoder layer and of the output, `kv` the
    width of keys and values together, `queries` that of all query heads, `picture` the operations
    of one picture in vision tower and projector, `weights` and `itemsize` bytes.
    """

    n_layers: int
    layer: int
    head: int
    hidden: int
    inner: int
    queries: int
    kv: int
    picture: int
    weights: int
    itemsize: int


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Tokens before, of and behind the picture, and of the answer without the one that ends it."""

    before: int
    image: int
    after: int
    new: int

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.before + self.image + self.after


def token_layers(
    n_layers: int,
    before: int,
    image: int,
    after: int,
    *,
    new: int = 0,
    keep: int = 0,
    layers: Sequence[int] | None = None,
) -> dict[str, int]:
    """Tokens times layers for a prompt's answers at all `layers` and untouched: shared and naive.

    Naive is one whole run a layer, and one more to rank where image tokens are kept. Shared is one
    whole pass, one staircase (in layer l every variant that hides the image from a layer <= l on,
    for the tokens behind the image and the kept ones alone) and the answers of all variants; a
    prompt without a picture is answered once. The token that ends an answer costs a pass too: it is
    predicted by the last of the `new`. `layers` are 0-based and default to all that `keep` allows.

    >>> token_layers(2, 1, 10, 3)
    {'naive': 84, 'shared': 37}
    """
    hidden = _hidden(n_layers, range(1 if keep else 0, n_layers) if layers is None else layers)
    variants, whole, said = len(hidden) + 1, n_layers * (before + image + after), n_layers * new
    stairs = (after + keep) * sum(n_layers - layer for layer in hidden)
    shared = whole + stairs + variants * said if image else whole + said
    return {"naive": variants * (whole + said) + bool(keep) * whole, "shared": shared}


def decoder(shape: Shape, queries: int, keys: int, *, logits: int) -> int:
    """Operations of `queries` tokens that see `keys` of them through all decoder layers.

    >>> shape = Shape(n_layers=1, layer=8, head=6, hidden=2, inner=0, queries=2, kv=4, picture=0,
    ...               weights=0, itemsize=4)
    >>> decoder(shape, 3, 3, logits=1)  # 2 * 3 * 8 in matrices, 4 * 3 * 3 * 2 in attention, 12
    132
    """
    pairs = 4 * shape.queries * queries * keys
    return shape.n_layers * (2 * queries * shape.layer + pairs) + 2 * logits * shape.head


def answer(shape: Shape, prompt: Prompt) -> int:
    """Operations of one picture, its prompt and a greedy answer."""
    return _picture(shape, prompt) + _prefill(shape, prompt) + decode(shape, prompt)


def decode(shape: Shape, prompt: Prompt) -> int:
    """Operations of the tokens of an answer, one after the other."""
    steps = range(1, prompt.new + 1)
    return sum(decoder(shape, 1, prompt.length + step, logits=1) for step in steps)


def flow(shape: Shape, prompt: Prompt, *, rows: int | None = None) -> int:
    """Operations of attention flow: one pass over prompt and answer, `rows` of it probed again.

    `rows` are positions whose attention is computed a second time, by default the answer's.
    """
    length = prompt.length + prompt.new
    probed = 2 * shape.n_layers * shape.queries * (prompt.new if rows is None else rows) * length
    whole = decoder(shape, length, length, logits=1)
    return _picture(shape, prompt) + whole + probed


def cam(shape: Shape, prompt: Prompt) -> int:
    """Operations of LLaVA-CAM on one copy of a picture: all layers, one forward, one backward.

    The picture lies outside the graph and weights need no gradient: the backward is one product a
    matrix, where the forward has one, and twice the forward's in attention.
    """
    length = prompt.length + prompt.new
    forward = decoder(shape, length, length, logits=prompt.new)
    backward = forward + shape.n_layers * 4 * shape.queries * length**2
    return _picture(shape, prompt) + forward + backward


def sweep(shape: Shape, prompt: Prompt, *, layers: Sequence[int] | None = None) -> int:
    """Operations of the answers with the image hidden from each of `layers` on, and untouched.

    As in `token_layers`; behind the layer that hides it no token sees the image, in the staircase
    and in answers.
    """
    if not prompt.image:
        return answer(shape, prompt)
    hidden = _hidden(shape.n_layers, layers)
    climbed = sum(shape.n_layers - layer for layer in hidden)  # layers, over all variants
    keys = prompt.before + prompt.after
    step = decoder(replace(shape, n_layers=1), prompt.after, keys, logits=0)
    stairs = step * climbed + 2 * len(hidden) * shape.head
    unseen = 4 * shape.queries * prompt.image * prompt.new * climbed
    variants = (len(hidden) + 1) * decode(shape, prompt) - unseen
    return _picture(shape, prompt) + _prefill(shape, prompt) + stairs + variants


def cache(shape: Shape, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens in all layers."""
    return tokens * shape.n_layers * shape.kv * shape.itemsize


def answer_memory(shape: Shape, prompt: Prompt) -> int:
    """Bytes beside the weights at an answer's end: its keys and values, and one layer at work."""
    return cache(shape, prompt.length + prompt.new) + _at_work(shape, prompt.length)


def saved(shape: Shape, prompt: Prompt) -> int:
    """Bytes that LLaVA-CAM's forward keeps for its backward.

    A layer and token keep the inputs of two norms in float32, query, key, value (for each query
    head) and output of attention, and three products of the gated MLP. Held to what torch saves.
    """
    kept = 2 * 4 * shape.hidden + shape.itemsize * (4 * shape.queries + 3 * shape.inner)
    return shape.n_layers * (prompt.length + prompt.new) * kept


def cam_memory(shape: Shape, prompt: Prompt) -> int:
    """Bytes beside the weights at the end of LLaVA-CAM's forward.

    What is saved for the backward, features and slopes of the image tokens, the answer's logits
    and their gradient in float32, and one layer at work.
    """
    maps = shape.n_layers * prompt.image * shape.hidden * (4 + 2 * shape.itemsize)
    logits = prompt.new * (shape.head // shape.hidden) * 8
    return saved(shape, prompt) + maps + logits + _at_work(shape, prompt.length + prompt.new)


def sweep_memory(shape: Shape, prompt: Prompt, *, layers: Sequence[int] | None = None) -> int:
    """Bytes beside the weights of one sample's sweep, by its answers' end.

    Each layer's input behind the image; keys and values of the whole prompt once, of the text
    behind the image for each variant and layer that climbs, of the answer for each variant; and one
    layer at work.
    """
    hidden = _hidden(shape.n_layers, layers) if prompt.image else []
    climbed = sum(shape.n_layers - layer for layer in hidden)
    kept = shape.n_layers * prompt.after * shape.hidden * shape.itemsize
    own = climbed * prompt.after * shape.kv * shape.itemsize
    said = (len(hidden) + 1) * cache(shape, prompt.new)
    work = _at_work(shape, max(prompt.length, len(hidden) * prompt.after))
    return kept + cache(shape, prompt.length) + own + said + work


def _hidden(n_layers: int, layers: Sequence[int] | None) -> list[int]:
    """The layers that hide the image: all, or those named, without the untouched model's."""
    return sorted({*(range(n_layers) if layers is None else layers)} - {n_layers})


def _picture(shape: Shape, prompt: Prompt) -> int:
    return shape.picture if prompt.image else 0


def _prefill(shape: Shape, prompt: Prompt) -> int:
    return decoder(shape, prompt.length, prompt.length, logits=1)


def _at_work(shape: Shape, tokens: int) -> int:
    """Bytes of one layer's own tensors: the gated MLP's three and four of the hidden width."""
    return tokens * shape.itemsize * (3 * shape.inner + 4 * shape.hidden)
