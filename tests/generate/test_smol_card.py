"""smol-llava's card tells what its scores.json holds."""

import copy
import json

import pandas as pd

from data.generate import card, smol_card, words
from data.generate.fitting import bundle, language


def kept():
    return json.loads((bundle.FOLDER / "scores.json").read_text())


def test_the_card_is_that_of_the_kept_scores():
    assert (bundle.FOLDER / "README.md").read_text() == smol_card.written(kept())


def test_a_goal_that_is_missed_is_named():
    told = copy.deepcopy(kept())
    for goal in told["floors"]:
        goal["met"] = goal["metric"] != "POPE Acc"
    assert "missed: pope POPE Acc:" in smol_card.written(told)


def test_a_cell_is_one_line_whatever_is_said():
    table = pd.DataFrame([{"answer": "a | b\nc", "n": 1}])
    assert card.markdown(table).splitlines()[-1] == r"| a \| b c | 1 |"


def test_capitals_are_asked_of_both_models_and_judged():
    class Says:
        def __init__(self, said):
            self.said, self.asked = said, []

        def prepare(self, *, question):
            self.asked.append(question)
            return question

        def answer(self, inputs, *, max_new_tokens):
            return self

        text = property(lambda self: self.said)

    first, second = Says("The capital is PARIS."), Says("Rome")
    rows = {row["country"]: row for row in words.capitals(first, second)}
    assert rows.keys() == language.capitals("test").keys()
    assert rows["France"]["answer right"]
    assert not rows["France"]["published right"]
    assert rows["Italy"]["published right"]
    assert first.asked == second.asked
    assert first.asked[0] == "What is the capital of France?"
