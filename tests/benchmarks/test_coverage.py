"""The coverage benchmark on few draws: its drawn sweeps are sweeps, its limits those of irlib."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks import command, coverage, shapes
from benchmarks.settings import QUICK, Settings
from irlib.evidence.cliff import cliff_layer
from irlib.evidence.weights import mean_above
from irlib.scores import pooled

ONE = [("step at 8", 0.85, 0.5, 50, 0.1), ("slow slope", 0.98, 0.5, 100, 0.05)]


def table(cost):
    """A sweep's table in which hiding the image takes `cost` `[layer, answer]`."""
    layers, n = cost.shape
    names = [f"{i:03}" for i in range(n)]
    return pd.DataFrame({
        "model": "m", "task": "textvqa", "keep": 0, "picture": "", "sample": names * (layers + 1),
        "layer": np.repeat(np.arange(layers + 1), n), "score": np.append(-cost.ravel(), [0.0] * n),
    })  # fmt: skip


def limits(drawn, margin):
    """The limits that `coverage` counts, one a draw, from its own judgement of each layer."""
    judged = [coverage._judged(one, margin, len(drawn)) for one in drawn]
    within, above = (np.array(one).T for one in list(zip(*judged, strict=True))[:2])
    low = [1 + np.flatnonzero(row)[-1] if row.any() else 0 for row in above]
    return list(zip(low, coverage._from_on(within), strict=True))


@pytest.mark.parametrize(("name", "top", "floor", "n", "margin"), ONE)
def test_limits_counted_are_those_of_cliff_layer(name, top, floor, n, margin):
    lost = shapes.curves(top, floor)[name]
    drawn = shapes.by_chance(np.random.default_rng(0), top - lost, n=n, rho=0.98, draws=12)
    for draw, (low, high) in enumerate(limits(drawn, margin)):
        cost = np.stack([np.repeat(shapes.FLIPS, one.counts[one.row[draw]]) for one in drawn])
        found = cliff_layer(table(cost), margin=margin)
        assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize("metric", ["POPE Acc", "POPE F1", "POPE P"])
@pytest.mark.parametrize("pictures", [False, True])
def test_units_drawn_from_a_population_are_certified_as_a_table_of_them(metric, pictures):
    rng, size, layers = np.random.default_rng(1), 60, 5
    truth = (rng.random(size) < 0.5).astype(float)
    said = np.array([np.abs(truth - (rng.random(size) < p)) for p in (0.5, 0.2, 0.1, 0.04, 0.05)])
    counts = {"score": (said == truth) * 1.0, "said_yes": said, "is_yes": np.tile(truth, (5, 1))}
    unit = np.arange(size) // 3 if pictures else None
    n = 15 if pictures else 50
    state = np.random.default_rng(7)
    drawn = shapes.from_population(state, counts, metric=metric, unit=unit, n=n, draws=10)
    many = 20 if pictures else size
    times = np.random.default_rng(7).multinomial(n, np.full(many, 1 / many), 10)
    for draw, (low, high) in enumerate(limits(drawn, 0.1)):
        rows, picture = [], []
        for which, often in enumerate(times[draw]):
            mine = [which] if unit is None else np.flatnonzero(unit == which).tolist()
            for copy in range(often):
                rows += mine
                picture += [f"{which} {copy}"] * len(mine)
        told = {name: values[:, rows].ravel() for name, values in counts.items()}
        found = cliff_layer(pd.DataFrame(told | {
            "model": "m", "task": "pope", "keep": 0, "picture": picture * layers,
            "layer": np.repeat(np.arange(layers), len(rows)),
            "sample": [f"{i:03}" for i in range(len(rows))] * layers,
        }), margin=0.1, metric=metric)  # fmt: skip
        assert (found.low, found.high) == (low, high)


