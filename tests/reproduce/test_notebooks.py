"""The notebooks' form; that they run is shown by nbval and by the runner."""

import ast
import re

import nbformat
import pandas as pd
import pytest
import yaml

from irlib import store
from irlib.reproduce import jobs
from irlib.reproduce.parameters import declared

FOLDER = store.root() / "notebooks"
STEMS = """claims explore fig10_knockout fig11_faithfulness fig12_topk fig13_logit_lens
    fig14_patching fig1_information_flow fig2_attention_shares fig3_cam_scienceqa
    fig4_cam_pope_textvqa fig5_truncation fig6_truncation_diagram fig7_cam_sites fig8_cam_gallery
    fig9_no_picture_needed table1_generalisation""".split()
FIGURES = [stem for stem in STEMS if stem != "explore"]


def read(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)


def code(stem: str) -> list[str]:
    return [cell.source for cell in read(stem).cells if cell.cell_type == "code"]


def test_every_figure_has_its_notebook_and_no_notebook_is_a_stranger():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == STEMS
    assert jobs.stems() == FIGURES


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_opens_with_what_the_paper_shows(stem):
    first = read(stem).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert stem == "explore" or "arxiv.org/abs/2406.06579" in first.source


@pytest.mark.parametrize("stem", STEMS)
def test_parameters_are_annotated_and_default_to_the_miniature(stem):
    told = {name: value for name, (_, value) in declared(FOLDER / f"{stem}.ipynb").items()}
    models = [told["model"]] if "model" in told else told["models"]
    assert models[0] == "mini-llava"
    assert all(name.startswith("mini-") for name in models)
    assert told["source"] == ("held" if stem == "claims" else "bundled")
    assert "seed" in told
    assert stem == "explore" or told["profile"] == "mini"


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_defines_nothing_and_stays_short(stem):
    lines = "\n".join(code(stem)).splitlines()
    assert len([line for line in lines if line.strip()]) <= 65
    for source in code(stem):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize("stem", FIGURES)
def test_a_notebook_saves_under_its_own_stem_and_says_what_came_out(stem):
    source = "\n".join(code(stem))
    assert re.search(rf'save_figure\(\s*\w+,\s*"{stem}"', source)
    assert "said=said" in source or stem == "claims"


@pytest.mark.parametrize("stem", FIGURES)
def test_a_figure_tells_every_parameter_that_it_hangs_on(stem):
    """What a figure does not tell could change and its files would still be left as they are."""
    told = "\n".join(code(stem)[1:])
    for name in declared(FOLDER / f"{stem}.ipynb").keys() - {"profile", "model", "models", "seed"}:
        assert f'"{name}": {name}' in told, name
    assert "profile=profile" in told
    assert "vlm=" in told
    assert "seed=seed" in told


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_is_committed_with_outputs_and_without_traces_of_its_run(stem):
    book = read(stem)
    assert book.metadata == {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(set(cell.metadata) <= {"tags"} for cell in cells)
    assert any(cell.outputs for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert (FOLDER / f"{stem}.ipynb").stat().st_size < 1.5e6


def test_table_1_stands_a_miniature_beside_each_row_of_the_paper_and_figure_8_shows_them_all():
    table, gallery, curves = (
        {name: value for name, (_, value) in declared(FOLDER / f"{stem}.ipynb").items()}
        for stem in ("table1_generalisation", "fig8_cam_gallery", "fig5_truncation")
    )
    rows = pd.read_csv(store.root() / "data/paper/table1.csv")["model"]
    assert set(rows) == set(table["published"]) - {"LLaVA-1.6"}
    assert len(table["models"]) == len(set(table["models"])) == len(table["published"]) == 6
    assert gallery["models"] == table["models"]
    assert set(curves["models"]) <= set(table["models"])
    # equal rows and seed: one sweep serves both
    assert [curves[k] for k in ("n", "captions", "seed", "margin")] == [
        table[k] for k in ("n", "captions", "seed", "margin")
    ]


@pytest.mark.parametrize("profile", ["paper", "smol"])
def test_a_profile_names_notebooks_that_are_there(profile):
    told = yaml.safe_load((FOLDER / f"profiles/{profile}.yaml").read_text())
    assert told.keys() - {"all"} <= set(FIGURES)
