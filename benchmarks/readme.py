"""Bring the tables of speed up to date: `python -m benchmarks.readme`.

They are made from the files in benchmarks/results, which `python -m benchmarks.run` and `python -m
benchmarks.explore` write.
"""

import json
from pathlib import Path

from benchmarks import explore, tables

ROOT = Path(__file__).parents[1]
FIRST, LAST = "<!-- speed -->\n", "\n<!-- /speed -->"
WAITS = (FIRST.replace("speed", "waits"), LAST.replace("speed", "waits"))
PLACES = {"README.md": True, "docs/speed.md": False}  # whether one row a comparison will do
SHOWN = ("sweep", "answers", "knockout", "patching", "cam", "attention", "lens")
FEW = ("sweep", "answers", "cam", "attention")  # the README's


def speed(folder: Path, *, first: bool = False) -> str:
    """Return the table of all comparisons whose results are in the folder; the `first` row of a few
    is the README's."""
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    files = [told for told in files if told.get("comparison") in (FEW if first else SHOWN)]
    files = sorted(files, key=lambda told: SHOWN.index(told["comparison"]))
    return tables.markdown(files, first=first)


def updated(text: str, table: str, marks: tuple[str, str] = (FIRST, LAST)) -> str:
    """Return a page with what stands between its markers made anew."""
    first, last = marks
    if first not in text or last not in text:
        raise ValueError(
            f"asked to write the table of speed, found no {first.strip()} and {last.strip()} in "
            "the page; put these two lines where it belongs"
        )
    before, rest = text.split(first)
    return before + first + table + last + rest.split(last)[1]


def main() -> None:
    for name, first in PLACES.items():
        table = speed(ROOT / "benchmarks/results", first=first)
        (ROOT / name).write_text(updated((ROOT / name).read_text(), table))
    page, told = ROOT / "docs/speed.md", ROOT / "benchmarks/results/explore.json"
    waited = explore.text(json.loads(told.read_text()))
    page.write_text(updated(page.read_text(), waited, WAITS))


if __name__ == "__main__":
    main()
