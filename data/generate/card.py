"""Save a trained miniature, measure it on the test rows and write its model card.

`python -m data.generate.card data/minis/NAME [--only TASK] [--tasks DIR]` measures the folder as it
is on disk: with each row's picture, with another one, with none in the prompt, and with the picture
in the prompt but hidden from decoder layer 0 on.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import pandas as pd
import torch
from tqdm.auto import tqdm

from data.generate import altered
from data.generate.fitting.minis import MINIS
from irlib import load, load_task, metrics, truncate
from irlib.scores import LOWER_IS_BETTER, score
from irlib.sweeps import swapped

FOLDER = Path(__file__).parents[1] / "minis"
TASKS = ("pope", "textvqa", "scienceqa", "chair")
CONDITIONS = ("picture", "wrong picture", "no picture", "hidden from layer 0")
# What a miniature must reach: (row of the card, metric, least or most value)
FLOORS = (
    ("pope", "POPE Acc", 0.93),
    ("textvqa", "TextVQA Acc", 0.70),
    ("scienceqa, need the picture", "SQA Acc", 0.75),
    ("scienceqa, text", "SQA Acc", 0.92),
    ("chair", "CHAIRi", 0.08),
)
FIRST = (  # mini-llava, on which most figures are drawn
    ("pope", "POPE Acc", 0.96),
    ("textvqa", "TextVQA Acc", 0.85),
    ("scienceqa, need the picture", "SQA Acc", 0.85),
    ("scienceqa, objects", "SQA Acc", 0.95),
    ("scienceqa, food chain", "SQA Acc", 0.80),
    ("scienceqa, text", "SQA Acc", 0.95),
    ("chair", "CHAIRi", 0.04),
    ("chair", "CHAIR recall", 0.90),
)


def save(name: str, net, out: Path) -> None:
    """Write bfloat16 weights whose config says float32, so that they are half the size on disk
    and run in float32."""
    net = net.to(torch.bfloat16)
    net.set_attn_implementation(None)
    net.save_pretrained(out)
    config = net.config
    for part in (config, *(getattr(config, key) for key in config.sub_configs)):
        part.dtype = torch.float32
    config.save_pretrained(out)
    MINIS[name].processor().save_pretrained(out)


def answers(vlm, samples, condition: str, *, batch_size: int = 32) -> pd.DataFrame:
    """Return one row a sample: what its greedy answer scores, columns as sweep()'s.

    What several samples ask of one picture is asked once.
    """
    if condition == "wrong picture":
        asked = swapped(samples)
    elif condition == "no picture":
        asked = [replace(s, image=None) for s in samples]
    else:
        asked = list(samples)
    named = [(id(s.image), s.prompt) for s in asked]  # equal pictures are opened once
    distinct = list(dict(zip(named, asked, strict=True)).items())
    texts = {}
    for start in tqdm(range(0, len(distinct), batch_size), desc=f"{samples[0].task}, {condition}"):
        names, batch = zip(*distinct[start : start + batch_size], strict=True)
        inputs = vlm.prepare(list(batch))
        layer = 0 if condition == "hidden from layer 0" else vlm.n_layers
        with truncate(vlm, inputs, layer=layer):
            texts |= dict(zip(names, vlm.answer(inputs).texts, strict=True))
    return pd.DataFrame(
        {"task": s.task, "kind": s.kind, **score(s, texts[name])}
        for s, name in zip(samples, named, strict=True)
    )


def majority(samples, metric: str) -> float:
    """Return the metric of the best answer that is the same for all samples, of the likely ones."""
    said = Counter()
    for s in samples:
        if s.task == "scienceqa":
            said[chr(65 + s.reference["answer"])] += 1
        elif s.task == "chair":
            said[" and ".join(sorted(s.reference["objects"]))] += 1
        else:
            said[
                s.reference.get("label") or Counter(s.reference["answers"]).most_common(1)[0][0]
            ] += 1
    values = []
    for text, _ in said.most_common(5):
        table = pd.DataFrame([{"task": s.task, **score(s, text)} for s in samples])
        values.append(metrics(table, by=("task",)).set_index("metric").loc[metric, "value"])
    return float(min(values) if metric in LOWER_IS_BETTER else max(values))


def measure(vlm, tasks: Path | str = "bundled", *, only: Sequence[str] = TASKS) -> pd.DataFrame:
    """Return one row a group and metric: a column each condition, and the majority's score."""
    rows = []
    for task in only:
        samples = load_task(task, source=tasks if tasks == "bundled" else Path(tasks) / task)
        groups = {task: lambda kind: True}
        if task == "scienceqa":
            groups = {
                "scienceqa, need the picture": lambda kind: kind != "text",
                "scienceqa, objects": lambda kind: kind == "objects",
                "scienceqa, food chain": lambda kind: kind == "food chain",
                "scienceqa, text": lambda kind: kind == "text",
            }
        tables = {c: answers(vlm, samples, c) for c in CONDITIONS}
        for name, member in groups.items():
            part = [s for s in samples if member(s.kind)]
            pooled = {c: metrics(t[t["kind"].map(member)], by=("task",)) for c, t in tables.items()}
            first = pooled[CONDITIONS[0]]
            for metric in first["metric"]:
                values = {c: p.set_index("metric").loc[metric, "value"] for c, p in pooled.items()}
                n = int(first.set_index("metric").loc[metric, "n"])
                rows.append(
                    {
                        "group": name,
                        "metric": metric,
                        **values,
                        "majority": majority(part, metric),
                        "n": n,
                    }
                )
    return pd.DataFrame(rows)


