"""What `irlib list` tells: every prompt that a model can be asked, in the words it is asked in."""

import pytest

from irlib import cli, load, load_task
from irlib.models.families import FAMILIES
from irlib.reproduce import listing


@pytest.fixture(scope="module")
def told():
    return list(listing.tasks())


def test_every_style_of_every_task_is_told_with_and_without_ocr(told):
    text = "\n".join(told)
    for line in (
        "    | Please describe this image in detail.",
        "    | Reference OCR token: {token}, ...",
        "    | OCR tokens: {token}, .... Question: {question} Short answer:",
        "    | {question} Please answer this question with one word.",
    ):
        assert line in text
    assert told.count("  style='llava', ocr=True") == 1  # of the four tasks TextVQA alone has any


def test_every_family_is_told_and_vicuna_to_the_letter(told):
    text = "\n".join(told)
    assert [family.title for family in FAMILIES.values() if f"  {family.title}" not in text] == []
    assert r"polite answers to the user's questions. USER: <image>\n{prompt} ASSISTANT:" in text


def test_the_conversation_that_is_told_is_the_one_the_miniature_is_asked(told):
    (line,) = [line for line in told if "(mini-llava)" in line]
    vlm, sample = load("mini-llava"), load_task("pope", n=1)[0]
    said = line.partition(": ")[2].strip("\"'").replace("\\n", "\n")
    asked = vlm.processor.tokenizer.decode(vlm.prepare(sample).batch["input_ids"][0])
    images = asked.count("<image>")
    meant = said.replace("<image>", "<image>" * images).replace("{prompt}", sample.prompt)
    assert asked.removeprefix("<s>").split() == meant.split()


def test_a_section_is_told_alone(capsys):
    assert cli.main(["list", "figures"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("figures\n  claims ")
    assert "\n  fig1_information_flow " in told
    assert "\nmodels" not in told
    assert "\ntasks" not in told


def test_a_section_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["list", "pictures"])
    assert "choose from" in capsys.readouterr().err
