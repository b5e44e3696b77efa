"""The statistics of the claims, each against a loop over pictures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from irlib import store
from irlib.evidence import claims, effects
from irlib.evidence.bounds import estimate
from irlib.evidence.cliff import cliff_layer
from irlib.evidence.ground import Ground

STATED = claims.read(store.root() / "notebooks/claims.yaml", statistics=effects.STATISTICS)
ENTRY = {entry.statistic: entry for entry in STATED.entries if entry.statistic}
RNG = np.random.default_rng(0)
DEPTH = 12  # 5 of 32 of it are shallow: 2


def flow():
    """Shares of segments by picture and layer; the first token stands in system text."""
    rows = []
    for picture in "abcdefgh":
        for layer in range(DEPTH):
            shares = RNG.dirichlet(np.ones(4))
            kinds = ("first", "system"), ("system", "system"), ("image", "image"), ("user", "user")
            for share, (segment, of) in zip(shares, kinds, strict=True):
                rows.append(
                    ("m", "pope", picture, picture, layer, "answer", segment, of, share, 0.4)
                )
    names = "model task sample picture layer query segment of share uniform".split()
    return pd.DataFrame(rows, columns=names)


def ground(**tables):
    tasks = {name: sorted(set(table["task"])) for name, table in tables.items()}
    return Ground(tables=tables, model="m", layers={"m": DEPTH}, tasks=tasks, margin=0.05)


def judged(name, **tables):
    return effects.STATISTICS[name](ground(**tables), ENTRY[name], 0.9)


def student(values):
    low, high = stats.t.interval(0.9, len(values) - 1, np.mean(values), stats.sem(values))
    return np.mean(values), low, high


NAIVE = {  # by picture, of share[segment][layer]
    "share_drop": lambda s: np.mean(s["image"][:2]) - np.mean(s["image"][2:11]),
    "share_below_text": lambda s: np.mean(
        s["first"][2:11] + s["system"][2:11] + s["user"][2:11] - s["image"][2:11]
    ),
    "share_below_text_without_first": lambda s: np.mean(
        s["system"][2:11] + s["user"][2:11] - s["image"][2:11]
    ),
    "share_below_even": lambda s: 0.4 - np.mean(s["image"][2:11]),
    "share_last_rise": lambda s: s["image"][11] - np.mean(s["image"][2:11]),
}


@pytest.mark.parametrize("name", NAIVE)
def test_shares_are_those_of_a_loop_over_pictures(name):
    table, effect = flow(), []
    for _, mine in table.groupby("picture"):
        share = {
            segment: rows.sort_values("layer")["share"].to_numpy()
            for segment, rows in mine.groupby("segment")
        }
        effect.append(NAIVE[name](share))
    found = judged(name, flow=table)["all tasks"]
    assert (found.value, found.low, found.high) == pytest.approx(student(effect))
    assert found.units == 8


def test_the_first_token_belongs_to_the_image_where_it_stands_in_it():
    table = flow()
    table.loc[table["segment"] == "first", "of"] = "image"
    found = judged("share_below_even", flow=table)["all tasks"]
    inner = table[(table["of"] == "image") & table["layer"].between(2, 10)]
    by_layer = inner.groupby(["picture", "layer"])[["share", "uniform"]].sum()
    effect = (by_layer["uniform"] - by_layer["share"]).groupby("picture").mean()
    assert found.value == pytest.approx(effect.mean())


def test_several_questions_about_a_picture_are_one_unit():
    table = flow()
    twice = pd.concat([table, table.assign(sample=table["sample"] + "2")])
    one, two = (judged("share_drop", flow=rows)["all tasks"] for rows in (table, twice))
    assert vars(one) == pytest.approx(vars(two))


def test_maps_are_compared_picture_by_picture():
    maps = ["cam post_attention", "cam input_norm", "cam attention", "cam mlp", "cam block"]
    rows = [
        ("m", "pope", picture, picture, name, size, RNG.random(), RNG.random())
        for picture in "abcde"
        for name in (*maps, "attention")
        for size in (1 / 16, 1 / 4)
    ]
    table = pd.DataFrame(
        rows, columns="model task sample picture map size inserted deleted".split()
    )
    gain = {
        (p, m): np.mean(mine["inserted"] - mine["deleted"])
        for (p, m), mine in table.groupby(["picture", "map"])
    }
    beyond = [gain[p, maps[0]] - gain[p, "attention"] for p in "abcde"]
    found = judged("insertion_beyond_attention", maps=table)["all tasks"]
    assert (found.value, found.low, found.high) == pytest.approx(student(beyond))
    sites = judged("insertion_beyond_site", maps=table)
    assert set(sites) == {"input_norm", "attention", "mlp", "block"}
    beyond = [gain[p, maps[0]] - gain[p, "cam mlp"] for p in "abcde"]
    assert sites["mlp"].value == pytest.approx(np.mean(beyond))


def test_a_map_that_does_not_know_the_question_has_no_effect_and_the_last_layer_has_none():
    rows = []
    for task in ("pope", "textvqa"):
        for picture in "abcd":
            a, b = RNG.random((2, DEPTH))  # the same map twice: what one calls own is the other's
            for sample, own, other in (("1", a, b), ("2", b, a)):
                for layer in range(DEPTH):
                    last = layer == DEPTH - 1
                    here = (np.nan, np.nan) if last else (own[layer], other[layer])
                    rows.append(("m", task, picture + sample, picture, layer, *here))
    table = pd.DataFrame(rows, columns="model task sample picture layer own other".split())
    for name in ("own_box_early", "own_box_early_beyond_deep"):
        for found in judged(name, pairs=table).values():
            assert found.value == pytest.approx(0, abs=1e-12)
            assert found.units == 4
    table["own"] += np.where(table["layer"] < 8, 0.2, 0.05)  # two thirds of the layers
    assert judged("own_box_early", pairs=table)["pope"].value == pytest.approx(0.2)
    deep = judged("own_box_early_beyond_deep", pairs=table)["textvqa"]
    assert deep.value == pytest.approx(0.15)


def test_rows_without_boxes_leave_a_claim_unresolved():
    bare = pd.DataFrame(columns="model task sample picture layer own other".split())
    for name in ("own_box_early", "own_box_early_beyond_deep"):
        for found in judged(name, pairs=bare).values():
            assert found.units == 0
            assert claims.outcome(ENTRY[name], found) == claims.UNRESOLVED


def sweeps(steps, model="m", n=120):
    """A sweep a task in which answers are right from layer steps[task] on."""
    rows = [
        (model, task, "x", 0, f"{task}{i}", f"{task}{i}", f"{task}{i}", layer, float(layer >= step))
        for task, step in steps.items()
        for i in range(n)
        for layer in range(DEPTH + 1)
    ]
    names = "model task kind keep sample picture asked layer score".split()
    table = pd.DataFrame(rows, columns=names)
    return table.assign(tp=table["score"], has_image=1)


def test_cliffs_are_later_and_to_spare_as_their_certified_limits_say():
    table = sweeps({"textvqa": 9})
    cliff = cliff_layer(table, margin=0.05, confidence=0.9)
    assert (cliff.low, cliff.layer, cliff.high) == (9, 9, 9)
    one = replace(ENTRY["depth_to_spare"], parts=("textvqa",))
    found = effects.STATISTICS["depth_to_spare"](ground(sweep=table), one, 0.9)["textvqa"]
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (found.n, found.units) == (120, 120)
    few = sweeps({"textvqa": 9}, n=20)  # 20 pictures clear no five points
    found = effects.STATISTICS["depth_to_spare"](ground(sweep=few), one, 0.9)["textvqa"]
    assert found.low == 0
    assert claims.outcome(one, found) == claims.UNRESOLVED


def test_models_are_as_far_apart_as_their_cliffs_allow():
    table = pd.concat([sweeps({"textvqa": 9}), sweeps({"textvqa": 3}, model="other")])
    both = replace(ground(sweep=table), layers={"m": DEPTH, "other": DEPTH})
    one = replace(ENTRY["cliffs_apart"], parts=("textvqa",))
    found = effects.STATISTICS["cliffs_apart"](both, one, 0.9)["textvqa"]
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert claims.outcome(one, found) == claims.REFUTED


def test_answers_are_beyond_a_guess_by_exact_intervals():
    rows = [("m", f"{i}", "text", 0, 0, float(i % 4 > 0)) for i in range(40)]
    rows += [("m", f"{i}", "text", 12, 0, 1.0) for i in range(40)]  # seen: does not count
    table = pd.DataFrame(rows, columns="model picture kind layer keep score".split())
    table = table.assign(sample=table["picture"], task="scienceqa", guess=1 / 3)
    found = effects.STATISTICS["unseen_beyond_guess"](
        ground(unseen=table), replace(ENTRY["unseen_beyond_guess"], parts=("text",),
                                      options={"kinds": ["text"]}), 0.9
    )["text"]  # fmt: skip
    values = [float(i % 4 > 0) - 1 / 3 for i in range(40)]
    assert found == estimate(values, step=1, confidence=0.9)


def test_other_models_and_missing_tables_are_refused():
    mixed = pd.concat([flow(), flow().assign(model="other")])
    with pytest.raises(ValueError, match=r"found \['m', 'other'\]; give rows of these alone"):
        judged("share_drop", flow=mixed)
    with pytest.raises(ValueError, match="on all layers of m in the table 'flow'"):
        judged("share_drop", flow=flow().query("layer < 6"))
    two = replace(ground(flow=flow()), tasks={"flow": ["pope", "chair"]})
    with pytest.raises(ValueError, match=r"the tasks \['chair', 'pope'\]"):
        effects.STATISTICS["share_drop"](two, ENTRY["share_drop"], 0.9)
    with pytest.raises(ValueError, match="judged on the table 'flow'; found"):
        judged("share_drop", maps=flow())
    with pytest.raises(ValueError, match="with their pictures"):
        judged("share_drop", flow=flow().drop(columns="picture"))


def test_a_map_of_zeros_takes_its_partner_with_it():
    rows = []
    for picture in "abcd":
        for sample, own, other in (("1", 0.7, 0.2), ("2", 0.2, 0.7)):  # knows no question
            for layer in range(DEPTH):
                zero = layer == DEPTH - 1 or (sample == "2" and layer < 3)
                here = (np.nan, np.nan) if zero else (own, other)
                rows.append(("m", "pope", picture + sample, picture, layer, *here))
    table = pd.DataFrame(rows, columns="model task sample picture layer own other".split())
    one = replace(ENTRY["own_box_early"], parts=("pope",))
    found = effects.STATISTICS["own_box_early"](ground(pairs=table), one, 0.9)["pope"]
    assert found.value == pytest.approx(0, abs=1e-12)


def test_one_model_and_heirs_are_at_no_distance():
    alone = effects.STATISTICS["cliffs_apart"](
        ground(sweep=sweeps({"textvqa": 9})), ENTRY["cliffs_apart"], 0.9
    )
    assert {found.units for found in alone.values()} == {0}
    names = ("mini-qwen2vl", "mini-shikra")  # both started from mini-llava's decoder
    table = pd.concat([sweeps({"textvqa": 9}, model=name) for name in names])
    heirs = Ground(
        tables={"sweep": table}, model=names[0], layers=dict.fromkeys(names, DEPTH),
        tasks={"sweep": ["textvqa"]}, margin=0.05,
    )  # fmt: skip
    found = effects.STATISTICS["cliffs_apart"](heirs, ENTRY["cliffs_apart"], 0.9)
    assert all(np.isnan(one.low) for one in found.values())


def test_the_widest_distance_is_between_two_models():
    wide, narrow = sweeps({"textvqa": 4}, n=20), sweeps({"textvqa": 8}, model="other")
    both = replace(ground(sweep=pd.concat([wide, narrow])), layers={"m": DEPTH, "other": DEPTH})
    one = replace(ENTRY["cliffs_apart"], parts=("textvqa",))
    found = effects.STATISTICS["cliffs_apart"](both, one, 0.9)["textvqa"]
    first, second = (cliff_layer(table, margin=0.05, confidence=0.95) for table in (wide, narrow))
    widest = max(first.high - second.low, second.high - first.low) / DEPTH
    assert found.high == pytest.approx(widest)
    assert widest < (first.high - first.low) / DEPTH


def test_one_picture_has_no_interval():
    found = effects.mean_effect(pd.Series([0.5, np.nan]))
    assert (found.units, found.value) == (1, 0.5)
    assert np.isnan(found.low)
