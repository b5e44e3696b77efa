"""How many image tokens are enough, from which layer on: scores with the best of a ranking kept."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from irlib import doors
from irlib.cam.asking import check_gradients
from irlib.evidence.heat import MAPS, check_names, heats, over_layers
from irlib.interventions.chosen import Choice, answers_with
from irlib.interventions.truncation import rank
from irlib.sweeps.scoring import scorer
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

LAST_ROW = "last row"
"""The paper's ranking (eq. 9, 11): the attention of the prompt's last row in the layer before."""
RANKINGS = (LAST_ROW, "token post_attention", "box", "centre", "random")


def top_tokens(
    vlm,
    samples: Sequence[Sample],
    rankings: Sequence[str] = RANKINGS,
    *,
    layers: Sequence[int],
    counts: Sequence[int] = (1, 4, 16, 32),
    seed: int = 0,
) -> pd.DataFrame:
    """Answers and scores while from a layer on text sees only the best image tokens of a ranking.

    One row a sample, layer, ranking and count: `model, task, sample, picture, ranking, layer, kept,
    answer, score`; beside them, of each sample, the untouched model (ranking "untouched", layer
    n_layers, all tokens kept) and, of each layer, no token at all (ranking "none", 0 kept). What is
    done is `truncate(layer=, keep=, ranking=)`. A ranking is "last row", the paper's, for which
    there must be a layer before, or a map of `heat.MAPS`, its mean over layers; those that take the
    answer, all but the rulers, know what the untouched model says. "random" is what any of them
    must beat. Among equal tokens the first goes first.

    A sample whose answer is empty is left out, and named in the log; so is a ranking that `heats`
    has not for a sample, or that is the same everywhere. Raises `ValueError` for samples without a
    picture, an unknown ranking, layers out of range, layer 0 for "last row", and more tokens than a
    picture has.

    >>> from irlib import load, load_task
    >>> table = top_tokens(load("mini-llava"), load_task("pope", n=1), ["random"], layers=[4])
    >>> table[["ranking", "layer", "kept"]].values.tolist()[:3]
    [['untouched', 12, 64], ['none', 4, 0], ['random', 4, 1]]
    """
    samples = [samples] if isinstance(samples, Sample) else list(samples)
    rankings = (rankings,) if isinstance(rankings, str) else tuple(dict.fromkeys(rankings))
    maps = tuple(name for name in rankings if name != LAST_ROW)
    maps = check_names(maps) if maps or not rankings else ()
    layers = dict.fromkeys(doors.counts("layers", layers, most=vlm.n_layers - 1, some=True))
    counts = dict.fromkeys(doors.counts("counts", counts, least=1, some=True))
    if not samples:
        raise ValueError("asked which image tokens are enough, found no sample; give one or more")
    if LAST_ROW in rankings and 0 in layers:
        raise ValueError(
            f"asked to rank by the {LAST_ROW!r} before layer 0, found no layer before it; begin at "
            f"layer 1, or take a ranking of {', '.join(MAPS)}"
        )
    if bare := [sample.key for sample in samples if sample.image is None]:
        raise ValueError(
            f"asked which image tokens are enough, found samples without a picture: {bare[:3]}; "
            "leave them out"
        )
    check_gradients(vlm)
    table, score = [], scorer(samples, None)
    for sample in tqdm(samples, desc="tokens kept", disable=None):
        inputs = vlm.encode(vlm.prepare(sample))
        inputs.check_one("the tokens that are enough")
        answer, count = vlm.answer(inputs), int(inputs.spans.image.sum())
        if not answer.spoken:
            log.warning("%s %s: the answer is empty; left out", sample.task, sample.key)
            continue
        _check_counts(counts, count, sample)
        found = {
            (name, layer): over_layers(heat)
            for name, heat in heats(vlm, inputs, answer, maps, seed=seed).items()
            for layer in layers
        }
        if LAST_ROW in rankings:
            given = rank(vlm, inputs)[:, 0, inputs.spans.image[0]].float().cpu().numpy()
            found |= {(LAST_ROW, layer): given[layer - 1] for layer in layers}
        asked = {("untouched", vlm.n_layers, count): Choice(vlm.n_layers)}
        asked |= {("none", layer, 0): Choice(layer) for layer in layers}
        for name in rankings:
            for layer in layers:
                heat = found.get((name, layer))
                if heat is None or not np.ptp(heat):
                    told = sample.task, sample.key, name, layer
                    log.warning("%s %s: %s ranks no token at layer %d; left out", *told)
                    continue
                order = np.argsort(-heat, kind="stable").tolist()
                each = {k: Choice(layer, tuple(sorted(order[:k]))) for k in counts}
                asked |= {(name, layer, k): choice for k, choice in each.items()}
        distinct = list(dict.fromkeys(asked.values()))
        said = dict(zip(distinct, answers_with(vlm, inputs, distinct), strict=True))
        head = {"model": vlm.name, "task": sample.task, "sample": sample.key}
        head["picture"] = identify(sample.image)
        for (name, layer, kept), choice in asked.items():
            text = said[choice]
            row = {"ranking": name, "layer": layer, "kept": kept, "answer": text}
            table.append(head | row | {"score": score(sample, text)["score"]})
    columns = "model task sample picture ranking layer kept answer score".split()
    return pd.DataFrame(table, columns=columns)


def _check_counts(counts, count, sample) -> None:
    if more := [k for k in counts if k > count]:
        raise ValueError(
            f"asked to keep {more} image tokens, found {count} (task {sample.task!r}, "
            f"{sample.key!r}); keep between 1 and that number"
        )
