"""The parameters of a notebook: declared in its one tagged cell, typed, and within their ranges."""

import ast
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import nbformat

from irlib.tasks.protocols import TASKS

KINDS = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a parameter may be: a number from least to most, and below the model's layers where
    that is said; or one of the choices, in a list each at most once and at least one."""

    least: float = -math.inf
    most: float = math.inf
    in_model: bool = False
    choices: tuple[str, ...] = ()


COUNT, SHARE, LAYER = Range(least=1), Range(least=0, most=1), Range(least=0, in_model=True)
RANGES: Mapping[str, Range] = MappingProxyType({
    **dict.fromkeys(
        ("n", "captions", "shown", "copies", "few", "explained", "kept", "depths", "top"), COUNT
    ),
    "kinds": Range(choices=("presence", "reading", "chains")),
    "margin": SHARE,
    "shares": Range(least=1e-4, most=1),
    **dict.fromkeys(("task", "tasks"), Range(choices=tuple(TASKS))),
    "seed": Range(least=0, most=2**32 - 1),
    "row": Range(least=0),
    "sizes": Range(choices=("mini", "smol", "paper")),
    "noise": Range(least=0, most=1),
    "layer": LAYER,
    "fig6_truncation_diagram.layer": Range(least=1, in_model=True),  # beside the layer before it
    **dict.fromkeys(("every", "window"), Range(least=1, in_model=True)),
    "shallow": Range(least=1, in_model=True),  # and one at least is deep
})  # fmt: skip
"""By name, and before that by notebook and name."""


def declared(notebook: Path) -> dict[str, tuple[str, object]]:
    """Return the parameters of a notebook: name -> (annotation, default).

    Raises ValueError unless exactly one cell is tagged `parameters` and every line of it reads
    `name: kind = literal  # help`, with a kind of int, float, str, bool or a list of one of them.
    """
    from papermill import inspect_notebook

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook.name} was to be run; {len(tagged)} of its cells are tagged parameters; tag "
            "exactly one."
        )
    found = {}
    try:
        for line in ast.parse(tagged[0].source).body:
            kind = ast.unparse(line.annotation)
            found[line.target.id] = kind, typed(ast.literal_eval(line.value), kind)
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{notebook.name} was to be run; its parameters cell does not read: {error}; write "
            "every line as `name: int = 3  # help` (int, float, str, bool, or a list of them)."
        ) from error
    if hidden := found.keys() ^ inspect_notebook(str(notebook)).keys():
        raise ValueError(
            f"{notebook.name} was to be run; papermill does not see {', '.join(sorted(hidden))} as "
            "a parameter; write it on one line, without `=` in the default."
        )
    return found


def assigned(items: Iterable[str]) -> dict[str, str]:
    """Return parameters by name, as text, of items `NAME=VALUE`; raise ValueError for another.

    >>> assigned(["n=8", "model=a=b"])
    {'n': '8', 'model': 'a=b'}
    """
    settings = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set was given {item!r}; it has no NAME=VALUE; write --set n=8.")
        settings[name] = value
    return settings


def typed(value: object, kind: str, name: str = "its default") -> object:
    """Return the value as the declared kind, text read as a literal; raise ValueError otherwise."""
    inner = kind.removeprefix("list[").removesuffix("]") if kind.startswith("list[") else None
    if (inner or kind) not in KINDS:
        raise ValueError(f"{name} is annotated {kind}; write int, float, str, bool or list[...].")
    if isinstance(value, str) and kind != "str":
        # other text stays, and is refused below
        with suppress(SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    items = value if inner and isinstance(value, list) else [value]
    right = KINDS[inner or kind]
    if bool(inner) != isinstance(value, list) or not all(
        isinstance(item, right) and (bool in right or not isinstance(item, bool)) for item in items
    ):
        raise ValueError(
            f"{name} was to be {value!r}, of type {type(value).__name__}; it is declared {kind}; "
            "give a value of that kind."
        )
    return value


def check(stem: str, values: Mapping[str, object], *, layers: int | None = None) -> None:
    """Raise ValueError for a value out of its range; `layers` are those of the smallest model."""
    for name, value in values.items():
        allowed = RANGES.get(f"{stem}.{name}", RANGES.get(name))
        if allowed is None:
            continue
        items = value if isinstance(value, list) else [value]
        most = min(allowed.most, layers - 1) if allowed.in_model and layers else allowed.most
        numbers = [item for item in items if type(item) in (int, float)]
        wrong = [one for one in numbers if not (allowed.least <= one <= most and abs(one) < 1e99)]
        wrong += [item for item in items if allowed.choices and item not in allowed.choices]
        if not wrong and items and not (allowed.choices and len(set(items)) < len(items)):
            continue
        if allowed.choices:
            span = ", ".join(allowed.choices) + ", each once"
        elif not items:
            span = "one or more"
        else:
            span = f"{allowed.least:g} " + ("or more" if most == math.inf else f"to {most:g}")
            span += f" (the model has {layers} layers)" * (allowed.in_model and bool(layers))
        raise ValueError(
            f"{stem} was to be run with {name}={value}; there is nothing to draw then; set {name} "
            f"to {span}."
        )


def depth(folder: Path) -> int | None:
    """Return how many layers the decoder of a model folder has, None where it does not tell.

    >>> from irlib import store
    >>> depth(store.root() / "data/minis/mini-llava")
    12
    """
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = told if isinstance(told, Mapping) else {}
    parts = [whole, *(whole.get(name) for name in ("text_config", "llm_config"))]
    counts = [part.get("num_hidden_layers") for part in parts if isinstance(part, Mapping)]
    return next((count for count in reversed(counts) if isinstance(count, int)), None)
