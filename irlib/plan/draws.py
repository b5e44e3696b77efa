"""Which rows a plan's runs draw, and what is taken for granted of rows that are not here yet."""

from dataclasses import dataclass
from functools import cache
from random import Random
from types import MappingProxyType

from irlib.plan.runs import Run
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import open_picture
from irlib.tasks.protocols import BUNDLES

TOKEN = 4.2  # characters of English a token
SYSTEM, CLOSING = 15, 6  # tokens of a system prompt that is not known, and behind a question


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is taken for granted of a task's rows.

    `rows` of the split, the share that has a picture, mean characters of a prompt, mean tokens of
    an answer, and a picture's (width, height).
    """

    rows: int
    pictured: float
    chars: float
    new: int
    size: tuple[int, int] = (640, 480)


# Rows as published. Characters: means of 300 of LLaVA's POPE prompts, 50 of its TextVQA prompts
# without OCR and 61 of its ScienceQA prompts; answers: what these ask for, and 20 captions of
# LLaVA-1.5 of 500 characters in the mean. COCO's pictures are mostly 640 x 480.
ON_HUB = MappingProxyType({
    "pope": Task(rows=9000, pictured=1, chars=82, new=1),
    "textvqa": Task(rows=5000, pictured=1, chars=86, new=3),
    "scienceqa": Task(rows=4241, pictured=2017 / 4241, chars=340, new=1),
    "chair": Task(rows=500, pictured=1, chars=37, new=120),
})  # fmt: skip
BUNDLED_ANSWERS = MappingProxyType({"pope": 1, "textvqa": 3, "scienceqa": 1, "chair": 12})


def rows_of(run: Run, source: str) -> tuple[dict[object, float], Task]:
    """The rows of a run by key, each with the chance that it has a picture, and their task.

    `source` is that of `load_task`; rows of the hub are numbers, drawn as `load_task` draws where
    each has its own picture. What it would refuse is refused here for rows on this machine alone.

    >>> from irlib.plan.runs import Run
    >>> len(rows_of(Run(task="pope", n=12, seed=0), "hub")[0])
    12
    """
    source = run.source or source
    rows, task = _drawn(run.task, run.n, run.seed, run.kind, run.per_picture, source)
    if run.which == "boxed" and any(boxed for _, boxed in rows.values()):
        rows = {key: facts for key, facts in rows.items() if facts[1]}
    found = {key: share for key, (share, _) in rows.items() if run.which == "all" or share}
    if run.which != "all" and source.partition(":")[0] == "hub":  # which have one is not known
        found = dict.fromkeys([*found][: max(1, round(sum(found.values())))], 1.0)
    return (dict([*found.items()][:1]) if run.example else found), task


@cache
def _drawn(
    name: str, n: int | None, seed: int, kind: str, per_picture: int | None, source: str
) -> tuple[dict, Task]:
    """Rows by key: the chance of a picture and whether boxes are known; and the task's facts."""
    if source.partition(":")[0] == "hub":
        task = ON_HUB[name]
        places = Random(seed).sample(range(task.rows), task.rows)[:n]  # its pictures not known
        return dict.fromkeys(sorted(places), (task.pictured, False)), task
    samples = load_task(
        name,
        n=None if name == "own" else n,
        source=source,
        kind=kind or None,
        per_picture=None if name == "own" else per_picture,
        seed=seed,
    )[:n]  # of one's own all, at most n
    rows = {s.key: (float(s.image is not None), bool(s.boxes)) for s in samples}
    if several := [sample.key for sample in samples if len(sample.images) > 1]:
        raise ValueError(
            f"asked to plan rows of {name!r}, found several pictures in {len(several)} of them "
            f"({several[0]!r} first), and a plan knows one a row; plan with rows of one each"
        )
    pictures = [sample.image for sample in samples if sample.image is not None]
    known = ON_HUB["textvqa" if name == "own" else name]  # how long own answers are is not
    first = open_picture(pictures[0]) if pictures else None
    task = Task(
        rows=len(samples),
        pictured=len(pictures) / len(samples),
        chars=sum(len(sample.prompt) for sample in samples) / len(samples),
        new=BUNDLED_ANSWERS[name] if source in BUNDLES else known.new,
        size=first.size if first else known.size,
    )
    return rows, task
