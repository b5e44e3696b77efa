"""Ask in words that training did not use: `python -m data.generate.words data/minis/smol-llava`.

Of each task one question a picture, drawn by seed, in the words of training and in others; and
questions about the world, without a picture; of the capitals of countries that no training named,
what the published language model answers stands beside it. What comes out is kept in the folder's
scores.json, under `other_words`, `world` and `capitals`.
"""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from data.generate.fitting import language
from irlib import load, load_task, metrics
from irlib.scores import score

SAID = {  # what training asked, and how else it can be asked
    "pope": (
        r"Is there (an? \w+) in the image\?",
        (
            r"Can you see \1 in this picture?",
            r"Does this picture show \1?",
            r"Do you notice \1 here?",
        ),
    ),
    "textvqa": (
        r"[Ww]hat (word|number) is on the sign\?",
        (r"Read the \1 on the sign.", r"which \1 does the sign show?"),
    ),
    "chair": (
        r"Please describe this image in detail\.",
        ("Tell me what you see in this picture.",),
    ),
}
WORLD = (  # without a picture, and what a right answer holds
    *(
        (language.CAPITAL.format(name), language.capitals("test")[name])
        for name in ("France", "Italy")
    ),
    ("What colour is the sky on a clear day?", "blue"),
    ("How many days are in a week?", r"\b(7|seven)\b"),
)
METRIC = {"pope": "POPE Acc", "textvqa": "TextVQA Acc", "chair": "CHAIRi"}


def asked(vlm, samples, words: str, pattern: str) -> pd.DataFrame:
    """Return scores of samples with what is asked written otherwise; "" leaves it."""
    rows = []
    for sample in samples:
        prompt = re.sub(pattern, words, sample.prompt) if words else sample.prompt
        if words and prompt == sample.prompt:
            raise ValueError(f"{sample.prompt!r} was to be said as {words!r}; found no {pattern}")
        said = vlm.answer(vlm.prepare(replace(sample, prompt=prompt))).text
        rows.append({"task": sample.task, "layer": 0, **score(sample, said)})
    return pd.DataFrame(rows)


def measure(vlm, *, n: int, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Return scores by task and wording, and what is answered about the world."""
    words = []
    for task, (pattern, others) in SAID.items():
        samples = load_task(task, n=n, per_picture=1, seed=seed)
        for wording in ("", *others):
            found = metrics(asked(vlm, samples, wording, pattern), by=("task",))
            value = float(found.set_index("metric").loc[METRIC[task], "value"])
            told = wording.replace(r"\1", "...") or "as in training"
            words.append(
                {"task": task, "words": told, "metric": METRIC[task], "value": value, "n": n}
            )
    world = []
    for question, right in WORLD:
        said = answer(vlm, question)
        met = bool(re.search(right, said, re.IGNORECASE))
        world.append({"question": question, "answer": said, "right": met})
    return words, world


def answer(vlm, question: str) -> str:
    """Return what is said to a question without a picture."""
    return vlm.answer(vlm.prepare(question=question), max_new_tokens=24).text


def capitals(vlm, published) -> list[dict]:
    """Return what both models answer about each country that no training named."""
    rows = []
    for country, capital in language.capitals("test").items():
        row = {"country": country, "capital": capital}
        for name, model in (("answer", vlm), ("published", published)):
            row[name] = answer(model, language.CAPITAL.format(country))
            row[f"{name} right"] = capital.lower() in row[name].lower()
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.words", description=__doc__)
    parser.add_argument("folder", type=Path, help="a bundled model's folder")
    parser.add_argument("--n", type=int, default=60, help="pictures a task")
    given = parser.parse_args(arguments)
    vlm = load(given.folder.name)
    words, world = measure(vlm, n=given.n)
    known = capitals(vlm, load(f"{given.folder.name}-projector"))  # the published decoder
    path = given.folder / "scores.json"
    told = json.loads(path.read_text())
    told |= {"other_words": words, "world": world, "capitals": known}
    path.write_text(json.dumps(told, indent=1) + "\n")
    for rows in (words, world, known):
        print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
