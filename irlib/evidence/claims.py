"""Claims stated before the data (notebooks/claims.yaml), and what intervals make of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from irlib.evidence.bounds import Estimate

SHOWN, REFUTED, SMALLER = "shown", "refuted", "smaller than matters"
UNRESOLVED, CONSTRUCTED, UNTESTABLE = "not resolved", "true by construction", "not testable here"
JUDGED = {"more": (SHOWN, REFUTED, SMALLER), "none": (SHOWN, REFUTED)}
"""What may come out, by what is expected, besides 'not resolved'."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One statement of the file, as it stands there; `hash` is that of all the rest of it.

    An entry with an `outcome` says `why` nothing is measured; any other has a statistic and what
    it takes to judge it.
    """

    id: str
    claim: str
    paper: str
    says: str
    hash: str
    outcome: str = ""
    why: str = ""
    effect: str = ""
    statistic: str = ""
    table: str = ""
    options: Mapping = field(default_factory=dict)
    expect: str = ""
    matters: float = 0.0
    step: float = 0.0
    fewest: int = 0
    parts: tuple[str, ...] = ()
    wording: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claims:
    """The entries of a file in its order, the rows that they are judged on, and its hash."""

    rows: Mapping
    entries: tuple[Entry, ...]
    hash: str

    def confidence(self, claim: str) -> float:
        """Return the confidence of each part of a claim: .95 shared by all of them (Bonferroni)."""
        return 1 - 0.05 / sum(len(e.parts) for e in self.entries if e.claim == claim)

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each entry, for the provenance."""
        return {entry.id: entry.hash for entry in self.entries}


def read(path: str | Path, *, statistics: Iterable[str] | None = None) -> Claims:
    """Return the claims of a file; with `statistics` their names must be among these.

    Raises `ValueError` for an entry that does not read, that was changed after it was stated, that
    names an unknown statistic or outcome, or whose name another has.
    """
    told = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    known = None if statistics is None else set(statistics)
    entries = []
    for number, given in enumerate(told["entries"]):
        whose = f"claims were read from {path}; entry {number} ({given.get('id', 'without id')})"
        entry = _entry(dict(given), whose)
        if entry.id in {other.id for other in entries}:
            raise ValueError(f"{whose} has the id of another; give it one of its own.")
        if known is not None and entry.statistic and entry.statistic not in known:
            raise ValueError(
                f"{whose} has the statistic {entry.statistic!r}; known are {sorted(known)}; use "
                "one of them."
            )
        entries.append(entry)
    return Claims(told["rows"], tuple(entries), fingerprint(told))


def fingerprint(told: Mapping) -> str:
    """Return the hash of an entry, or of a whole file: 16 hex digits, whatever its layout."""
    rest = {key: value for key, value in told.items() if key != "hash"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entry(given: dict, whose: str) -> Entry:
    """One entry, checked."""
    if (now := fingerprint(given)) != given.get("hash"):
        raise ValueError(
            f"{whose} has the hash {given.get('hash')}, and what stands there {now}; it "
            f"is not edited once stated: restore it and append another. A new one's is {now}."
        )
    try:
        entry = Entry(**{**given, "parts": tuple(given.get("parts", ()))})
    except TypeError as error:
        raise ValueError(f"{whose} does not read: {error}; write it as its neighbours.") from error
    if entry.outcome:
        fits = entry.outcome in (CONSTRUCTED, UNTESTABLE) and entry.why and not entry.statistic
    else:
        fits = entry.expect in JUDGED and entry.statistic and entry.parts and entry.matters > 0
        fits = fits and set(entry.wording) <= set(JUDGED[entry.expect]) and SHOWN in entry.wording
    if not fits:
        raise ValueError(
            f"{whose} has expect {entry.expect!r}, outcome {entry.outcome!r} and wording for "
            f"{list(entry.wording)}; give a statistic, its parts, what matters, expect of "
            f"{list(JUDGED)} and wording of its outcomes ({JUDGED}), or the outcome "
            f"{CONSTRUCTED!r} or {UNTESTABLE!r} and why."
        )
    return entry


def check_rows(claims: Claims, *, source: str, seed: int, sizes: str) -> None:
    """Raise `ValueError` for other rows than the stated ones: these were looked at.

    At the paper's scale (`sizes` "paper") rows are those of the hub.
    """
    stated = ("hub" if sizes == "paper" else claims.rows["source"], 0)
    if (source.partition(":")[0], seed) != stated:
        raise ValueError(
            f"claims were to be judged on rows of {source!r} by seed {seed}; stated were those of "
            f"{stated[0]!r} by seed {stated[1]}; judge on these, and explore with the figures"
        )


def outcome(entry: Entry, found: Estimate) -> str:
    """Return what an interval makes of an entry, by the rules at the head of the file.

    >>> entry = Entry(id="C0", claim="C0", paper="", says="", hash="", expect="more", matters=.05,
    ...               fewest=30)
    >>> outcome(entry, Estimate(value=.2, low=.1, high=.3, n=90, units=90))
    'shown'
    >>> outcome(entry, Estimate(value=.2, low=.0, high=.3, n=90, units=90))
    'not resolved'
    """
    low, high, m = found.low, found.high, entry.matters
    if found.units < entry.fewest or not low <= high:  # NaN too
        return UNRESOLVED
    if entry.expect == "none":
        return SHOWN if -m <= low and high <= m else REFUTED if low > m or high < -m else UNRESOLVED
    if low >= m:
        return SHOWN
    return UNRESOLVED if high >= m else SMALLER if low >= -m else REFUTED


def judge(
    claims: Claims, found: Mapping[str, Mapping[str, Estimate]], *, model: str
) -> pd.DataFrame:
    """Return a row an entry and part: what came out for a model.

    `found[id][part]` are the estimates. Columns `model, claim, id, statement, part, outcome,
    says, value, low, high, matters, units, resolves, hash`; `says` is the entry's own wording of
    the outcome, and `resolves` half the interval's width. Raises `ValueError` where parts are
    missing or others.
    """
    rows = []
    for entry in claims.entries:
        head = {"model": model, "claim": entry.claim, "id": entry.id, "statement": entry.says}
        if entry.outcome:
            rows.append(head | {"outcome": entry.outcome, "says": entry.why, "hash": entry.hash})
            continue
        parts = found.get(entry.id, {})
        if set(parts) != set(entry.parts):
            raise ValueError(
                f"claim {entry.id} was to be judged by its parts {list(entry.parts)}; found "
                f"estimates of {list(parts)}; give one of each."
            )
        for part in entry.parts:
            one = parts[part]
            came = outcome(entry, one)
            unsaid = f"Not resolved by {one.units} pictures"
            unsaid += "" if pd.isna(one.low) else f", to ±{(one.high - one.low) / 2:.2f}"
            rows.append(
                head
                | {"part": part, "outcome": came, "says": entry.wording.get(came, unsaid)}
                | {"value": one.value, "low": one.low, "high": one.high}
                | {"matters": entry.matters, "units": one.units}
                | {"resolves": (one.high - one.low) / 2, "hash": entry.hash}
            )
    columns = [
        "model",
        "claim",
        "id",
        "statement",
        "part",
        "outcome",
        "says",
        "value",
        "low",
        "high",
    ]
    columns += ["matters", "units", "resolves", "hash"]
    return pd.DataFrame(rows, columns=columns)