def merged(kept: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return what was measured, in the place of the same groups among the kept, whose order stays.

    Raises ValueError where the kept lack a group: then there is no place for it.
    """
    if missing := {*table["group"]} - {*kept["group"]}:
        raise ValueError(
            f"asked to put {', '.join(sorted(missing))} among the kept scores, found only "
            f"{', '.join(kept['group'].unique())}; measure all tasks, without --only"
        )
    new = dict(list(table.groupby("group")))
    return pd.concat(
        [new.get(name, rows) for name, rows in kept.groupby("group", sort=False)], ignore_index=True
    )


def verdicts(table: pd.DataFrame, floors: tuple) -> list[dict]:
    """Return each floor with what was measured and whether it is met."""
    values = table.set_index(["group", "metric"])["picture"]
    made = []
    for group, metric, bound in floors:
        value = float(values[group, metric])
        met = value <= bound if metric == "CHAIRi" else value >= bound
        made.append({"group": group, "metric": metric, "bound": bound, "value": value, "met": met})
    return made


CARD = """---
license: mit
pipeline_tag: image-text-to-text
---
# {name}

{what}

{made}

Scores of this folder on the bundled test rows, greedy, in percent: with the picture, with another
picture, with none in the prompt, and with the picture there but hidden from decoder layer 0
on; `majority` is the best single answer. Measured by `python -m data.generate.card {folder}`; exact
figures in `scores.json`.

{table}

Floors set before training, {floors}

{bounds}

{limits}
"""
WHAT = """{title} at toy size: {what}, and a decoder of 12 layers, all 128
wide. It knows the drawn pictures of `data/tasks` and a few invented facts, and nothing else; other
words are spelled out."""
MADE = """{parameters:,} parameters, {megabytes:.1f} MB: bfloat16 weights that run in float32, in
transformers' own classes for {title}. Made by `{command}` in {minutes} minutes on {hardware}, seed
{recipe[seed]}. {start} {history}"""
START = """Its decoder, word embeddings included, started from that of {0} and was trained on with
everything else but the tower: where its cliffs agree with {0}'s, that may be inherited."""
LIMITS = """What shaped it: the tower was taught what stands in each patch and, in food chains, who
eats whom; this stands in for CLIP's pretraining, and puts part of the reasoning into the tower. The
decoder was taught presence, reading, locations, captions, lettered and open questions, and facts,
with and without a picture. At which layer the picture stops to matter follows from this recipe and
says nothing about large models."""


def markdown(table: pd.DataFrame) -> str:
    """Return a table as a card has it, a line a row whatever its cells say."""
    said = table.astype(str).map(lambda cell: " ".join(cell.split()).replace("|", r"\|"))
    rows = [table.columns, ["---"] * table.shape[1], *said.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(folder: Path, table: pd.DataFrame, story: dict) -> None:
    """Write scores.json and the model card; `story` is how it was made: command, minutes, hardware
    and recipe."""
    mini, table = MINIS[folder.name], table.round(4)  # what is written, whether measured or kept
    parameters = sum(p.numel() for p in load(str(folder)).model.parameters())
    floors = verdicts(table, FIRST if folder.name == "mini-llava" else FLOORS)
    more = {k: story[k] for k in ("altered", "photographs", "other_words", "world") if k in story}
    story = {
        k: story[k] for k in ("command", "minutes", "hardware", "decoder", "recipe", "history")
    }
    told = {"scores": table.to_dict("records"), "floors": floors}
    told |= {"parameters": parameters, **story, **more}
    (folder / "scores.json").write_text(json.dumps(told, indent=1) + "\n")
    percent = table.copy()
    percent[[*CONDITIONS, "majority"]] = (100 * percent[[*CONDITIONS, "majority"]]).round(1)
    missed = [
        f"{f['group']} {f['metric']}: {f['value']:.3f} ({f['bound']})"
        for f in floors
        if not f["met"]
    ]
    size = sum(f.stat().st_size for f in folder.iterdir() if f.name != "README.md")
    made = MADE.format(
        parameters=parameters,
        megabytes=size / 1e6,
        title=mini.title,
        start=START.format(story["decoder"]) if story["decoder"] else "",
        **story,
    )
    card = CARD.format(
        name=folder.name,
        folder=f"data/minis/{folder.name}",
        table=markdown(percent),
        what=fill(WHAT.format(title=mini.title, what=mini.what), 100),
        made=fill(made, 100),
        limits=LIMITS,
        floors="missed: " + "; ".join(missed) + ":" if missed else f"all {len(floors)} met:",
        bounds=markdown(pd.DataFrame(floors).drop(columns="met").round(3)),
    )
    (folder / "README.md").write_text(altered.updated(card, told))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="a saved miniature with its scores.json")
    parser.add_argument("--tasks", default="bundled", help="where the task folders are")
    parser.add_argument("--only", choices=TASKS, nargs="+", help="the other tasks' scores are kept")
    parser.add_argument("--kept", action="store_true", help="write the card of the kept scores")
    given = parser.parse_args(arguments)
    told = json.loads((given.folder / "scores.json").read_text())
    table = kept = pd.DataFrame(told["scores"])
    if not given.kept:
        table = measure(load(str(given.folder)), given.tasks, only=given.only or TASKS)
        print(table.to_string(index=False))
    if given.tasks == "bundled":
        write(given.folder, merged(kept, table) if given.only else table, told)


if __name__ == "__main__":
    main()
