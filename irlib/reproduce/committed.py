"""What is committed, held against what is there: figures' numbers, and the README's gallery."""

import io
import json
import re
import subprocess

import pandas as pd

from irlib import store
from irlib.store.compare import differences


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
    order = ["git", "-C", str(store.root()), "show", f"HEAD:{path}"]
    shown = subprocess.run(order, capture_output=True, text=True, check=False)
    return shown.stdout if shown.returncode == 0 else None


def gallery() -> None:
    """Put the verdicts of figures/mini into the README's gallery, and leave all else of it."""
    readme = store.root() / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        if row := re.match(r'\| <img src="(figures/mini/(\w+))\.png".*?\|.*?\| ', line):
            told = json.loads((store.root() / f"{row[1]}.json").read_text(encoding="utf-8"))
            verdicts = [f"{one['outcome']}: {one['claim']}" for one in told["verdicts"]]
            lines[place] = f"{row[0]}{'<br>'.join(verdicts).replace('|', chr(92) + '|')} |"
    store.write(readme, ("\n".join(lines) + "\n").encode())
