"""What differs between the four tasks: where they live, how a row is keyed, what its scorer needs.

How a row is put into words is in wording.py.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from irlib.scores import chair

CATEGORIES = ("adversarial", "popular", "random")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What differs between tasks: where it lives on the hub, its columns, and how a row reads.

    A column written "a|b" goes by either name. `new_tokens` are those of the official protocol and
    those that the bundle's answers need. `kind` is the kind of a row, `also` another that it
    answers to; `pictured` tells that every row needs a picture. `key`, `kind` and `reference` raise
    ValueError for a row that cannot be.
    """

    hub: str
    columns: tuple[str, ...]
    new_tokens: tuple[int, int]
    key: Callable[[dict, int], str]
    kind: Callable[[dict], str]
    reference: Callable[..., dict]
    also: Callable[[dict], str] = lambda _: ""
    pictured: bool = True
    configs: tuple[str, ...] = ("default",)
    splits: tuple[str, ...] = ("test",)


def text(row: dict, column: str) -> str:
    """Return a text of a row; raises ValueError where it is none, or empty."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {column} is {value!r}; write a text.")
    return value


def texts(row: dict, column: str) -> tuple[str, ...]:
    """Return a list of texts of a row; raises ValueError where it is none."""
    value = row.get(column)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"its {column} is {value!r}; write a list of texts.")
    return tuple(value)


def _name(value) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise ValueError(f"it is named {value!r}; name rows by whole numbers or texts.")
    return str(value)


def _category(row: dict) -> str:
    if row["category"] not in CATEGORIES:
        raise ValueError(f"its category is {row['category']!r}; write {', '.join(CATEGORIES)}.")
    return row["category"]


def _pope_reference(row: dict, **_) -> dict:
    if row["answer"] not in ("yes", "no"):
        raise ValueError(f"its answer is {row['answer']!r}; write yes or no.")
    return {"label": row["answer"]}


def _textvqa_reference(row: dict, **_) -> dict:
    answers = texts(row, "answers")
    if len(answers) != 10:
        raise ValueError(f"it has {len(answers)} answers; the score is defined for ten.")
    return {"answers": answers}


def _scienceqa_reference(row: dict, **_) -> dict:
    choices, answer = texts(row, "choices"), row["answer"]
    if row["hint"]:
        text(row, "hint")
    number = isinstance(answer, int) and not isinstance(answer, bool)
    if not number or not 2 <= len(choices) <= 5 or not 0 <= answer < len(choices):
        raise ValueError(
            f"its answer is number {answer!r} of {len(choices)} choices, counted from 0; give two "
            "to five choices and one of them."
        )
    return {"answer": answer, "choices": choices, "has_image": row["has_image"]}


def _scienceqa_kind(row: dict) -> str:
    if not row["has_image"] or row.get("topic") == "facts":
        return "text"
    return row.get("topic") or "image"


def _chair_key(row: dict, _) -> str:
    name = _name(row["question_id"] if "question_id" in row else row["image_id"])
    return str(int(name)) if name.isdecimal() else name  # COCO's ids are written with zeros, or not


def _chair_reference(row: dict, *, words: chair.Words, **_) -> dict:
    there = row["gt_object"] if "gt_object" in row else row["objects"]
    if isinstance(there, str):  # some sets keep the list as JSON
        try:
            there = json.loads(there)
        except ValueError:
            raise ValueError(f"its objects are {there!r}; write a list of texts.") from None
    row = {"captions": [], **row, "objects": there}
    row["captions"] = [row["captions"]] if isinstance(row["captions"], str) else row["captions"]
    said = texts(row, "captions") if row["captions"] else ()
    return {"objects": chair.ground_truth(words, texts(row, "objects"), said), "words": words}


BUNDLES = MappingProxyType({"bundled": "data/tasks", "held": "data/held"})
"""The sources that come with the project: rows to explore, and rows that judge the claims alone."""
TASKS = MappingProxyType(
    {
        "pope": Task(
            hub="lmms-lab-encoder/POPE",
            columns=("question_id", "question", "answer", "category", "image"),
            new_tokens=(128, 8),
            # numbers start again in every category
            key=lambda row, _: f"{_category(row)}/{_name(row['question_id'])}",
            kind=_category,
            reference=_pope_reference,
        ),
        "textvqa": Task(
            hub="lmms-lab-encoder/textvqa",
            splits=("validation", "test"),  # the hub's test rows have no answers
            columns=("question_id", "question", "answers", "image"),
            new_tokens=(128, 12),
            key=lambda row, _: _name(row["question_id"]),
            kind=lambda row: (row.get("image_classes") or ["text"])[0] or "text",
            reference=_textvqa_reference,
        ),
        "scienceqa": Task(
            hub="lmms-lab-encoder/ScienceQA",
            configs=("ScienceQA-FULL", "default"),
            columns=("question", "choices", "answer", "hint", "image"),
            new_tokens=(1024, 8),
            # the hub's rows have no name of their own: it is their place in the split
            key=lambda row, place: _name(row["pid"]) if row.get("pid") else f"{place:05d}",
            kind=_scienceqa_kind,
            pictured=False,
            also=lambda row: "image" if row["has_image"] else "",
            reference=_scienceqa_reference,
        ),
        "chair": Task(
            hub="tsunghanwu/mscoco_chair",
            columns=("question_id|image_id", "gt_object|objects", "image"),
            new_tokens=(512, 64),
            key=_chair_key,
            kind=lambda _: "caption",
            reference=_chair_reference,
        ),
    }
)
