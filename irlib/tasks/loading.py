"""The four tasks: rows of POPE, TextVQA, ScienceQA and CHAIR as samples, with their prompts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from irlib import doors, store
from irlib.tasks import picking, reader, tables, wording
from irlib.tasks.own import load_own
from irlib.tasks.protocols import BUNDLES, TASKS, text
from irlib.tasks.samples import Box, Sample


def load_task(
    name: str | Path,
    *,
    n: int | None = None,
    source: str | Path = "bundled",
    kind: str | None = None,
    part: str | None = None,
    per_picture: int | None = None,
    keys: Sequence | str | Path | None = None,
    config: str | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    style: str = "llava",
    ocr: bool = False,
    max_new_tokens: int | None = None,
    seed: int = 0,
    revision: str | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    question: str | None = None,
) -> list[Sample]:
    """Return the task's samples in the order of their keys: all of them, or n picked by seed.

    `source` is "bundled", "held" (the bundle's rows that judge the claims, drawn after these were
    stated), "hub" (the id in TASKS), "hub:OWNER/NAME", either at `revision`, a folder
    laid out like the hub's, one with the files that the task's authors publish (originals.py), or
    one with such a folder for every task, named as the task; `images` is the folder of pictures
    where the rows only name them. `kind` keeps one kind of row: POPE's category, TextVQA's "word"
    or "number", ScienceQA's topic, "text", or "image" for all that have one (the IMG accuracy's
    rows; on the hub also config="ScienceQA-IMG"). `part` keeps the half of the rows that serves to
    "find" something or the one to "judge" it, which share no picture (picking.py), `per_picture`
    at most so many rows about one picture, picked by seed. `keys` keeps
    rows by name: a list, or a file with a JSON list or a name a line. `style` is how the prompt is
    written (wording.py); `ocr=True` puts TextVQA's OCR tokens into it, as LLaVA's published scores
    have them. The bundle's answers are short and cut sooner. Raises ValueError for an unknown task,
    config, kind, part, key or style, wrong columns or rows, too few rows, and an empty task,
    FileNotFoundError for a folder or picture that is not there, ConnectionError where the hub
    cannot be reached.

    Any other `name` is a table of one's own ("own" is the one in `source`): a csv, jsonl, json or
    parquet file, a folder of pictures with metadata.csv, "hub:OWNER/NAME" or what `datasets` has
    open. Its columns are `image` (a path from the table's folder on or from `images`, and never out
    of it, or a file's bytes; a list of them, or `columns={"image": ["left", "right"]}`, where a
    question is about several), `question`, `answer` or `answers` (as a JSON list, or divided by
    "|"), and where there are options A, B, C, ... or `options`, of which `answer` is a letter or a
    text; `boxes`, `key`, `kind` if wanted. `columns={"image": "photo"}` names others, `question`
    asks the same of all rows. How they are scored is in scores/own.py; rows without an answer are
    for sweep(..., score=...). Each faulty row and cell is told, all at once.

    >>> sample = load_task("pope", n=1)[0]
    >>> sample.reference["label"] in ("yes", "no"), sample.prompt.splitlines()[-1]
    (True, 'Answer the question using a single word or phrase.')
    """
    if not isinstance(name, str) or name not in TASKS:
        if name != "own" and not (
            isinstance(name, Path) or str(name).startswith("hub:") or tables.is_own(name)
        ):
            raise ValueError(
                f"load_task was asked for {name!r}; it knows {', '.join(TASKS)}; take one, or a "
                f"table of your own: a file that ends in {', '.join(tables.FILES)}."
            )
        if ocr:
            raise ValueError("load_task was asked for ocr=True; only textvqa has OCR; leave it out")
        return load_own(
            source if name == "own" else name, columns=columns, question=question, n=n, kind=kind,
            part=part, per_picture=per_picture, keys=keys, config=config, split=split,
            images=images, style=style, max_new_tokens=max_new_tokens, seed=seed, revision=revision,
        )  # fmt: skip
    if columns is not None or question is not None:
        raise ValueError(
            f"load_task was asked for {name!r} with columns or a question of your own; its rows "
            "have theirs; leave them out, or give a table of your own."
        )
    task, seed = TASKS[name], doors.count("seed", seed)
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

    def whose(key: str) -> str:
        return f"task {name!r}, row {key!r} of {table.place}"

    def unit(key: str) -> str:
        i, row, _ = rows[key]
        if known := table.identify(i, whose=whose(key)):
            return known
        with _told(whose(key)):
            return picking.unit_of(wording.prompt(name, row))

    kinds = {key: names for key, (_, _, names) in rows.items()}
    chosen = picking.pick(
        kinds,
        repr(name),
        table.place,
        unit=unit,
        kind=kind,
        part=part,
        per_picture=per_picture,
        keys=keys,
        n=n,
        seed=seed,
    )
    words = table.words() if name == "chair" else None
    length = task.new_tokens[source in BUNDLES] if max_new_tokens is None else max_new_tokens
    length = doors.count("max_new_tokens", length, least=1)
    wording.check_style(name, style)
    samples = []
    for key in chosen:
        i, row, names = rows[key]
        with _told(whose(key)):
            if task.pictured and not row["has_image"]:
                raise ValueError("it has no picture; only questions of ScienceQA may do without.")
            question = wording.DESCRIBE if name == "chair" else text(row, "question")
            reference = task.reference(row, words=words)
            prompt = wording.prompt(name, row, style=style, ocr=ocr)
            boxes = tuple(Box(**box) for box in row.get("boxes") or ())
        samples.append(
            Sample(
                task=name,
                key=key,
                question=question,
                prompt=prompt,
                image=table.image(i, whose=whose(key)),
                reference=reference,
                boxes=boxes,
                kind=names[0],
                max_new_tokens=length,
            )
        )
    return samples


@contextmanager
def _told(whose: str) -> Iterator[None]:
    """Inside the block what a row lacks is told with its name."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{whose}, cannot be asked or scored: {error}") from error


def _place(name: str, source: str | Path) -> str | Path:
    """Return the task's own folder where the source is one of several tasks, else the source."""
    bundled = source in BUNDLES  # a Path is no str
    folder = store.root() / BUNDLES[source] if bundled else doors.path("source", source)
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
