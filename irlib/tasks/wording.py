"""What stands in the user's turn: one function a task and style, rows in, text out.

"llava" is LLaVA's evaluation (the default), "bare" the question alone, as OPERA and the paper's
code ask POPE, "vcd" what VCD asks, "qwen" what lmms-eval asks Qwen-VL, "instructblip" that model's
own form. Rows of one's own end in the sentence that asks for a word, or for a letter where they
have options; without an answer, or "bare", they stand as they are.
"""

from string import ascii_uppercase
from types import MappingProxyType

SHORT = "Answer the question using a single word or phrase."
DESCRIBE = "Please describe this image in detail."
LETTER = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCDE"


def capitalised(row: dict) -> str:
    """Return a question of TextVQA, which the set has in lower case, as LLaVA asks it.

    >>> capitalised({"question": "what does the sign say?"})
    'What does the sign say?'
    """
    return row["question"][:1].upper() + row["question"][1:]


def _read(row: dict, ocr: bool) -> str:
    tokens = row.get("ocr_tokens")
    if ocr and (not isinstance(tokens, list) or not all(isinstance(one, str) for one in tokens)):
        raise ValueError(
            f"its ocr_tokens are {tokens!r}; write a list of texts (TextVQA's authors publish them "
            "in a file of their own), or leave ocr=True out."
        )
    return ", ".join(tokens) if ocr else ""


def _textvqa(row: dict, *, ocr: bool = False, **_) -> str:
    told = [f"Reference OCR token: {_read(row, ocr)}"] if ocr else []
    return "\n".join([capitalised(row), *told, SHORT])


def _textvqa_bare(row: dict, *, ocr: bool = False, **_) -> str:
    told = [f"Reference OCR token: {_read(row, ocr)}"] if ocr else []
    return "\n".join([capitalised(row), *told])


def _textvqa_instructblip(row: dict, *, ocr: bool = False, **_) -> str:
    told = f"OCR tokens: {_read(row, ocr)}. " if ocr else ""
    return f"{told}Question: {capitalised(row)} Short answer:"


def choices(row: dict) -> str:
    """Return the lettered choices of a row of ScienceQA, a line each.

    >>> choices({"choices": ["owl", "cat"]})
    'A. owl\\nB. cat'
    """
    return "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(row["choices"]))


def _scienceqa_bare(row: dict, **_) -> str:
    hint = [f"Context: {row['hint']}"] if row["hint"] else []
    return "\n".join([*hint, row["question"], choices(row)])


def _scienceqa_qwen(row: dict, **_) -> str:
    hint, question = row["hint"] or "N/A", row["question"]
    return f"Context: {hint}\nQuestion: {question}\nOptions: {choices(row)}\nAnswer:"


def _describe(*_, **__) -> str:
    return DESCRIBE


def _own_bare(row: dict, **_) -> str:
    options = zip(ascii_uppercase, row.get("choices") or (), strict=False)
    return "\n".join([row["question"], *(f"{letter}. {text}" for letter, text in options)])


def _own(row: dict, **_) -> str:
    ending = LETTER if row.get("choices") else SHORT if row.get("answers") else ""
    return "\n".join(filter(None, [_own_bare(row), ending]))


STYLES = MappingProxyType(
    {
        "pope": {
            "llava": lambda row, **_: f"{row['question']}\n{SHORT}",
            "bare": lambda row, **_: row["question"],
            "vcd": lambda row, **_: f"{row['question']} Please answer this question with one word.",
        },
        "textvqa": {
            "llava": _textvqa,
            "bare": _textvqa_bare,
            "qwen": lambda row, **_: f"{capitalised(row)} Answer:",
            "instructblip": _textvqa_instructblip,
        },
        "scienceqa": {
            "llava": lambda row, **_: f"{_scienceqa_bare(row)}\n{LETTER}",
            "bare": _scienceqa_bare,
            "qwen": _scienceqa_qwen,
        },
        "chair": {"llava": _describe, "bare": _describe},
        "own": {"llava": _own, "bare": _own_bare},
    }
)


def prompt(task: str, row: dict, *, style: str = "llava", ocr: bool = False) -> str:
    """Return the text of the user's turn for a row.

    `ocr=True` adds TextVQA's OCR tokens where the style has a place for them. Raises ValueError for
    a style that the task has not, and for OCR tokens that are not there.

    >>> prompt("pope", {"question": "Is there a cat?"}, style="bare")
    'Is there a cat?'
    """
    check_style(task, style)
    return STYLES[task][style](row, ocr=ocr)


def check_style(task: str, style: str) -> None:
    """Raise ValueError for a style that a task's prompts are not written in."""
    if style not in STYLES[task]:
        raise ValueError(
            f"task {task!r} was asked for the style {style!r}; its prompts are written in "
            f"{', '.join(STYLES[task])}; take one."
        )
