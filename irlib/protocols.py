"""What differs between the four tasks: where they live, how a row reads, what its scorer needs.

Prompts are LLaVA's: POPE and TextVQA with the short-answer line, ScienceQA with context and
letters, captions of the whole picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from irlib.scores import chair

SHORT = "Answer the question using a single word or phrase."
DESCRIBE = "Please describe this image in detail."
LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True, kw_only=True)
class Task:
    """What differs between tasks: where it lives on the hub, its columns, and how a row reads.

    `new_tokens` are those of the official protocol and those that the bundle's answers need.
    """

    hub: str
    columns: tuple[str, ...]
    new_tokens: tuple[int, int]
    key: Callable[[dict, int], str]
    kind: Callable[[dict], str]
    prompt: Callable[..., str]
    reference: Callable[..., dict]
    configs: tuple[str, ...] = ("default",)
    splits: tuple[str, ...] = ("test",)


def _pope_prompt(row: dict, **_) -> str:
    return f"{row['question']}\n{SHORT}"


def _textvqa_prompt(row: dict, *, ocr: bool, **_) -> str:
    question = row["question"][:1].upper() + row["question"][1:]
    tokens = [f"Reference OCR token: {', '.join(row.get('ocr_tokens') or ())}"] if ocr else []
    return "\n".join([question, *tokens, SHORT])


def _scienceqa_prompt(row: dict, **_) -> str:
    hint = [f"Context: {row['hint']}"] if row["hint"] else []
    choices = [f"{letter}. {choice}" for letter, choice in zip("ABCDE", row["choices"])]  # noqa: B905
    return "\n".join([*hint, row["question"], *choices, LETTER])


def _pope_reference(row: dict, **_) -> dict:
    if row["answer"] not in ("yes", "no"):
        raise ValueError(f"its answer is {row['answer']!r}; write yes or no.")
    return {"label": row["answer"]}


def _textvqa_reference(row: dict, **_) -> dict:
    if len(row["answers"]) != 10:
        raise ValueError(f"it has {len(row['answers'])} answers; the score is defined for ten.")
    return {"answers": tuple(row["answers"])}


def _scienceqa_reference(row: dict, **_) -> dict:
    if not 2 <= len(row["choices"]) <= 5 or not 0 <= row["answer"] < len(row["choices"]):
        raise ValueError(
            f"its answer is number {row['answer']} of {len(row['choices'])} choices, counted from "
            "0; give two to five choices and one of them."
        )
    choices = tuple(row["choices"])
    return {"answer": int(row["answer"]), "choices": choices, "has_image": row["has_image"]}


def _chair_reference(row: dict, *, words: chair.Words, **_) -> dict:
    there = chair.ground_truth(words, row["gt_object"], row.get("captions") or ())
    return {"objects": there, "words": words}


def _scienceqa_kind(row: dict) -> str:
    if not row["has_image"] or row.get("topic") == "facts":
        return "text"
    return row.get("topic") or "image"


TASKS = MappingProxyType(
    {
        "pope": Task(
            hub="lmms-lab-encoder/POPE",
            columns=("question_id", "question", "answer", "category", "image"),
            new_tokens=(128, 8),
            key=lambda row, _: f"{row['category']}/{row['question_id']}",
            kind=lambda row: row["category"],
            prompt=_pope_prompt,
            reference=_pope_reference,
        ),
        "textvqa": Task(
            hub="lmms-lab-encoder/textvqa",
            splits=("validation", "test"),  # the hub's test rows have no answers
            columns=("question_id", "question", "answers", "image"),
            new_tokens=(128, 12),
            key=lambda row, _: str(row["question_id"]),
            kind=lambda row: (row.get("image_classes") or ["text"])[0],
            prompt=_textvqa_prompt,
            reference=_textvqa_reference,
        ),
        "scienceqa": Task(
            hub="lmms-lab-encoder/ScienceQA",
            configs=("ScienceQA-FULL", "default"),
            columns=("question", "choices", "answer", "hint", "image"),
            new_tokens=(1024, 8),
            key=lambda _, place: f"{place:05d}",  # the hub's rows have no name of their own
            kind=_scienceqa_kind,
            prompt=_scienceqa_prompt,
            reference=_scienceqa_reference,
        ),
        "chair": Task(
            hub="tsunghanwu/mscoco_chair",
            columns=("question_id", "gt_object", "image"),
            new_tokens=(512, 64),
            key=lambda row, _: str(row["question_id"]),
            kind=lambda _: "caption",
            prompt=lambda *_, **__: DESCRIBE,
            reference=_chair_reference,
        ),
    }
)
