"""What the untouched model scores without the picture: the ground on which scores stand."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from irlib.sweeps.asking import as_samples, rows_of
from irlib.sweeps.table import sweep
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample


def baselines(vlm, samples: Sequence[Sample] | Sample, **options) -> pd.DataFrame:
    """Answers and scores of every sample without a picture and with another one: a tidy table.

    Twice the rows of `sweep(vlm, samples, layers=[])`, the untouched model, with `baseline` "blank"
    (no picture in the prompt) and "swapped" (that of another row, see `swapped`) in front;
    `sample`, `picture` and `asked` are of the row asked about, so that (score - blank) / (full -
    blank) is formed picture by picture. A row without a picture is the same in both. `options` are
    those of `sweep`, the store of answers among them; what says which layers hide what is not.
    Raises `ValueError` where `sweep` and `swapped` do.

    >>> from irlib import load, load_task
    >>> table = baselines(load("mini-llava"), load_task("pope", n=2), progress=False)
    >>> table["baseline"].tolist()
    ['blank', 'blank', 'swapped', 'swapped']
    """
    hiding = {"layers", "keep", "logprob", "edge", "kind", "window", "how", "renumber", "means",
              "picture"}  # fmt: skip
    if wrong := hiding & {*options}:
        raise ValueError(
            f"asked for baselines with {', '.join(sorted(wrong))}, found no layer that hides a "
            "picture in them; leave it out"
        )
    samples = as_samples(samples)
    asked = {"blank": [replace(one, image=None) for one in samples], "swapped": swapped(samples)}
    whose = {"picture": [identify(sample.image) for sample in samples]}
    whose["asked"] = [row[:16] for row in rows_of(samples, options.get("max_new_tokens"))[0]]
    tables = [
        sweep(vlm, rows, layers=[], **options).assign(**whose, baseline=name)
        for name, rows in asked.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["baseline", *table.columns.drop("baseline")]].drop(columns=["layer", "keep"])


def swapped(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with the picture of another row of their task, text rows as they are.

    It is the next that is another picture, seven rows on or more: neighbours often ask about one.
    Of several pictures in a row all are another row's, which has as many. Raises `ValueError` for a
    task with only one picture.
    """
    named, turned = {}, {}
    for sample in samples:
        if id(sample.image) not in named:  # many ask about one
            named[id(sample.image)] = identify(sample.image)
    for task in dict.fromkeys(sample.task for sample in samples):
        seen = [i for i, s in enumerate(samples) if s.task == task and s.image is not None]
        for i, place in enumerate(seen):
            mine = named[id(samples[place].image)]
            on = (samples[seen[(i + step) % len(seen)]] for step in range(7, 7 + len(seen)))
            on = (one.image for one in on if len(one.images) == len(samples[place].images))
            other = next((picture for picture in on if named[id(picture)] != mine), None)
            if other is None:
                raise ValueError(
                    f"asked for another picture for the row {samples[place].key!r} of {task!r}, "
                    "found no other one in its samples; give samples of several pictures, of "
                    "as many each"
                )
            turned[place] = other
    return [replace(sample, image=turned.get(i)) for i, sample in enumerate(samples)]
