"""From which layer on an answer can be read: at the prompt's last row, and on the picture."""

import logging
from collections.abc import Sequence
from itertools import islice

import pandas as pd
import torch
from tqdm.auto import tqdm

from irlib import doors
from irlib.evidence.bounds import estimate
from irlib.evidence.units import units
from irlib.inputs.records import Answer
from irlib.lens import logit_lens
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

COLUMNS = "model task sample picture row of layer readable".split()


def readable(
    vlm, samples: Sequence[Sample], *, top: int = 10, layers: Sequence[int] | None = None
) -> pd.DataFrame:
    """Whether the first token of the model's own answer can be read behind each layer.

    Read by `logit_lens`. Columns `model, task, sample, picture, row, of, layer, readable` (1 or 0).
    `row` is "first": the token is the likeliest at the prompt's last position; or "image": it is
    among the `top` likeliest at one image token or more. `of` is "own", or "other": the same of the
    answer to another of these samples of the task, the next one, which may be the same: what the
    lens reads whatever is asked is read as often there. Samples whose answer is empty are left out,
    and named in the log. Raises `ValueError` for samples without a picture and layers out of range.

    >>> from irlib import load, load_task
    >>> table = readable(load("mini-llava"), load_task("pope", n=1), layers=[11])
    >>> table[["row", "of", "readable"]].values.tolist()[0]
    ['first', 'own', 1]
    """
    samples = [samples] if isinstance(samples, Sample) else list(samples)
    top = doors.count("top", top, least=1)
    if not samples:
        raise ValueError("asked where answers can be read, found no sample; give one or more")
    if bare := [sample.key for sample in samples if sample.image is None]:
        raise ValueError(
            f"asked where answers can be read on pictures, found samples without one: {bare[:3]}; "
            "leave them out"
        )
    asked, table = [], []
    for sample in samples:
        inputs = vlm.encode(vlm.prepare(sample))
        answer = vlm.answer(inputs, max_new_tokens=1)
        if answer.spoken:
            asked.append((sample, inputs, answer))
        else:
            log.warning("%s %s: the answer is empty; left out", sample.task, sample.key)
    for place, (sample, inputs, answer) in enumerate(tqdm(asked, desc="lens", disable=None)):
        following = asked[place + 1 :] + asked[:place]
        others = (a for s, _, a in following if s.task == sample.task)
        said = [answer, *islice(others, 1)]
        # one token each: both words are looked for at one reading of the picture
        words = Answer((torch.cat([a.ids[0] for a in said]),), answer.texts, reader=vlm.reader)
        first, picture = (
            logit_lens(vlm, inputs, asked_for, at=at, layers=layers, top=0)
            for asked_for, at in ((answer, "answer"), (words, "image"))
        )
        head = {"model": vlm.name, "task": sample.task, "sample": sample.key}
        head["picture"] = identify(sample.image)
        cells = [("first", "own", first, 1)]
        for step, of in enumerate(("own", "other")[: len(said)]):
            cells.append(("image", of, picture[picture["step"] == step], top))
        for row, of, told, most in cells:
            best = told.groupby("layer", sort=False)["rank"].min() < most
            named = head | {"row": row, "of": of}
            table += [named | {"layer": i, "readable": int(seen)} for i, seen in best.items()]
    return pd.DataFrame(table, columns=COLUMNS)


def by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of `readable` over pictures: a row a task, row, of and layer.

    Columns `task, row, of, layer, value, low, high, n`: exact intervals, n counts pictures.
    """
    made = []
    for group, rows in table.groupby(["task", "row", "of", "layer"], sort=False):
        e = estimate(rows.groupby(units(rows))["readable"].mean(), within=(0, 1))
        made.append((*group, e.value, e.low, e.high, e.units))
    return pd.DataFrame(made, columns="task row of layer value low high n".split())
