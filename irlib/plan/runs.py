"""What each notebook runs, row by row: one entry of `RUNS` a figure, by its parameters.

tests/plan/test_planning.py runs every notebook and counts what it calls.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from irlib import store
from irlib.evidence import claims
from irlib.tasks.tables import is_own


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a notebook does with each row that it draws of a task, for each of its models.

    `n` rows, None for all; `which`: "all", "pictured", or "boxed" (all with a picture where none
    has a box). `answers` are greedy answers outside of sweeps, `flows` passes whose attention is
    probed, at the answer's positions or, with `everywhere`, at all; `cams` noisy copies, each one
    forward and one backward.
    `sweep` is "all" for every layer, "one" for one layer and the untouched model. With `example` it
    is done for one of the rows alone. `cut` is the edge that a sweep cuts, or the way in which it
    hides, where that is not truncation's mask: such answers are kept apart. `tested` are passes
    with some image tokens hidden, `alone` such passes for each image token of the picture. Rows are
    those of `load_task`, one a picture unless `per_picture` says otherwise. `model` and `source`
    are others than the notebook's own.
    """

    task: str
    n: int | None
    seed: int
    kind: str = ""
    which: str = "pictured"
    answers: int = 0
    flows: int = 0
    everywhere: bool = False
    cams: int = 0
    sweep: str = ""
    cut: str = ""
    example: bool = False
    tested: int = 0
    alone: int = 0
    per_picture: int | None = 1
    model: str | None = None
    source: str | None = None


EDGES = ("image>question", "image>answer", "question>answer")
PATCHED = ("patched image", "patched question", "patched last row")
FOUR = ("scienceqa", "textvqa", "pope", "chair")


def _each(tasks: Iterable[str], p: Mapping, **what) -> list[Run]:
    """The same for each task; captions have a count of their own."""
    counts = {"chair": p.get("captions", p["n"])}
    return [Run(**{"task": t, "n": counts.get(t, p["n"]), "seed": p["seed"]} | what) for t in tasks]


def _flow(p: Mapping, **what) -> list[Run]:
    return _each(p["tasks"], p, **{"answers": 1, "flows": 1} | what)


def _cams(tasks: Iterable[str], p: Mapping, **what) -> list[Run]:
    return _each(tasks, p, answers=1, cams=p["copies"], **what)


def _claims(p: Mapping) -> list[Run]:
    """What claims.yaml says of rows and counts; a test of maps is 4 passes a map, and 2 beside."""
    stated = claims.read(store.root() / "notebooks/claims.yaml")
    tables = stated.rows["tables"]
    n = {name: told[p["sizes"]] for name, told in tables.items()}
    n |= {"pairs": 2 * n["pairs"], "unseen": None if n["unseen"] == "all" else n["unseen"]}
    captions = n["captions"]

    def rows(name: str, **what) -> list[Run]:
        counts = dict.fromkeys(tables[name]["tasks"], n[name])
        counts |= {"chair": captions} if name == "sweep" else {}
        kinds = {"scienceqa": "image"}
        return [
            Run(task=task, n=count, seed=p["seed"], kind=kinds.get(task, ""), **what)
            for task, count in counts.items()
        ]

    def asked(table: str) -> list[tuple[str, int, str]]:
        mine = [(e, e.options) for e in stated.entries if e.table == table]
        return [(t, o["pictures"][p["sizes"]], o.get("edge", "")) for e, o in mine for t in e.parts]

    both = list(dict.fromkeys(asked("ways")))
    return [
        *rows("flow", answers=1, flows=1),
        *[run for name in p["beside"] for run in rows("sweep", sweep="all", model=name)],
        *rows("sweep", sweep="all"),
        *rows("unseen", sweep="one"),
        *rows("maps", answers=1, flows=1, cams=1, tested=26),
        *rows("pairs", answers=1, cams=1, per_picture=2),
        *[Run(task=t, n=c, seed=p["seed"], sweep="one", cut=e) for t, c, e in asked("routes")],
        *[Run(task=t, n=count, seed=p["seed"], answers=1, tested=3) for t, count, _ in both],
        *[Run(task=t, n=8, seed=p["seed"], tested=1) for t, *_ in both],  # for their average
    ]


def _knockout(p: Mapping) -> list[Run]:
    """The image hidden, three edges cut in two ways, attention, and two other ways of hiding."""
    two, few = ("pope", "textvqa"), {**p, "n": p["few"]}
    cuts = ["", *[f"{edge} {kind}" for edge in EDGES for kind in ("from", "window")]]
    return [
        *[run for cut in cuts for run in _each(two, p, sweep="all", cut=cut)],
        *_each(two, p, answers=1, flows=1),
        *[run for way in ("", "drop", "mean") for run in _each(two, few, sweep="all", cut=way)],
        *_each(two, {**p, "n": 8, "seed": p["seed"] + 1}, tested=1),  # an average image
    ]


