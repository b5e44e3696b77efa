"""The four tasks: rows of POPE, TextVQA, ScienceQA and CHAIR as samples, with their prompts.

One reader for all sources: the bundle, the hub, and a local folder laid out like the hub's.
"""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from PIL import Image

from irlib import reader, store
from irlib.protocols import DESCRIBE, TASKS


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where something is on the original picture, in its pixels."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a task. `key` is unique in the task; `question` is the bare question, `prompt`
    what stands in the user's turn; `reference` is what the scorer needs; `image` is a picture, a
    path to one, or None; `boxes` are what the question is about."""

    task: str
    key: str
    question: str
    prompt: str
    image: Image.Image | Path | None
    reference: dict = field(repr=False)
    boxes: tuple[Box, ...] = ()
    kind: str = ""
    max_new_tokens: int = 128


def load_task(
    name: str,
    *,
    n: int | None = None,
    source: str | Path = "bundled",
    kind: str | None = None,
    config: str | None = None,
    split: str | None = None,
    ocr: bool = False,
    max_new_tokens: int | None = None,
    seed: int = 0,
    revision: str | None = None,
) -> list[Sample]:
    """Return the task's samples in the order of their keys: all of them, or n picked by seed.

    `source` is "bundled", "hub" (the id in TASKS, at `revision`), "hub:OWNER/NAME", or a folder
    laid out like the hub's. `kind` keeps one kind of row: POPE's category, TextVQA's "word" or
    "number", ScienceQA's "food chain", "objects" or "text". `ocr=True` puts TextVQA's OCR tokens
    into the prompt, as LLaVA's published scores have them. Prompts and the length of answers are
    LLaVA's; the bundle's answers are short and cut sooner. Raises ValueError for an unknown task,
    config or kind, wrong columns or rows, and an empty task, FileNotFoundError for a folder that
    is not there, ConnectionError where the hub cannot be reached.

    >>> sample = load_task("pope", n=1)[0]
    >>> sample.reference["label"] in ("yes", "no"), sample.prompt.splitlines()[-1]
    (True, 'Answer the question using a single word or phrase.')
    """
    if name not in TASKS:
        raise ValueError(
            f"load_task was asked for {name!r}; it knows {', '.join(TASKS)}; take one."
        )
    task = TASKS[name]
    table = reader.read(
        f"task {name!r}",
        source=store.root() / "data/tasks" / name if source == "bundled" else source,
        hub=task.hub,
        configs=(config,) if config else task.configs,
        splits=(split,) if split else task.splits,
        columns=task.columns,
        revision=revision,
    )
    bare = table.without_pictures()
    kinds = [task.kind(row | {"has_image": table.has_image[i]}) for i, row in enumerate(bare)]
    keys = [task.key(row, i) for i, row in enumerate(bare)]
    if len(set(keys)) < len(keys):
        double = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(
            f"task {name!r} was read from {table.place}; two rows have the key {double!r}; "
            "drop one of them."
        )
    places = [i for i in range(len(keys)) if kind in (None, kinds[i])]
    if not places:
        raise ValueError(
            f"load_task was asked for rows of {name!r} of kind {kind!r}; {table.place} has "
            f"{', '.join(sorted(set(kinds)))}; take one of them."
        )
    if n is not None and not 1 <= n <= len(places):
        raise ValueError(
            f"load_task was asked for {n} rows of {name!r}; {table.place} has {len(places)} such "
            f"rows; ask for 1 to {len(places)}."
        )
    places.sort(key=lambda i: keys[i])
    if n is not None:
        places = sorted(Random(seed).sample(places, n), key=lambda i: keys[i])
    options = {"ocr": ocr, "words": table.words() if name == "chair" else None}
    length = max_new_tokens or task.new_tokens[source == "bundled"]
    samples = []
    for i in places:
        row = bare[i]
        try:
            reference = task.reference(row | {"has_image": table.has_image[i]}, **options)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"task {name!r}, row {keys[i]!r} of {table.place}, cannot be scored: {error}"
            ) from error
        samples.append(
            Sample(
                task=name,
                key=keys[i],
                question=row.get("question") or DESCRIBE,
                prompt=task.prompt(row, **options),
                image=table.image(i),
                reference=reference,
                boxes=tuple(Box(**box) for box in row.get("boxes") or ()),
                kind=kinds[i],
                max_new_tokens=length,
            )
        )
    return samples
