"""The page of claims: every outcome told by word and shape, nothing beyond the page."""

import pandas as pd
import pytest

from irlib.plots.claims import LOOK, claims_latex, claims_table
from irlib.plots.page import PAGE


def table():
    rows = [
        (
            "m",
            "C1",
            "C1.a",
            "So it is stated.",
            "all tasks",
            outcome,
            f"It is {outcome} & more_so.",
            0.1,
            -0.2,
            0.3,
            0.05,
            40,
            0.25,
        )
        for outcome in LOOK
    ]
    names = (
        "model claim id statement part outcome says value low high matters units resolves".split()
    )
    made = pd.DataFrame(rows, columns=names)
    bare = made["outcome"].isin(["true by construction", "not testable here"])
    made.loc[bare, ["value", "low", "high", "units"]] = float("nan")
    made.loc[0, "part"] = "pope before chair"
    return made


def test_every_outcome_is_on_the_page_in_words():
    figure = claims_table(table())
    words = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert all(outcome in words for outcome in LOOK)
    assert "40 pictures" in words
    assert "(pope before chair)" in words
    assert words.count("So it is stated.") == 1  # beside what is not resolved alone
    assert "to ±0.25" in words
    assert len({sign for _, sign in LOOK.values()}) == len(LOOK)
    renderer = figure.canvas.get_renderer()
    edges = [text.get_window_extent(renderer) for text in figure.texts]
    assert max(edge.x1 for edge in edges) <= PAGE * figure.dpi
    assert min(edge.y0 for edge in edges) >= 0


def test_latex_escapes_what_is_not_latex():
    text = claims_latex(table())
    assert r"\& more\_so" in text
    assert text.count("not testable here") == 2  # outcome and sentence
    assert "0.10 [-0.20, 0.30]" in text


def test_two_models_are_two_pages():
    with pytest.raises(ValueError, match="one page a model"):
        claims_table(pd.concat([table(), table().assign(model="n")]))
