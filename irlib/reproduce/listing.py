"""What there is, in lines: figures, models with their scores, families, tasks with prompts."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import MappingProxyType

import nbformat
import pandas as pd

from irlib import store
from irlib.reproduce import jobs
from irlib.tasks import wording
from irlib.tasks.protocols import TASKS


def figures() -> Iterator[str]:
    """Yield a line a figure: its stem and its notebook's title."""
    for stem in jobs.stems():
        cells = nbformat.read(store.root() / "notebooks" / f"{stem}.ipynb", as_version=4).cells
        title = next((c.source for c in cells if c.cell_type == "markdown"), "").strip()
        yield f"{stem:26} {title.splitlines()[0].lstrip('# ') if title else ''}"


def models() -> Iterator[str]:
    """Yield the bundled models and their measured scores."""
    for folder in _minis():
        yield folder.name
        yield from (f"  {line}" for line in scores(folder))
    for folder in dict.fromkeys(store.bundles().values()):
        beside = [name for name, home in store.bundles().items() if home == folder]
        yield f"{folder.name} (put together by `irlib fetch {folder.name}`)"
        yield from (f"  {line}" for line in scores(folder))
        yield from (f"{name} (comes with it)" for name in beside if name != folder.name)


def families() -> Iterator[str]:
    """Yield the model families: type, title, where image tokens lie, what was tried, what cannot be
    had."""
    for kind, title, placing, tried, limits in known_families():
        yield f"{kind:18} {title}: {placing}"
        yield f"{'':18} tried: {tried}" + (f"; {limits}" if limits else "")


def known_families() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield of each family its model_type, title, layout, what was tried on it, and its limits.

    Tried on every one is a tiny model of random weights, in tests/families.py.
    """
    from irlib.models.families import FAMILIES  # torch and transformers

    folders = {folder.name: folder for folder in _minis()}
    folders |= {folder.name: folder / "parts" for folder in store.bundles().values()}
    kinds = {name: _kind(folder) for name, folder in folders.items()}
    for kind, family in FAMILIES.items():
        tried = [name for name, own in kinds.items() if own == kind] + ["a tiny random model"]
        yield kind, family.title, family.placing, ", ".join(tried), family.limits


def tasks() -> Iterator[str]:
    """Yield the tasks: where they are, prompts in every style, what families put around them."""
    row = {"question": "{question}", "hint": "{hint}", "choices": ["{choice}", "..."]}
    row |= {"ocr_tokens": ["{token}", "..."]}
    for name, task in TASKS.items():
        yield f"{name}: {_rows(name)}; on the hub {task.hub}"
        for style, ocr in product(wording.STYLES[name], (False, True)):
            text = wording.prompt(name, row, style=style, ocr=ocr)
            if not ocr or text != wording.prompt(name, row, style=style):
                yield f"  style={style!r}" + ", ocr=True" * ocr
                yield from (f"    | {line}" for line in text.splitlines())
    yield "around each, by family ({prompt} is one of the above):"
    yield from (f"  {line}" for line in _conversations())


def _conversations() -> Iterator[str]:
    from irlib.inputs.conversations import conversation
    from irlib.models.families import (
        FAMILIES,  # torch and transformers: the rest of the list does without
    )
    from irlib.models.processors import read_processor

    for kind, family in FAMILIES.items():
        folders = [folder for folder in _minis() if _kind(folder) == kind]
        for folder in folders:
            said = conversation(read_processor(family.processor, str(folder)), family)
            yield f"{family.title} ({folder.name}): {said!r}"
        if not folders:
            own = family.prompt or "as its folder has it, in chat_template.jinja"
            yield f"{family.title}: {own}"


def _minis() -> list[Path]:
    return [path.parent for path in sorted((store.root() / "data/minis").glob("*/config.json"))]


def _kind(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]


def scores(folder: Path) -> list[str]:
    """Return the measured scores of a bundled model, a line a group and metric."""
    path = folder / "scores.json"
    if not path.is_file():
        return ["no scores.json: never measured"]
    told = json.loads(path.read_text(encoding="utf-8"))["scores"]
    return pd.DataFrame(told).to_string(index=False, float_format="%.3f").splitlines()


def _rows(name: str) -> str:
    """Return how many rows are bundled, as told by the parquet files of the first config."""
    from pyarrow import parquet

    files = (store.root() / "data/tasks" / name).rglob("*.parquet")
    counts = {path.stem: parquet.read_metadata(path).num_rows for path in sorted(files)}
    return ", ".join(f"{rows} rows in {stem}" for stem, rows in counts.items()) or "not bundled"


SECTIONS = MappingProxyType(
    {"figures": figures, "models": models, "families": families, "tasks": tasks}
)
