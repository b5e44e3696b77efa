"""What each notebook runs, row by row: one entry of `RUNS` a figure, by its parameters.

tests/plan/test_planning.py runs every notebook and counts what it calls.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a notebook does with each row that it draws of a task, for each of its models.

    `which` rows: "all", "pictured", or "boxed" (all with a picture where none has a box). `answers`
    are greedy answers outside of sweeps, `flows` passes whose attention is probed, at the answer's
    positions or, with `everywhere`, at all; `cams` noisy copies, each one forward and one backward.
    `sweep` is "all" for every layer, "one" for one layer and the untouched model. With `example` it
    is done for one of the rows alone. `part` is that of `load_task`: "find", "judge" or all rows.
    `model` is another than the notebook's own.
    """

    task: str
    n: int
    seed: int
    kind: str = ""
    which: str = "pictured"
    answers: int = 0
    flows: int = 0
    everywhere: bool = False
    cams: int = 0
    sweep: str = ""
    example: bool = False
    part: str | None = None
    model: str | None = None


FOUR = ("scienceqa", "textvqa", "pope", "chair")


def _each(tasks: Iterable[str], p: Mapping, **what) -> list[Run]:
    """The same for each task; captions have a count of their own."""
    counts = {"chair": p.get("captions", p["n"])}
    return [Run(**{"task": t, "n": counts.get(t, p["n"]), "seed": p["seed"]} | what) for t in tasks]


def _flow(p: Mapping, **what) -> list[Run]:
    return _each(p["tasks"], p, answers=1, flows=1, **what)


def _cams(tasks: Iterable[str], p: Mapping, **what) -> list[Run]:
    return _each(tasks, p, answers=1, cams=p["copies"], **what)


def _judged(p: Mapping) -> list[Run]:
    """The rows that find table 1's cliffs, and those that judge them."""
    held = {**p, "n": p["held"], "captions": p["held_captions"]}
    return [
        *_each(FOUR, p, which="all", sweep="all", part="find"),
        *_each(FOUR, held, which="all", sweep="one", part="judge"),
    ]


RUNS: MappingProxyType[str, Callable[[Mapping], list[Run]]] = MappingProxyType({
    "fig1_information_flow": lambda p: _flow(p, everywhere=True),
    "fig2_attention_shares": lambda p: [
        *_flow(p),
        *[run for name in p["controls"] for run in _flow(p, model=name)],
        *_each(p["tasks"][:1], p, answers=1, flows=1, everywhere=True, example=True),
    ],
    "fig3_cam_scienceqa": lambda p: _cams(["scienceqa"], p, kind=p["kind"]),
    "fig4_cam_pope_textvqa": lambda p: _cams(["pope", "textvqa"], p, which="boxed"),
    "fig5_truncation": lambda p: _each(FOUR, p, which="all", sweep="all", part="find"),
    "fig6_truncation_diagram": lambda p: [
        *_each([p["task"]], p, answers=2, flows=1),
        *_each([p["task"]], p, answers=1, flows=1, everywhere=True, example=True),
    ],
    "fig7_cam_sites": lambda p: [
        *_each([p["task"]], p, which="boxed", answers=1, cams=2),
        *_each([p["task"]], p, which="boxed", answers=1, cams=2, example=True),
    ],
    "fig8_cam_gallery": lambda p: _cams(p["tasks"], p, which="boxed"),
    "fig9_no_picture_needed": lambda p: _each(
        ["scienceqa"], p, which="all", sweep="all", part="find"
    ),
    "table1_generalisation": _judged,
})  # fmt: skip


def runs(stem: str, parameters: Mapping) -> list[Run]:
    """The runs of a notebook with these parameters; raises `ValueError` for one not counted.

    >>> [(run.task, run.cams) for run in runs("fig3_cam_scienceqa", dict(kind="", n=5, seed=0,
    ...                                                                  copies=8))]
    [('scienceqa', 8)]
    """
    if stem not in RUNS:
        raise ValueError(
            f"asked what {stem} runs; counted are {', '.join(RUNS)}; name one of these, or add "
            "what the notebook runs to RUNS in runs.py"
        )
    return RUNS[stem](parameters)
