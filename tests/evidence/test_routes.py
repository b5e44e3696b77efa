"""What claims say of causes: statistics against loops, tables against one run a row."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from irlib import knockout, load, load_task, store, sweep, truncate
from irlib.evidence import claims, effects, routes
from irlib.evidence.bounds import estimate
from irlib.evidence.ground import Ground

STATED = claims.read(store.root() / "notebooks/claims.yaml", statistics=effects.STATISTICS)
BY_ID = {entry.id: entry for entry in STATED.entries}
DEPTH = 12


def ground(**tables):
    tasks = {name: sorted(set(table["task"])) for name, table in tables.items()}
    return Ground(tables=tables, model="m", layers={"m": DEPTH}, tasks=tasks, margin=0.05)


def cut_table():
    """Two edges of a task; of two questions about the first picture one changes."""
    rows = []
    for edge, changed in (("image>answer", {"1", "3"}), ("image>question", {"4"})):
        for sample, picture in zip("12345", "aabcd", strict=True):
            for layer in (0, DEPTH):
                hit = layer == 0 and sample in changed
                told = ("no", 0.0) if hit else ("yes", 1.0)
                rows.append(("m", "pope", sample, picture, layer, 0, edge, "from", *told))
    names = "model task sample picture layer keep edge span answer score".split()
    return pd.DataFrame(rows, columns=names)


def test_a_cut_is_counted_picture_by_picture():
    found = effects.answers_changed(
        ground(routes=cut_table()), BY_ID["C10.presence_not_direct"], 0.9
    )
    wanted = estimate([0.5, 1.0, 0.0, 0.0], step=1, confidence=0.9)  # pictures a, b, c, d
    assert vars(found["pope"]) == pytest.approx(vars(wanted))
    lost = effects.score_lost(
        ground(routes=cut_table()), BY_ID["C10.presence_through_question"], 0.9
    )
    assert lost["pope"].value == pytest.approx(0.25)


def test_a_changed_answer_counts_where_the_score_does_not():
    table = cut_table()
    table.loc[(table["layer"] == 0) & (table["answer"] == "no"), "score"] = 1.0
    one = BY_ID["C10.presence_not_direct"]
    assert effects.answers_changed(ground(routes=table), one, 0.9)["pope"].value == 0.375
    assert effects.score_lost(ground(routes=table), one, 0.9)["pope"].value == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t: t[t["layer"] == 0],
        lambda t: t.assign(layer=t["layer"].replace(0, 1)),
        lambda t: t.assign(span="single"),
        lambda t: t[t["edge"] == "image>question"],
    ],
)
def test_another_cut_judges_nothing(wrong):
    with pytest.raises(ValueError, match="give that layer and the untouched model"):
        effects.answers_changed(
            ground(routes=wrong(cut_table())), BY_ID["C10.presence_not_direct"], 0.9
        )


def ways_tables(limit=4):
    swept = pd.DataFrame([
        {"model": "m", "task": task, "keep": 0, "sample": f"{row}", "picture": f"{row}",
         "layer": layer, "score": float(layer >= limit), "yes": 1, "said_yes": 1}
        for task in ("textvqa",) for row in range(200) for layer in range(DEPTH + 1)
    ])  # fmt: skip
    draw = np.random.default_rng(0).random
    ways = pd.DataFrame([
        {"model": "m", "task": "textvqa", "sample": f"{row}", "picture": f"{row}", "layer": layer,
         "way": way, "probability": draw()}
        for row in range(30) for layer in (limit, 7) for way in ("mask", "mean", "drop, renumbered")
    ])  # fmt: skip
    return swept, ways


def test_ways_are_compared_at_the_masked_cliffs_upper_limit():
    swept, ways = ways_tables()
    one = replace(BY_ID["C11.mean"], parts=("textvqa",))
    found = effects.way_gap(ground(sweep=swept, ways=ways), one, 0.9)["textvqa"]
    gaps = []
    for row in range(30):
        here = ways[(ways["sample"] == f"{row}") & (ways["layer"] == 4)].set_index("way")
        gaps.append(here.loc["mask", "probability"] - here.loc["mean", "probability"])
    assert (found.value, found.units) == (pytest.approx(np.mean(gaps)), 30)
    for short in (ways[ways["layer"] == 7], ways[ways["way"] != "mean"], ways.drop(index=0)):
        with pytest.raises(ValueError, match="from layer 4 on; found"):
            effects.way_gap(ground(sweep=swept, ways=short), one, 0.9)


@torch.no_grad()
def test_measured_tables_are_one_run_a_row(monkeypatch, tmp_path):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    few = [
        replace(e, options={**e.options, "pictures": {"mini": 3}}) if e.options else e
        for e in STATED.entries
    ]
    few, vlm = replace(STATED, entries=tuple(few)), load("mini-llava")
    draw = {"per_picture": 1, "seed": 3}
    rows = {task: load_task(task, n=3, **draw) for task in ("pope", "textvqa")}
    swept = pd.concat([sweep(vlm, mine, progress=False) for mine in rows.values()])
    tables = routes.measured(vlm, few, swept, sizes="mini", **draw)
    cut = tables["routes"]
    assert cut.groupby(["task", "edge"])["sample"].nunique().tolist() == [3, 3, 3, 3]
    sample = rows["textvqa"][1]
    inputs = vlm.prepare(sample)
    with knockout(vlm, inputs, edge="image>answer", layers=range(vlm.n_layers)):
        said = vlm.answer(inputs).text
    mine = cut.query("task == 'textvqa' and edge == 'image>answer' and layer == 0")
    assert mine.set_index("sample").loc[sample.key, "answer"] == said

    hidden = tables["ways"].query("task == 'textvqa'")
    assert set(hidden["way"]) == {"mask", "mean", "drop, renumbered"}
    (layer,) = set(hidden["layer"])
    assert layer == vlm.n_layers - 1  # three pictures certify nothing
    answer = vlm.answer(inputs)
    with truncate(vlm, inputs, layer=layer):
        logits = vlm.forward(inputs.followed_by(answer))[0, inputs.length - 1 :].double()
    steps = zip(logits.log_softmax(-1), answer.ids[0].tolist(), strict=False)
    wanted = math.exp(np.mean([scores[token].item() for scores, token in steps]))
    mine = hidden.set_index(["sample", "way"])["probability"][sample.key, "mask"]
    assert mine == pytest.approx(wanted, rel=1e-5)  # alone or in a batch: float32 rounds otherwise
    facts = {"tasks": routes.tasks(few), "margin": 0.05}
    tables |= {"sweep": swept}
    facts["tasks"]["sweep"] = ["pope", "textvqa"]
    judged_on = Ground(tables=tables, model=vlm.name, layers={vlm.name: vlm.n_layers}, **facts)
    for entry in few.entries:
        if entry.table in ("routes", "ways"):
            found = effects.STATISTICS[entry.statistic](judged_on, entry, 0.9)
            assert list(found) == list(entry.parts)
