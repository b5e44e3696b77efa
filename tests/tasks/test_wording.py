"""Prompts of every task and style, to the letter."""

import pytest

from irlib import load_task
from irlib.inputs.conversations import conversation
from irlib.models.families import FAMILIES
from irlib.tasks.wording import STYLES, prompt

ROW = {
    "question": "what word is on the sign?",
    "ocr_tokens": ["STOP", "GO"],
    "hint": "Look twice.",
    "choices": ["owl", "cat", "fox"],
}
CHOICES = "A. owl\nB. cat\nC. fox"
SHORT = "Answer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("task", "style", "ocr", "text"),
    [
        ("pope", "llava", False, f"what word is on the sign?\n{SHORT}"),
        ("pope", "bare", False, "what word is on the sign?"),
        (
            "pope",
            "vcd",
            True,
            "what word is on the sign? Please answer this question with one word.",
        ),
        ("textvqa", "llava", False, f"What word is on the sign?\n{SHORT}"),
        (
            "textvqa",
            "llava",
            True,
            f"What word is on the sign?\nReference OCR token: STOP, GO\n{SHORT}",
        ),
        ("textvqa", "bare", True, "What word is on the sign?\nReference OCR token: STOP, GO"),
        ("textvqa", "qwen", True, "What word is on the sign? Answer:"),
        (
            "textvqa",
            "instructblip",
            True,
            "OCR tokens: STOP, GO. Question: What word is on the sign? Short answer:",
        ),
        ("textvqa", "instructblip", False, "Question: What word is on the sign? Short answer:"),
        (
            "scienceqa",
            "llava",
            False,
            f"Context: Look twice.\nwhat word is on the sign?\n{CHOICES}\n"
            "Answer with the option's letter from the given choices directly.",
        ),
        (
            "scienceqa",
            "bare",
            False,
            f"Context: Look twice.\nwhat word is on the sign?\n{CHOICES}",
        ),
        (
            "scienceqa",
            "qwen",
            False,
            f"Context: Look twice.\nQuestion: {ROW['question']}\nOptions: {CHOICES}\nAnswer:",
        ),
        ("chair", "llava", False, "Please describe this image in detail."),
    ],
)
def test_a_prompt_is_written_as_its_protocol_writes_it(task, style, ocr, text):
    assert prompt(task, ROW, style=style, ocr=ocr) == text


def test_scienceqa_without_a_hint_says_so_to_qwen_and_nothing_to_llava():
    row = ROW | {"hint": ""}
    assert prompt("scienceqa", row).startswith("what word")
    assert prompt("scienceqa", row, style="qwen").startswith("Context: N/A\nQuestion:")


def test_a_task_is_loaded_in_the_style_asked_for():
    bare, llava = (load_task("pope", n=3, style=style) for style in ("bare", "llava"))
    assert [s.prompt for s in bare] == [s.question for s in bare]
    assert [s.prompt.removesuffix(f"\n{SHORT}") for s in llava] == [s.question for s in bare]


def test_every_task_knows_the_two_styles_that_figures_may_ask_of_all():
    assert all({"llava", "bare"} <= styles.keys() for styles in STYLES.values())


def test_a_conversation_is_what_the_model_is_asked(tiny_llava, sample):
    around = conversation(tiny_llava.processor, FAMILIES["llava"])
    asked = tiny_llava.processor.tokenizer.decode(tiny_llava.prepare(sample).batch["input_ids"][0])
    assert around.count("<image>") == 1
    said = around.replace("{prompt}", sample.prompt).replace("<image>", "<image>" * 16)
    assert asked.removeprefix("<s>") == said.removeprefix("<s>")
