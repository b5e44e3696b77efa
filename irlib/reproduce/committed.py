"""What is committed, held against what is there: figures' numbers, the README, the families."""

import io
import json
import re
import subprocess

import pandas as pd

from irlib import store
from irlib.reproduce.listing import known_families
from irlib.store.compare import differences

JUDGED = ("mini", "smol")  # the profiles whose claims the README tells


def compared(stem: str, profile: str = "mini") -> list[str]:
    """Return what differs between a figure's csv and the committed one, beyond the tolerance."""
    fresh = store.figures(profile) / f"{stem}.csv"
    kept = committed(f"figures/{profile}/{stem}.csv")
    if kept is None:
        return [f"no {stem}.csv is committed: commit it"]
    if not fresh.is_file():
        return [f"no {stem}.csv was made: run make figures"]
    return differences(pd.read_csv(fresh), pd.read_csv(io.StringIO(kept)))


def committed(path: str) -> str | None:
    """Return a file as git has it at HEAD, None where it has none."""
    order = ["git", "-C", str(store.project()), "show", f"HEAD:{path}"]
    shown = subprocess.run(order, capture_output=True, text=True, check=False)
    return shown.stdout if shown.returncode == 0 else None


def gallery() -> None:
    """Bring up to date what the README tells of figures and claims and docs/families.md of the
    families, and leave all else of both."""
    for name, make in {"README.md": told, "docs/families.md": listed}.items():
        path = store.project() / name
        store.write(path, make(path.read_text(encoding="utf-8")).encode())


def listed(text: str) -> str:
    """Return docs/families.md with its table of families anew, between `<!-- families -->`."""
    head = ["model_type", "family", "where its image tokens lie", "tried on", "what cannot be had"]
    rows = [head, ["---"] * len(head), *known_families()]
    return _between(text, "families", "\n".join(f"| {' | '.join(row)} |" for row in rows))


def _between(text: str, name: str, made: str) -> str:
    """The text with what was made between the markers of that name, where it has them."""
    first, last = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    if first not in text:
        return text
    before, rest = text.split(first)
    return before + first + made + last + rest.split(last)[1]


def told(text: str) -> str:
    """Return a README with the sentences of its gallery's figures, and its table of claims, anew.

    A line that begins with a figure's picture ends with what its json says; between the markers
    `<!-- claims -->` and `<!-- /claims -->` stands what the profiles' claims.csv say.
    """
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if row := re.match(r'\| <img src="(figures/\w+/\w+)\.png".*? \| ', line):
            said = json.loads((store.project() / f"{row[1]}.json").read_text(encoding="utf-8"))[
                "said"
            ]
            lines[place] = f"{row[0]}{'<br>'.join(map(_sentence, said))} |"
    return _between("\n".join(lines) + "\n", "claims", _claims())


def _sentence(one: dict) -> str:
    """A figure's sentence with its number and interval, as a cell of a table."""
    said = one["says"].replace("|", chr(92) + "|")
    if one["value"] is None:
        return f"{said}: none"
    known = None not in (one["low"], one["high"])
    within = f" [{one['low']:.3g}, {one['high']:.3g}]" if known else ""
    return f"{said}: {one['value']:.3g}{within}, {one['units']} pictures"


def _claims() -> str:
    """A row a statement, a column a model: of each part the outcome, effect and interval."""
    folders = (store.project() / "figures" / name for name in JUDGED)
    paths = [path for folder in folders if (path := folder / "claims.csv").is_file()]
    tables = [pd.read_csv(path).fillna({"part": ""}) for path in paths]
    if not tables:
        return "none judged yet"
    models = [table["model"].iloc[0] for table in tables]
    lines = [f"| claim | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
    told = [{name: _outcomes(rows) for name, rows in table.groupby("id")} for table in tables]
    for row in pd.concat(tables).drop_duplicates("id").itertuples():
        cells = " | ".join(mine.get(row.id, "") for mine in told)
        lines.append(f"| {row.id}: {row.statement} | {cells} |")
    return "\n".join(lines)


def _outcomes(rows: pd.DataFrame) -> str:
    """What came of a statement's parts, a line each, as a cell of a table."""
    lines = []
    for row in rows.itertuples():
        line = f"{row.part}: " * (len(rows) > 1) + f"**{row.outcome}**"
        if pd.notna(row.low):
            line += f", {row.value:.2f} [{row.low:.2f}, {row.high:.2f}], n = {row.units:.0f}"
        lines.append(line)
    return "<br>".join(lines)
