"""Bring the README's tables up to date: `python -m data.generate.readme`.

The gallery is made from the committed figures' json, the miniatures' scores from their scores.json.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = {
    "fig1_information_flow": "attention between segments",
    "fig2_attention_shares": "the answer's attention by layer",
    "fig3_cam_scienceqa": "LLaVA-CAM, ScienceQA",
    "fig4_cam_pope_textvqa": "LLaVA-CAM, POPE and TextVQA",
    "fig5_truncation": "score against truncation layer",
    "fig6_truncation_diagram": "what truncation hides",
    "fig7_cam_sites": "LLaVA-CAM by hook site",
    "fig8_cam_gallery": "LLaVA-CAM gallery",
    "fig9_no_picture_needed": "questions that need no picture",
    "table1_generalisation": "baseline and cliff beside the paper's",
}
SCORES = (  # column, group and metric of scores.json
    ("POPE Acc", "pope", "POPE Acc"),
    ("TextVQA Acc", "textvqa", "TextVQA Acc"),
    ("SQA, picture needed", "scienceqa, need the picture", "SQA Acc"),
    ("SQA, text", "scienceqa, text", "SQA Acc"),
    ("CHAIRi", "chair", "CHAIRi"),
)


def gallery() -> str:
    """Return a table with a row a figure: small picture, notebook, command, verdicts."""
    lines = ["| figure | notebook and command | verdicts |", "|---|---|---|"]
    for stem, title in FIGURES.items():
        told = json.loads((ROOT / f"figures/mini/{stem}.json").read_text())["verdicts"]
        lines.append(
            f'| <img src="figures/mini/{stem}.png" width="280" alt="{title}"> '
            f"| [{stem}](notebooks/{stem}.ipynb): {title}<br>`.venv/bin/irlib reproduce {stem}` | "
            + "<br>".join(f"{v['outcome']}: {v['claim']}" for v in told)
            + " |"
        )
    return "\n".join(lines)


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
    for name, made in (("gallery", gallery()), ("minis", minis())):
        first, last = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, rest = text.split(first)
        text = before + first + made + last + rest.split(last, 1)[-1]
    return text


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))


if __name__ == "__main__":
    main()