def _faithfulness(p: Mapping) -> list[Run]:
    """Maps of two questions a picture; of the first of some, passes with tokens hidden."""
    layered = [m for m in p["maps"] if m.startswith(("cam ", "token ", "attention"))]
    sloped = any(m.startswith(("cam ", "token ")) for m in layered)
    sloped += bool({"attention x gradient", "gradient norm"} & {*p["maps"]})
    each = {"answers": 1, "flows": int("attention" in layered), "cams": sloped}
    rankings = len(p["maps"]) + p["depths"] * len(layered)
    hidden = {
        "tested": 2 + 2 * len(p["shares"]) * rankings,
        "alone": p["maps"].count("leave one out"),
    }
    few = min(p["n"], p["explained"])
    return [
        Run(task=task, n=n, seed=p["seed"], per_picture=most, **each, **more)
        for task in p["tasks"]
        for n, most, more in ((2 * p["n"], 2, {}), (few, 1, hidden))
    ]


def _topk(p: Mapping) -> list[Run]:
    """An answer for every ranking, number and layer, and for none kept."""
    maps = [m for m in p["rankings"] if m != "last row"]
    sloped = any(m.startswith(("cam ", "token ")) for m in maps)
    sloped += bool({"attention x gradient", "gradient norm"} & {*maps})
    cells = p["depths"] * (len(p["kept"]) * len(p["rankings"]) + 1)
    flows = ("last row" in p["rankings"]) + ("attention" in maps)
    return _each(p["tasks"], p, answers=1, flows=flows, cams=sloped, tested=cells)


def _lens(p: Mapping) -> list[Run]:
    """A pass at the last row, and one on the picture: of the answer's word and another's."""
    kinds = {"scienceqa": "image"}
    return [
        Run(task=task, n=p["n"], seed=p["seed"], kind=kinds.get(task, ""), **what)
        for task in p["tasks"]
        for what in ({"answers": 1, "flows": 2}, {"sweep": "all"})
    ]


def _patching(p: Mapping) -> list[Run]:
    """Both runs of each pair; three segments patched, and the image hidden, at every layer."""
    folder = store.root() / "data/pairs" if p["source"] == "bundled" else p["source"]
    ways = ({"answers": 1}, *({"sweep": "all", "cut": cut} for cut in ("", *PATCHED)))
    return [
        Run(task="own", n=2 * p["n"], seed=p["seed"], source=f"{folder}/{kind}.parquet", **way)
        for kind in p["kinds"]
        for way in ways
    ]


RUNS: MappingProxyType[str, Callable[[Mapping], list[Run]]] = MappingProxyType({
    "claims": _claims,
    "fig10_knockout": _knockout,
    "fig11_faithfulness": _faithfulness,
    "fig12_topk": _topk,
    "fig13_logit_lens": _lens,
    "fig14_patching": _patching,
    "fig1_information_flow": lambda p: _flow(p, everywhere=True),
    "fig2_attention_shares": lambda p: [
        *_flow(p),
        *[run for name in p["controls"] for run in _flow(p, answers=0, model=name)],
        *_each(p["tasks"][:1], p, answers=1, flows=1, everywhere=True, example=True),
    ],
    "fig3_cam_scienceqa": lambda p: _cams(["scienceqa"], p, kind=p["kind"]),
    "fig4_cam_pope_textvqa": lambda p: _cams(["pope", "textvqa"], p, which="boxed"),
    "fig5_truncation": lambda p: _each(
        ("own",) if is_own(p.get("source", "bundled")) else FOUR, p, which="all", sweep="all"
    ),
    "fig6_truncation_diagram": lambda p: [
        *_each([p["task"]], p, answers=2, flows=1),
        *_each([p["task"]], p, answers=1, flows=1, everywhere=True, example=True),
    ],
    "fig7_cam_sites": lambda p: [
        *_each([p["task"]], p, which="boxed", answers=1, cams=2),
        *_each([p["task"]], p, which="boxed", answers=1, cams=2, example=True),
    ],
    "fig8_cam_gallery": lambda p: _cams(p["tasks"], p, which="boxed"),
    "fig9_no_picture_needed": lambda p: _each(["scienceqa"], p, which="all", sweep="all"),
    "table1_generalisation": lambda p: _each(FOUR, p, which="all", sweep="all"),
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
