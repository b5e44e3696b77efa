"""smol-llava's card tells what its scores.json holds, of the weights that are there."""

import json
from dataclasses import asdict

import pandas as pd
import pytest

from data.generate import altered, card, smol, smol_card, words
from data.generate.fitting import bundle, language
from irlib.store import contents


def kept():
    return json.loads((bundle.FOLDER / "scores.json").read_text())


def test_the_card_is_that_of_the_kept_scores():
    assert (bundle.FOLDER / "README.md").read_text() == smol_card.written(kept())


def test_the_kept_recipe_is_the_one_that_the_command_takes():
    assert kept()["recipe"] == asdict(smol.Recipe())


def test_scores_of_other_weights_make_no_card():
    with pytest.raises(ValueError, match="found scores of 0000; measure again, without --kept"):
        smol_card.written(kept() | {"weights": "0000"})


def test_a_goal_that_is_missed_is_named():
    told = kept()
    for goal in told["floors"]:
        goal["met"] = goal["metric"] != "POPE Acc"
    assert "missed: pope POPE Acc:" in smol_card.written(told)


def test_what_lies_above_the_majority_is_never_rounded_away():
    assert smol_card._more(0.0054) == "more than 0.6 points"
    assert smol_card._more(0.0) == "at all"


def test_a_cell_is_one_line_whatever_is_said():
    table = pd.DataFrame([{"answer": "a | b\nc", "n": 1}])
    assert card.markdown(table).splitlines()[-1] == r"| a \| b c | 1 |"


class Says:
    """A model with one answer to whatever is asked."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def prepare(self, *, question):
        self.asked.append(question)
        return question

    def answer(self, inputs, *, max_new_tokens):
        return self


def test_capitals_are_asked_of_both_models_and_judged_as_words():
    first, second = Says("The capital is PARIS."), Says("the climate of Warsaw")
    rows = {row["country"]: row for row in smol_card.capitals(first, second)}
    assert rows.keys() == language.capitals("test").keys()
    assert rows["France"]["answer right"]
    assert not rows["France"]["published right"]
    assert rows["Poland"]["published right"]
    assert not rows["Peru"]["published right"]  # Lima
    assert first.asked == second.asked
    assert first.asked[0] == "What is the capital of France?"


def test_all_that_the_card_needs_is_measured_and_tied_to_the_weights(monkeypatch):
    table = pd.DataFrame(kept()["scores"])
    monkeypatch.setattr(card, "measure", lambda vlm: table)
    monkeypatch.setattr(words, "measure", lambda vlm, *, n: (["words"], ["world"]))
    monkeypatch.setattr(altered, "measure", lambda vlm, *, n: ["altered"])
    monkeypatch.setattr(altered, "photographs", lambda vlm, files: [files[0].name])
    monkeypatch.setattr(language, "perplexity", lambda model, tokenizer, text: len(text))
    model = Says("Paris")
    model.model = model.processor = None
    model.processor = type("Processor", (), {"tokenizer": None})
    told = smol_card.measured(model, model)
    assert told["weights"] == contents.file(bundle.FOLDER / "parts/trained.safetensors")
    assert told["floors"] == card.verdicts(table, smol_card.GOALS)
    assert set(told) | {"history"} <= set(kept())


def test_no_question_about_the_world_was_one_of_the_trainings():
    asked = {question for question, _ in words.WORLD}
    parts = [language.capitals(part) for part in ("validation", "test")]
    asked |= {language.CAPITAL.format(country) for part in parts for country in part}
    assert not asked & set(language.ASKED)
    assert not set(parts[0]) & set(parts[1])
