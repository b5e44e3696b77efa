"""Bring the README's table of speed up to date: `python -m benchmarks.readme`.

It is made from the files in benchmarks/results, which `python -m benchmarks.run` writes.
"""

import json
from pathlib import Path

from benchmarks import tables

ROOT = Path(__file__).parents[1]
FIRST, LAST = "<!-- speed -->\n", "\n<!-- /speed -->"
SHOWN = ("sweep", "answers", "knockout", "cam", "attention")


def speed(folder: Path) -> str:
    """Return the table of all comparisons whose results are in the folder."""
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    files = [told for told in files if told.get("comparison") in SHOWN]
    return tables.markdown(sorted(files, key=lambda told: SHOWN.index(told["comparison"])))


def updated(text: str, table: str) -> str:
    """Return the README with what stands between its markers made anew."""
    if FIRST not in text or LAST not in text:
        raise ValueError(
            f"asked to write the table of speed, found no {FIRST.strip()} and {LAST.strip()} in "
            "the README; put these two lines where it belongs"
        )
    before, rest = text.split(FIRST)
    return before + FIRST + table + LAST + rest.split(LAST)[1]


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(), speed(ROOT / "benchmarks" / "results")))


if __name__ == "__main__":
    main()
