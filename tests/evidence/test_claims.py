"""Claims: stated once, judged by one rule, refused where they were changed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import yaml

from irlib import store
from irlib.evidence import claims, effects
from irlib.evidence.bounds import Estimate

FILE = store.root() / "notebooks/claims.yaml"
ROWS = "7e9fb1a50cd15af4"
HASHES = {
    "C1.falls": "841d998df92b5088",
    "C1.text": "bd9e1fd082d8d0c1",
    "C1.text_without_first": "c3f926f4cbaadd63",
    "C1.even": "15c6d34c0e02d1e6",
    "C2.gradient": "9a83b200749b89ee",
    "C3.early": "a7fc63fc6a729c96",
    "C3.deep": "5734b6a0563b786f",
    "C4.order": "8bf3627f1a4f12ef",
    "C5.spare": "75786f6c1d9d23b4",
    "C6.depth": "e72163e93047fdfd",
    "C7.attention": "816b264fce4fdc3d",
    "C7.cam": "6917f78720ed1399",
    "C8.site": "f5d498371554dacd",
    "C9.text": "eda61829a41eac78",
    "C9.guess": "cbf5818f17f4e1b6",
    "C9.share": "f228e5f561dff12f",
    # appended, before any held row was run by them
    "C10.presence_not_direct": "e1b3b64308c95009",
    "C10.presence_through_question": "3fbfa7d95058f35e",
    "C10.reading_direct": "a6938f3325859b6c",
    "C10.reading_not_through_question": "46bff501efe76824",
    "C11.removed_in_place": "f7c0d287653d2d31",
    "C11.removed_renumbered": "342ad84f2115200c",
    "C11.mean": "db2b8dbfbb6dcc53",
}


def stated():
    return claims.read(FILE, statistics=effects.STATISTICS)


def entry(**changes):
    return replace(stated().entries[0], **changes)


def found(low, high, units=50):
    return Estimate((low + high) / 2, low, high, units, units)


def naive(expect, low, high, m):
    """The rules at the head of the file, set by set: what does every point of the interval say?"""
    points = np.linspace(low, high, 401)
    if expect == "none":
        if (abs(points) <= m).all():
            return "shown"
        return "refuted" if (points > m).all() or (points < -m).all() else "not resolved"
    if (points >= m).all():
        return "shown"
    if (points < m).all():
        return "smaller than matters" if (points >= -m).all() else "refuted"
    return "not resolved"


@pytest.mark.parametrize("expect", ["more", "none"])
def test_an_outcome_is_what_every_point_of_the_interval_says(expect):
    one, ends = entry(expect=expect, matters=0.05), np.linspace(-0.2, 0.2, 17)
    came = set()
    for low, high in itertools.combinations(ends, 2):
        came.add(claims.outcome(one, found(low, high)))
        assert claims.outcome(one, found(low, high)) == naive(expect, low, high, 0.05), (low, high)
    assert came == {*claims.JUDGED[expect], claims.UNRESOLVED}


def test_few_pictures_and_unknown_intervals_resolve_nothing():
    one = entry(fewest=30)
    assert claims.outcome(one, found(0.5, 0.6, units=29)) == claims.UNRESOLVED
    assert claims.outcome(one, found(0.5, 0.6, units=30)) == claims.SHOWN
    assert claims.outcome(one, found(np.nan, np.nan)) == claims.UNRESOLVED


def test_the_papers_nine_claims_and_two_beside_are_stated_and_their_parts_share_the_doubt():
    told = stated()
    assert {one.claim for one in told.entries} == {f"C{i}" for i in range(1, 12)}
    assert set(told.hashes) == {one.id for one in told.entries}
    assert told.confidence("C1") == pytest.approx(1 - 0.05 / 4)
    assert told.confidence("C2") == pytest.approx(0.95)
    assert told.confidence("C8") == pytest.approx(1 - 0.05 / 4)
    assert told.confidence("C10") == told.confidence("C11") == pytest.approx(1 - 0.05 / 4)


def test_what_was_stated_stands():
    """Hashes of 26 November 2026, before any result: an entry may follow, none may change."""
    assert claims.fingerprint(stated().rows) == ROWS
    told = stated().hashes
    assert {name: told[name] for name in HASHES} == HASHES


def test_rows_that_were_looked_at_judge_nothing():
    claims.check_rows(stated(), source="held", seed=0, sizes="mini")
    claims.check_rows(stated(), source="hub:own/pope", seed=0, sizes="paper")
    for wrong in ({"source": "bundled"}, {"seed": 1}, {"sizes": "paper"}):
        options = {"source": "held", "seed": 0, "sizes": "smol"} | wrong
        with pytest.raises(ValueError, match="judge on these, and explore with the figures"):
            claims.check_rows(stated(), **options)


def edited(tmp_path, change):
    told = yaml.safe_load(FILE.read_text())
    change(told)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def rehashed(change):
    """A change of the first entry that its author also gave a hash."""

    def both(told):
        change(told["entries"][0])
        told["entries"][0]["hash"] = claims.fingerprint(told["entries"][0])

    return both


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told["entries"][3].update(matters=0.04), "is not edited once stated"),
        (lambda told: told["entries"][0].pop("hash"), "has the hash None"),
        (lambda told: told["entries"].append(told["entries"][0]), "the id of another"),
        (rehashed(lambda e: e.update(statistic="mood")), "the statistic 'mood'; known are"),
        (rehashed(lambda e: e.update(expect="less")), "expect 'less'"),
        (rehashed(lambda e: e["wording"].update(perhaps="x")), "wording for .*perhaps"),
        (rehashed(lambda e: e.update(matters=0)), "what matters"),
        (rehashed(lambda e: e.update(mood="x")), "does not read"),
        (rehashed(lambda e: e.update(outcome="true by construction")), "true by construction"),
    ],
)
def test_a_changed_or_unknown_entry_is_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        claims.read(edited(tmp_path, change), statistics=effects.STATISTICS)


def test_another_layout_of_the_file_is_the_same_file(tmp_path):
    again = claims.read(edited(tmp_path, lambda told: None))
    assert again == stated()


def test_a_claim_is_judged_by_all_its_parts_in_its_own_words():
    told = stated()
    parts = {e.id: dict.fromkeys(e.parts, found(0.7, 0.8, 90)) for e in told.entries if e.statistic}
    table = claims.judge(told, parts, model="m")
    first = table.iloc[0]
    assert (first["outcome"], first["says"]) == ("shown", told.entries[0].wording["shown"])
    assert first["resolves"] == pytest.approx(0.05)
    assert list(table["id"].unique()) == [one.id for one in told.entries]
    assert set(table.query("claim == 'C6'")["outcome"]) == {"refuted"}  # 0.7 apart is not none
    bare = table[table["outcome"].isin([claims.CONSTRUCTED, claims.UNTESTABLE])]
    assert bare["value"].isna().all()
    assert set(bare["id"]) == {"C7.cam", "C9.share", "C11.removed_in_place"}
    del parts["C8.site"]["mlp"]
    with pytest.raises(ValueError, match=r"C8\.site was to be judged by its parts"):
        claims.judge(told, parts, model="m")
