"""Ask in words that training did not use: `python -m data.generate.words data/minis/smol-llava`.

Of each task one question a picture, drawn by seed, in the words of training and in others; and
questions about the world, without a picture. What comes out is kept in the folder's scores.json,
under `other_words` and `world`.
"""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

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
WORLD = (  # without a picture, what no training asked, and what a right answer holds
    ("What colour is snow?", r"\bwhite\b"),
    ("How many legs does a dog have?", r"\b(4|four)\b"),
    ("What do bees make?", r"\bhoney\b"),
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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.words", description=__doc__)
    parser.add_argument("folder", type=Path, help="a bundled model's folder")
    parser.add_argument("--n", type=int, default=60, help="pictures a task")
    given = parser.parse_args(arguments)
    words, world = measure(load(given.folder.name), n=given.n)
    path = given.folder / "scores.json"
    told = json.loads(path.read_text())
    told |= {"other_words": words, "world": world}
    path.write_text(json.dumps(told, indent=1) + "\n")
    for rows in (words, world):
        print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