def test_a_curve_drawn_by_chance_has_that_chance_and_flips_together():
    lost = shapes.curves(0.85, 0.5)["logistic"]
    drawn = shapes.by_chance(np.random.default_rng(0), 0.85 - lost, n=200, rho=0.98, draws=400)
    for one, loss in zip(drawn, lost, strict=False):
        counts = one.counts[one.row]
        found = (counts @ shapes.FLIPS) / 200
        assert counts.sum(-1).tolist() == [200] * 400
        assert found.mean() == pytest.approx(loss, abs=4 * found.std() / 20)
    deep, shallow = (drawn[i].counts[drawn[i].row][:, [0, 2]].sum() for i in (-1, 2))
    assert deep < shallow / 3


def test_a_curve_has_its_cliff_where_its_name_says():
    found = shapes.curves(0.98, 0.5)
    for name, at in (("step at 8", 8), ("step at 2", 2), ("dip at 8", 9), ("2 points better", 4)):
        within = found[name] <= 0.01
        assert len(within) - np.logical_and.accumulate(within[::-1]).sum() == at
    lost = shapes.edge(32, 20, 0.05)
    assert (lost[19], lost[20], lost[18]) == (pytest.approx(0.052), 0, 0.3)


def test_so_many_draws_show_an_error_of_three_in_a_thousand():
    """Oracle: the exact power of a two-sided test at 5 % on that many draws."""
    n = coverage.draws_to_see(0.003)
    low, high = binom.ppf([0.025, 0.975], n, 0.025)
    power = binom.sf(high, n, 0.028) + binom.cdf(low - 1, n, 0.028)
    assert power == pytest.approx(0.8, abs=0.03)  # the planned one is the normal's


def test_a_small_run_clears_nothing_falsely_and_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "TOPS", coverage.TOPS[:1])
    monkeypatch.setattr(coverage, "MARGINS", (0.1,))
    command.run({"coverage": coverage}, Settings(**QUICK), folder=tmp_path)
    told = json.loads((tmp_path / "coverage-tiny.json").read_text())
    cells = [cell for one in told["comparisons"] for cell in one["cells"]]
    assert len(cells) == 15
    assert not any(cell["surely"] for cell in cells)
    assert max(cell["high_below"] for cell in cells) < 0.06  # .025 and three standard errors of 200
    text = (tmp_path / "coverage-tiny.md").read_text()
    assert text.count("| 50 | 0.1 |") == 15
    assert "200 draws a cell" in text


def test_a_bound_without_doubt_is_found_out(monkeypatch):
    """The plain reading as upper limit is wrong far too often, and the benchmark says so."""
    lost = shapes.edge(12, 8, 0.1)
    drawn = shapes.by_chance(np.random.default_rng(0), 0.85 - lost, n=50, rho=0.98, draws=300)

    assert not coverage.cell(drawn, lost[:-1], margin=0.1)["surely"]
    monkeypatch.setattr(coverage, "_certified", lambda kinds, counts, step, some, *_: some)
    found = coverage.cell(drawn, lost[:-1], margin=0.1)
    assert found["surely"]
    assert found["high_below"] > 0.2


def test_what_is_rough_is_near_enough_to_be_settled():
    """Oracle: the integral that it saves; it is asked anew within a factor of 1.35."""
    rng = np.random.default_rng(0)
    for n in (50, 500):
        counts = np.array([rng.multinomial(n, p) for p in rng.dirichlet((1, 9, 2), 300)])
        counts = np.append(counts, np.ones((300, 1)), axis=1)
        values = np.array([-1.0, 0.0, 1.0, 1.0])
        for margin in (0.05, 0.1):
            exact = mean_above(values, margin, counts=counts)
            rough = coverage.saddle(np.where(counts > 0, values - margin, 0.0), counts)
            tail = (exact > 1e-5) & (exact < 0.1)
            assert tail.sum() > 10
            assert np.abs(np.log(rough[tail] / exact[tail])).max() < 0.15


def test_metrics_of_the_real_sweeps_are_metrics():
    known = {"pope": "said_yes is_yes", "textvqa": "", "scienceqa": "has_image",
             "chair": "mentions hallucinated found objects"}  # fmt: skip
    for _, task, _, metric, _ in coverage.REAL:
        counts = {name: np.ones((2, 3)) for name in ("score " + known[task]).split()}
        assert metric in pooled(task, counts)
