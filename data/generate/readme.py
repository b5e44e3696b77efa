"""Bring the README's table of miniatures up to date: `python -m data.generate.readme`.

It is made from their scores.json; the figures' sentences and the claims come from `irlib gallery`.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST, LAST = "<!-- minis -->\n", "\n<!-- /minis -->"
SCORES = (  # column, group and metric of scores.json
    ("POPE Acc", "pope", "POPE Acc"),
    ("TextVQA Acc", "textvqa", "TextVQA Acc"),
    ("SQA, picture needed", "scienceqa, need the picture", "SQA Acc"),
    ("SQA, text", "scienceqa, text", "SQA Acc"),
    ("CHAIRi", "chair", "CHAIRi"),
)


def minis() -> str:
    """Return a table with a row a miniature: scores with, then without the picture, in percent."""
    head = ["miniature", *(column for column, _, _ in SCORES), "decoder", "training"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path in sorted(ROOT.glob("data/minis/*/scores.json")):
        told, name = json.loads(path.read_text()), path.parent.name
        found = {(row["group"], row["metric"]): row for row in told["scores"]}
        cells = [f"[{name}](data/minis/{name}/README.md)"]
        for _, group, metric in SCORES:
            row = found[group, metric]
            cells.append(f"{100 * row['picture']:.1f} / {100 * row['no picture']:.1f}")
        cells += [f"from {told['decoder']}" if told["decoder"] else "from scratch"]
        cells += [f"{told['minutes']} min"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the README with what stands between its markers made anew."""
    before, rest = text.split(FIRST)
    return before + FIRST + minis() + LAST + rest.split(LAST)[1]


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))


if __name__ == "__main__":
    main()
