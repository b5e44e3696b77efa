"""A model that ends at once, for one row: every figure goes on, and its foot names the row."""

import dataclasses

import nbformat
import pytest

import irlib
from irlib import store
from irlib.models.vlm import VLM

SMALL = {"n": 3, "copies": 1, "shown": 1, "seed": 3, "models": ["mini-llava"]}
FIGURES = (
    "fig1_information_flow",
    "fig2_attention_shares",
    "fig3_cam_scienceqa",
    "fig4_cam_pope_textvqa",
    "fig6_truncation_diagram",
    "fig7_cam_sites",
    "fig8_cam_gallery",
)


def emptied(answer):
    """The same answer, ended before its first token."""
    none = [ids[:0] for ids in answer.ids]
    return dataclasses.replace(answer, ids=none, texts=("",) * len(none))


@pytest.mark.parametrize("stem", FIGURES)
def test_a_row_whose_answer_is_empty_is_named_and_the_figure_goes_on(stem, monkeypatch):
    inner, silent, saved = VLM.answer, [], []

    def answer(vlm, inputs, **how):
        told = inner(vlm, inputs, **how)
        key = inputs.samples[0].key
        silent[:] = silent or [key]
        return emptied(told) if key == silent[0] else told

    monkeypatch.setattr(VLM, "answer", answer)
    monkeypatch.setattr(irlib, "save_figure", lambda figure, *_, **__: saved.append(figure))
    monkeypatch.chdir(store.root() / "notebooks")
    scope = {"display": lambda *_: None}
    for cell in nbformat.read(f"{stem}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
            if "parameters" in cell.metadata.get("tags", ()):
                scope |= {name: value for name, value in SMALL.items() if name in scope}
    texts = " ".join(text.get_text() for text in saved[0].texts).replace("\n", " ")
    assert "for an empty answer" in texts
    assert silent[0] in texts.replace("- ", "-")
