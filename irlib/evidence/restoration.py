"""What a layer's states carry: twin pictures, the states of one put into the run of the other."""

import logging
from collections.abc import Sequence
from random import Random

import pandas as pd
import torch
from tqdm.auto import tqdm

from irlib import doors
from irlib.evidence.bounds import estimate
from irlib.evidence.means import mean_effect
from irlib.interventions.patched import patched_logits
from irlib.interventions.staircase import logits_by_layer
from irlib.sweeps.scoring import scorer
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

HIDDEN = "hidden"
"""Beside the segments: the image hidden from the layer on, `truncate`."""
COLUMNS = "model task pair picture sample segment layer restored flipped changed".split()
Pair = tuple[Sample, Sample]


def twins(samples: Sequence[Sample], *, n: int | None = None, seed: int = 0) -> list[Pair]:
    """Return the samples whose keys end in -a and -b two and two, n pairs drawn by seed.

    Raises `ValueError` for a sample without its twin, and where there are fewer.

    >>> from dataclasses import replace
    >>> one = Sample(task="own", key="1-a", question="?", prompt="?", image=None, reference={})
    >>> [(a.key, b.key) for a, b in twins([replace(one, key="1-b"), one])]
    [('1-a', '1-b')]
    """
    sides = {(sample.key[:-2], sample.key[-2:]): sample for sample in samples}
    stems = sorted({stem for stem, _ in sides})
    alone = [s for s in stems if not {(s, "-a"), (s, "-b")} <= sides.keys()]
    if alone or len(samples) != 2 * len(stems):
        raise ValueError(
            f"asked for twins among {len(samples)} samples, found some without the other: "
            f"{alone[:3]}; give rows whose keys end in -a and -b, two of each"
        )
    if n is not None and doors.count("n", n, least=1) > len(stems):
        raise ValueError(
            f"asked for {n} pairs of twins, found {len(stems)}; ask for fewer, or draw more by "
            "python -m data.generate.pairs"
        )
    stems = stems if n is None else sorted(Random(seed).sample(stems, n))
    return [(sides[stem, "-a"], sides[stem, "-b"]) for stem in stems]


@torch.no_grad()
def restoration(
    vlm,
    pairs: Sequence[Pair],
    *,
    segments: Sequence[str] = ("image", "question", "answer"),
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """How much of the twin's answer its states bring along, segment by segment and layer by layer.

    Two samples ask the same about pictures that differ in one thing. Each gets, at one layer, the
    states of the other at the image, the question or the prompt's last position (`patch`). Columns
    `model, task, pair, picture, sample, segment, layer, restored, flipped, changed`: d is the logit
    of the twin's first token minus that of the own; `restored` is d's way from the own run (0) to
    the twin's (1); `flipped` is 1 where the twin's token has become the likeliest, `changed` where
    the own is not any more. The segment "hidden" is the image hidden from the layer on: what the
    model cannot do without, where patching shows what it uses. Layers are 0-based, all if None.
    Both answers must be right, and begin with other tokens; a pair where they are not is left out,
    and named in the log. On the two measures: Heimersheim and Nanda 2024, arXiv 2404.15255.

    Raises `ValueError` where no pair is given, where two prompts differ or a picture is missing,
    and where `patch` does.

    >>> from irlib import load, load_task
    >>> from irlib.store import root
    >>> pairs = twins(load_task(root() / "data/pairs/chains.parquet"), n=1)
    >>> table = restoration(load("mini-llava"), pairs, segments=["image"], layers=[0])
    >>> table[["segment", "layer", "flipped"]].values.tolist()[0]
    ['image', 0, 1.0]
    """
    pairs = [pairs] if pairs and isinstance(pairs[0], Sample) else list(pairs)
    segments = (segments,) if isinstance(segments, str) else tuple(dict.fromkeys(segments))
    layers = range(vlm.n_layers) if layers is None else layers
    layers = list(dict.fromkeys(doors.counts("layers", layers, most=vlm.n_layers - 1, some=True)))
    if not pairs:
        raise ValueError("asked what twins' states restore, found no pair; give one or more")
    for one, other in pairs:
        if one.prompt != other.prompt or one.image is None or other.image is None:
            raise ValueError(
                f"asked what twins' states restore, found a pair ({one.key!r}, {other.key!r}) that "
                "differs in more than its pictures; give pairs of one prompt and two pictures"
            )
    score, table = scorer([sample for pair in pairs for sample in pair], None), []
    for pair in tqdm(pairs, desc="twins", disable=None):
        inputs = vlm.encode(vlm.prepare(list(pair)))
        said = vlm.answer(inputs)
        told = zip(pair, said.texts, strict=True)
        wrong = [sample.key for sample, text in told if score(sample, text)["score"] < 1]
        own = torch.stack([ids[0] if len(ids) else torch.tensor(-1) for ids in said.ids])
        if wrong or own[0] == own[1] or (own < 0).any():
            why = f"wrong about {', '.join(wrong)}" if wrong else "the answers begin alike"
            log.warning("%s and %s: %s; left out", pair[0].key, pair[1].key, why)
            continue
        donor, other = inputs.take([1, 0]), own.flip(0)
        whole = vlm.forward(inputs, logits_to_keep=1)[:, -1]
        before = _ahead(whole, other, own)
        apart = _ahead(whole.flip(0), other, own) - before
        made = {
            name: patched_logits(vlm, inputs, donor, segment=name, layers=layers)
            for name in segments
        }
        made[HIDDEN] = logits_by_layer(vlm, inputs, layers=layers)
        name = pair[0].key.removesuffix("-a")
        both = " ".join(sorted(identify(sample.image) for sample in pair))
        for segment, every in made.items():
            for layer, logits in zip(layers, every, strict=True):
                moved = (_ahead(logits, other, own) - before) / apart
                best = logits.float().index_fill(1, _banned(vlm), -torch.inf).argmax(1).cpu()
                for row, sample in enumerate(pair):
                    head = (
                        vlm.name,
                        sample.kind or sample.task,
                        name,
                        both,
                        sample.key,
                        segment,
                        layer,
                    )
                    ends = float(best[row] == other[row]), float(best[row] != own[row])
                    table.append((*head, moved[row].item(), *ends))
    return pd.DataFrame(table, columns=COLUMNS)


def by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means of `restoration` over pairs: a row a task, segment, layer and measure.

    Columns `task, segment, layer, measure, value, low, high, n`, of `restored` with Student's t, of
    `flipped` and `changed` with an exact interval; n counts pairs of pictures, each the mean of its
    two sides.
    """
    made = []
    for group, rows in table.groupby(["task", "segment", "layer"], sort=False):
        each = rows.groupby("picture")[["restored", "flipped", "changed"]].mean()
        found = {name: estimate(each[name], within=(0, 1)) for name in ("flipped", "changed")}
        found["restored"] = mean_effect(each["restored"])
        made += [(*group, name, e.value, e.low, e.high, e.units) for name, e in found.items()]
    return pd.DataFrame(made, columns="task segment layer measure value low high n".split())


def _ahead(logits, other, own):
    """How far the twin's token is ahead of the own one, `[row]`."""
    rows = torch.arange(len(logits))
    logits = logits.float().cpu()
    return logits[rows, other] - logits[rows, own]


def _banned(vlm):
    return torch.tensor([vlm.image_token_id], device=vlm.device)
