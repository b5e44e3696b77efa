"""The four tasks: rows of POPE, TextVQA, ScienceQA and CHAIR as samples, with their prompts."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from irlib import store
from irlib.tasks import reader, wording
from irlib.tasks.protocols import TASKS, text
from irlib.tasks.samples import Box, Sample


def load_task(
    name: str,
    *,
    n: int | None = None,
    source: str | Path = "bundled",
    kind: str | None = None,
    keys: Sequence | str | Path | None = None,
    config: str | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    style: str = "llava",
    ocr: bool = False,
    max_new_tokens: int | None = None,
    seed: int = 0,
    revision: str | None = None,
) -> list[Sample]:
    """Return the task's samples in the order of their keys: all of them, or n picked by seed.

    `source` is "bundled", "hub" (the id in TASKS), "hub:OWNER/NAME", either at `revision`, a folder
    laid out like the hub's, one with the files that the task's authors publish (originals.py), or
    one with such a folder for every task, named as the task; `images` is the folder of pictures
    where the rows only name them. `kind` keeps one kind of row: POPE's category, TextVQA's "word"
    or "number", ScienceQA's topic, "text", or "image" for all that have one (the IMG accuracy's
    rows; on the hub also config="ScienceQA-IMG"). `keys` keeps rows by name: a list, or a file with
    a JSON list or a name a line. `style` is how the prompt is written (wording.py); `ocr=True` puts
    TextVQA's OCR tokens into it, as LLaVA's published scores have them. The bundle's answers are
    short and cut sooner. Raises ValueError for an unknown task, config, kind, key or style, wrong
    columns or rows, and an empty task, FileNotFoundError for a folder or picture that is not there,
    ConnectionError where the hub cannot be reached.

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
        name,
        source=_place(name, source),
        hub_id=task.hub,
        configs=(config,) if config else task.configs,
        known=task.splits,
        columns=task.columns,
        split=split,
        revision=revision,
        images=images,
    )
    rows = _keyed(name, table)
    chosen = _chosen(name, table.place, rows, kind=kind, keys=keys, n=n, seed=seed)
    words = table.words() if name == "chair" else None
    length = task.new_tokens[source == "bundled"] if max_new_tokens is None else max_new_tokens
    if length < 1:
        raise ValueError(
            f"load_task was asked for answers of {length} tokens; there is nothing to score then; "
            "set max_new_tokens to 1 or more."
        )
    wording.check_style(name, style)
    samples = []
    for key in chosen:
        i, row, kinds = rows[key]
        whose = f"task {name!r}, row {key!r} of {table.place}"
        try:
            if task.pictured and not row["has_image"]:
                raise ValueError("it has no picture; only questions of ScienceQA may do without.")
            question = wording.DESCRIBE if name == "chair" else text(row, "question")
            reference = task.reference(row, words=words)
            prompt = wording.prompt(name, row, style=style, ocr=ocr)
            boxes = tuple(Box(**box) for box in row.get("boxes") or ())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{whose}, cannot be asked or scored: {error}") from error
        samples.append(
            Sample(
                task=name,
                key=key,
                question=question,
                prompt=prompt,
                image=table.image(i, whose=whose),
                reference=reference,
                boxes=boxes,
                kind=kinds[0],
                max_new_tokens=length,
            )
        )
    return samples


def _place(name: str, source: str | Path) -> str | Path:
    """Return the task's own folder where the source is one of several tasks, else the source."""
    folder = store.root() / "data/tasks" if source == "bundled" else Path(source).expanduser()
    return folder / name if (folder / name).is_dir() else source


def _keyed(name: str, table: reader.Rows) -> dict[str, tuple[int, dict, tuple[str, ...]]]:
    """Return place, row and kinds of every row by its key."""
    task, rows = TASKS[name], {}
    for i, row in enumerate(table.plain):
        row = {**row, "has_image": table.has_image[i]}
        try:
            kinds = tuple(filter(None, (task.kind(row), task.also(row))))
            key = task.key(row, i)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"task {name!r}, row number {i} of {table.place}, cannot be named: {error}"
            ) from error
        if key in rows:
            raise ValueError(
                f"task {name!r} was read from {table.place}; two rows have the key {key!r}; "
                "drop one of them."
            )
        rows[key] = i, row, kinds
    return rows


def _chosen(name: str, place: str, rows: dict, *, kind, keys, n, seed: int) -> list[str]:
    """Return the keys of a kind, of those named, n of them by seed, sorted."""
    found = sorted(key for key, (_, _, kinds) in rows.items() if kind is None or kind in kinds)
    if not found:
        there = sorted({name for _, _, kinds in rows.values() for name in kinds})
        raise ValueError(
            f"load_task was asked for rows of {name!r} of kind {kind!r}; {place} has "
            f"{', '.join(there)}; take one of them."
        )
    if keys is not None:
        wanted = set(map(str, _listed(keys)))
        if not wanted:
            raise ValueError(
                f"load_task was asked for rows of {name!r} by name, and for none; name at least "
                f"one: names are like {found[0]!r}."
            )
        if unknown := sorted(wanted - set(found)):
            raise ValueError(
                f"load_task was asked for {len(wanted)} rows of {name!r} by name; {place} has no "
                f"{', '.join(unknown[:3])}{' ...' * (len(unknown) > 3)}; its names are like "
                f"{found[0]!r}."
            )
        found = sorted(wanted)
    if n is not None and not (isinstance(n, int) and 1 <= n <= len(found)):
        raise ValueError(
            f"load_task was asked for {n!r} rows of {name!r}; {place} has {len(found)} such rows; "
            f"ask for 1 to {len(found)}."
        )
    return found if n is None else sorted(Random(seed).sample(found, n))


def _listed(keys: Sequence | str | Path) -> Iterable:
    """Return names as given, or those in a file: a JSON list, or one a line."""
    if not isinstance(keys, str | Path):
        return keys
    try:
        told = Path(keys).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FileNotFoundError(
            f"load_task was asked for the rows named in {keys}; it cannot be read "
            f"({error.strerror}); give a list of names, or a file of them."
        ) from error
    listed = json.loads(told) if told[:1] in ("[", "{") else told.splitlines()
    if not isinstance(listed, list):
        raise ValueError(
            f"load_task was asked for the rows named in {keys}; found {type(listed).__name__}; "
            "give a JSON list, or a name a line."
        )
    return listed
