"""Ask about altered pictures and a photograph: `python -m data.generate.altered data/minis/NAME`.

Of presence, reading and captions one question a picture, drawn by seed, on the picture as drawn and
on what became of it; and of photographs, whether each drawn object is in them. What comes out is
kept in the folder's scores.json, under `altered` and `photographs`, and stands in its card.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageOps

from data.generate.world.draw import SPRITES
from irlib import load, load_task, metrics
from irlib.scores import score

METRIC = {"pope": "POPE Acc", "textvqa": "TextVQA Acc", "chair": "CHAIRi"}
FIRST, LAST = "<!-- altered -->\n", "<!-- /altered -->\n"
NOISE = 25  # standard deviation of the noise, of 255
ABOUT = f"""On altered test pictures, in percent, one question a picture. Training mirrored
things, never letters; signs that are mirrored or upside down are still to be read as drawn.
Half size is in the middle of a white picture, noise has a deviation of {NOISE} of 255; CHAIRi
is better where it is lower. And on photographs, of which training had none: `grace_hopper.jpg`,
matplotlib's sample, is a portrait before a flag, with stars on the flag, an eagle on the cap,
and nothing else of what is drawn. Measured by `python -m data.generate.altered`:"""


def _half(image: Image.Image) -> Image.Image:
    """The picture at half its size in the middle of a white one."""
    canvas = Image.new("RGB", image.size, "white")
    width, height = image.size
    canvas.paste(image.resize((width // 2, height // 2)), (width // 4, height // 4))
    return canvas


def _noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, float)
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as drawn": lambda image: image,
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "upside down": ImageOps.flip,
    "half size": _half,
    "noisy": _noisy,
}


def measure(vlm, *, n: int, seed: int = 0) -> list[dict]:
    """Return a row an alteration: each task's main score, and how many pictures it stands on."""
    drawn = {task: load_task(task, n=n, per_picture=1, seed=seed) for task in METRIC}
    rows = []
    for name, alter in ALTERED.items():
        found = {"picture": name}
        for task, samples in drawn.items():
            asked = [replace(one, image=alter(one.image.convert("RGB"))) for one in samples]
            said = _answers(vlm, asked)
            counts = [{"task": task, **score(s, t)} for s, t in zip(samples, said, strict=True)]
            pooled = metrics(pd.DataFrame(counts), by=("task",)).set_index("metric")
            found[METRIC[task]] = round(float(pooled.loc[METRIC[task], "value"]), 4)
        rows.append(found | {"n": n})
    return rows


def _answers(vlm, asked: list, *, batch_size: int = 30) -> list[str]:
    """What is said to each, batch by batch."""
    said = []
    for start in range(0, len(asked), batch_size):
        said += vlm.answer(vlm.prepare(asked[start : start + batch_size])).texts
    return said


def photographs(vlm, files: list[Path]) -> list[dict]:
    """Return of each photograph how many of the drawn objects are said to be there, and what is."""
    rows = []
    for file in files:
        asked = [f"Is there {_article(name)} {name} in the image?" for name in SPRITES]
        said = [vlm.answer(vlm.prepare(file, question)).text.lower() for question in asked]
        told = vlm.answer(vlm.prepare(file, "Please describe this image in detail.")).text
        yes = [name for name, text in zip(SPRITES, said, strict=True) if text.startswith("yes")]
        rows.append({"photograph": file.name, "said to be there": yes, "asked": len(SPRITES),
                     "description": told})  # fmt: skip
    return rows


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def section(told: dict) -> str:
    """Return the part of a card that tells what `main` kept in scores.json, "" without it."""
    if "altered" not in told:
        return ""
    columns = [*METRIC.values()]
    lines = ["| picture | " + " | ".join(columns) + " | n |", "| --- |" + " --- |" * 4]
    for row in told["altered"]:
        values = " | ".join(f"{100 * row[name]:.1f}" for name in columns)
        lines.append(f"| {row['picture']} | {values} | {row['n']} |")
    lines += ["", "| photograph | drawn objects said to be there | described as |"]
    lines.append("| --- |" + " --- |" * 2)
    for row in told["photographs"]:
        yes = row["said to be there"]
        there = f"{len(yes)} of {row['asked']}" + (": " + ", ".join(yes) if yes else "")
        lines.append(f"| {row['photograph']} | {there} | {' '.join(row['description'].split())} |")
    return f"{fill(ABOUT, 100)}\n\n" + "\n".join(lines) + "\n"


def updated(card: str, told: dict) -> str:
    """Return a card with that part made anew, at its end where it had none."""
    before, _, rest = card.partition(FIRST)
    part = section(told)
    made = f"{FIRST}\n{part}\n{LAST}" if part else ""
    return before.rstrip("\n") + "\n" + (f"\n{made}" if made else "") + rest.partition(LAST)[2]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.altered", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of bundled models")
    parser.add_argument("--n", type=int, default=60, help="pictures a task")
    parser.add_argument("--photo", type=Path, nargs="+", help="others than matplotlib's sample")
    given = parser.parse_args(arguments)
    photos = given.photo or [Path(get_sample_data("grace_hopper.jpg", asfileobj=False))]
    for folder in given.folders:
        vlm, path, card = load(folder.name), folder / "scores.json", folder / "README.md"
        told = json.loads(path.read_text())
        told |= {"altered": measure(vlm, n=given.n), "photographs": photographs(vlm, photos)}
        path.write_text(json.dumps(told, indent=1) + "\n")
        card.write_text(updated(card.read_text(), told))
        print(folder.name, pd.DataFrame(told["altered"]).to_string(index=False), sep="\n")


if __name__ == "__main__":
    main()
