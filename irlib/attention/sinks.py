"""Tokens that take attention whatever is asked: by their states, or over several questions."""

from collections import defaultdict

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import edit, rows
from irlib.inputs.records import Inputs
from irlib.tasks.pictures import identify

RULES = ("states", "mass")


@torch.no_grad()
def sink_tokens(
    vlm, inputs: Inputs, *, rule: str = "states", tau: float = 20.0, times: float = 5.0
) -> Tensor:
    """Which tokens are attention sinks: a mask `[layer, row, position]` of the prompts.

    `rule="states"` (Kang et al. 2025, arXiv 2503.03321, eq. 4 and 5): a state's channels over their
    root mean square, phi = the largest `abs(x) / rms(x)` of the sink channels, at least `tau` (20,
    theirs). The sink channels of a layer are those at which the prompt's first token has as much
    (Sun et al. 2024, arXiv 2402.17762), so that it is the first of the sinks. x is what the layer
    is given. No state reaches sqrt(channels), which in a narrow model is less than 20.

    `rule="mass"`: image tokens alone, told by attention over questions. A token is a sink where the
    prompt's last row gives it at least `times` the even share of what it sees, mean over heads, for
    every question about its picture: rows of one picture, two or more questions of each.

    Raises `ValueError` for another rule, a `tau` that no state of this model can reach, and, for
    "mass", a picture with fewer than two questions.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> sink_tokens(vlm, vlm.prepare(load_task("pope", n=1)), tau=8).shape[0]
    12
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    tau = doors.number("tau", tau, above=True)
    times = doors.number("times", times, above=True)
    if rule not in RULES:
        raise ValueError(
            f"asked for sinks by the rule {rule!r}, found no such rule; use one of {RULES}"
        )
    return _by_states(vlm, inputs, tau) if rule == "states" else _by_mass(vlm, inputs, times)


def _by_states(vlm, inputs, tau) -> Tensor:
    if tau > (most := vlm.decoder.config.hidden_size**0.5):
        raise ValueError(
            f"asked for states whose largest channel is {tau} times their root mean square, found "
            f"{vlm.decoder.config.hidden_size} channels, which reach {most:.1f} at most; give a "
            "smaller tau, or rule='mass'"
        )
    real, found = inputs.text["attention_mask"].bool(), {}
    first = real.int().argmax(1)  # of equal ones the first

    def note(layer, args, kwargs):
        states = args[0].float()
        size = states.abs() / states.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-30)
        channels = size[torch.arange(len(size)), first.to(size.device)] >= tau  # [row, channel]
        phi = size.where(channels[:, None], 0).amax(-1)
        found[layer] = (phi >= tau).to(real.device) & real
        return args, kwargs

    with edit(dict(enumerate(vlm.decoder.layers)), note, at="input", once=True):
        vlm.forward(inputs, logits_to_keep=1)
    return torch.stack([found[layer] for layer in sorted(found)])


def _by_mass(vlm, inputs, times) -> Tensor:
    image, last = inputs.spans.image, torch.full((len(inputs), 1), inputs.length - 1)
    together = defaultdict(list)
    for row, sample in enumerate(inputs.samples):
        if image[row].any():
            together[identify(sample.image)].append(row)
    for asked in together.values():
        if len({inputs.samples[row].prompt for row in asked}) < 2:
            sample = inputs.samples[asked[0]]
            raise ValueError(
                f"asked for image tokens that take attention whatever is asked, found one question "
                f"about a picture (task {sample.task!r}, {sample.key!r}); give two or more of each"
            )

    def over_even(weights, visible):  # -> [row, 1, key]
        return weights.mean(1) * visible[:, 0].sum(-1, keepdim=True)

    with rows(vlm.decoder, last, reduce=over_even) as seen:
        vlm.forward(inputs, logits_to_keep=1)
    found = torch.zeros(len(seen), *image.shape, dtype=torch.bool, device=image.device)
    for layer, ratio in seen.items():
        for asked in together.values():
            each = torch.stack([ratio[row, 0, image[row].to(ratio.device)] for row in asked])
            taken = (each.amin(0) >= times).to(image.device)
            for row in asked:
                found[layer, row, image[row]] = taken
    return found
