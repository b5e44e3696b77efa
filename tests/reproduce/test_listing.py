"""What `irlib list` tells: every prompt that a model can be asked, in the words it is asked in."""

import families
import pytest

from irlib import cli, load, load_task, store
from irlib.models.families import FAMILIES
from irlib.reproduce import committed, listing


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


def test_every_family_is_listed_with_what_was_tried_on_it():
    text = "\n".join(listing.families())
    assert [kind for kind in FAMILIES if f"\n{kind} " not in f"\n{text}"] == []
    rows = {kind: row for kind, *row in listing.known_families()}
    assert rows["qwen2_vl"][2] == "mini-qwen2vl, a tiny random model"
    assert "mini-shikra, smol-llava, a tiny random model" in rows["llava"][2]
    assert all(placing for _, placing, *_ in rows.values())
    assert "at another site than the paper's" in rows["aya_vision"][3]


def test_on_every_family_a_tiny_random_model_was_tried():
    assert {kind for kind, _ in families.FAMILIES.values()} == FAMILIES.keys()


def test_the_committed_page_says_what_the_code_does():
    page = (store.project() / "docs/families.md").read_text()
    assert committed.listed(page) == page
    assert committed.listed(page.replace("| LLaVA-NeXT-Video |", "| |")) == page
    assert all(f"| {kind} | {family.title} |" in page for kind, family in FAMILIES.items())
