"""What is measured on a GPU: each part's ways, what is hoped for, and what it takes at most."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks import alternatives, answers, attention, cam, knockout, sweep
from benchmarks.agreements import agreement
from benchmarks.measure import Contender
from benchmarks.models import Subject
from benchmarks.prefill import operations
from benchmarks.settings import Settings
from irlib.interventions.truncation import truncate

FORMULA = (
    "operations of a prefill: 2 x weights of the decoder's layers x tokens, 2 x layers x hidden x "
    "tokens^2 for attention (the masked half is not counted), and the head for each prompt's last "
    "token; of a product [n, k] x [k, m]: 2 n k m"
)
PRODUCT = "a plain product of that size, each layer's up-projection"


@dataclass(frozen=True)
class Part:
    """A comparison: `ways(subject, settings)`, irlib's first.

    `prefills(subject, settings)` is how many prefills it takes at most before its first round has
    ended, by counting; `masked` whether attention is given masks, which flash kernels do not take.
    """

    name: str
    ways: Callable[[Subject, Settings], list[Contender]]
    prefills: Callable[[Subject, Settings], float]
    masked: bool = False


def plain(subject: Subject, settings: Settings) -> list[Contender]:
    """A prefill, and as many operations in plain matrix products of its size and of a large one."""
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    rows, config = len(inputs), vlm.model.config.get_text_config()
    made = {"device": vlm.device, "dtype": vlm.dtype}
    states = torch.randn(rows * inputs.length, config.hidden_size, **made)
    side = 8192 if settings.device != "cpu" else 256
    square = torch.randn(side, side, **made)
    matrices = [layer.mlp.up_proj.weight.mT for layer in vlm.decoder.layers]
    once = 2 * len(matrices) * states.numel() * config.intermediate_size
    whole = rows * operations(vlm, inputs.length)
    repeats = max(1, round(whole / once))

    @torch.no_grad()
    def forward():
        return vlm.forward(inputs, logits_to_keep=1)

    def products():
        for _ in range(repeats):
            for matrix in matrices:
                states @ matrix

    times = 10 if settings.device != "cpu" else 1  # one takes a hundredth of a second there

    def way(name, run, done, target=None):
        return Contender(
            name, run, whole, timed=lambda: [run() for _ in range(times)], target=target,
            scale=whole / done / times, passes=f"{times} in a row",
        )  # fmt: skip

    return [
        way("prefill", forward, whole),
        way(PRODUCT, products, repeats * once, 0.5),
        way(f"a square product of side {side}", lambda: square @ square, 2 * side**3),
    ]


def logits(subject: Subject, settings: Settings) -> list[Contender]:
    """The sweep of first logits."""
    return _aimed(sweep.contenders(subject, settings), None, 14)


def cuts(subject: Subject, settings: Settings) -> list[Contender]:
    """Knockout, of which nothing was promised on a GPU."""
    return _aimed(knockout.contenders(subject, settings), None, None)


def maps(subject: Subject, settings: Settings) -> list[Contender]:
    """LLaVA-CAM."""
    return _aimed(cam.without_libraries(subject, settings), None, 1.15, None)


def flow(subject: Subject, settings: Settings) -> list[Contender]:
    """Attention flow."""
    return _aimed(attention.contenders(subject, settings), None, None, None)


def said(subject: Subject, settings: Settings) -> list[Contender]:
    """Free answers; of the loop, the layers that are timed are the ones that are compared."""
    ours, loop, _ = _aimed(answers.contenders(subject, settings), None, 15, None)
    loop = replace(loop, whole=loop.timed, agrees=lambda mine, _: near_best(subject, mine))
    return [ours, loop]


@torch.no_grad()
def near_best(subject: Subject, found: dict) -> dict:
    """How far the tokens said with the image hidden from each layer are behind the best ones.

    By one masked forward over prompt and answer for every eighth layer: in few bits a near tie
    falls either way, and two right answers go apart from there on.
    """
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    best, said = [], []
    for layer in range(0, vlm.n_layers + 1, 8 if vlm.n_layers > 8 else 1):
        with truncate(vlm, inputs, layer=layer):
            logits, ids, _ = alternatives.predicted(vlm, inputs, found[layer])
        said.append(logits.gather(2, ids[..., None]).flatten().cpu())
        logits[..., vlm.image_token_id] = -torch.inf
        best.append(logits.amax(-1).flatten().cpu())
    exact = vlm.dtype == torch.float32
    return agreement(
        "logits of the tokens said against the best", torch.cat(said), torch.cat(best),
        tolerance=1e-3 if exact else 0.08,
        why="near ties fall either way" if exact else f"near ties in {vlm.dtype}",
    )  # fmt: skip


def _aimed(contenders: list[Contender], *targets: float | None) -> list[Contender]:
    return [replace(one, target=t) for one, t in zip(contenders, targets, strict=True)]


def _loop(subject, settings) -> int:
    return settings.passes or subject.vlm.n_layers + 1


PARTS = (
    Part("prefill", plain, lambda s, o: 30),
    Part("sweep, logits by layer", logits, lambda s, o: 9 + 2 * (s.vlm.n_layers + 1), masked=True),
    Part("LLaVA-CAM, all layers", maps, lambda s, o: 18 + 3 * (s.vlm.n_layers + _loop(s, o))),
    Part("attention flow, all layers", flow, lambda s, o: 16),
    Part(
        "free answers at every layer",
        said,
        lambda s, o: o.tokens * (6 + 2 * _loop(s, o)),  # a step of decoding counts as a prefill
        masked=True,
    ),
    Part("knockout at every layer", cuts, lambda s, o: 9 * (9 + 2 * _loop(s, o)), masked=True),
)
