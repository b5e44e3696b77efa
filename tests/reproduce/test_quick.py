"""The first run on a GPU, on a tiny LLaVA and rows in the hub's layout: all but the download."""

import re
import shutil

import pandas as pd
import pytest
from rows import ROWS, lay, picture

from irlib import store
from irlib.reproduce import jobs, packing, runner

STEMS = [
    "fig1_information_flow", "fig2_attention_shares", "fig5_truncation", "table1_generalisation"
]  # fmt: skip
MODEL = "llava-hf/llava-1.5-7b-hf"


def many(rows: list[dict]) -> list[dict]:
    """Six times the rows, each about another picture."""
    many = [(row, 6 * place + copy) for place, row in enumerate(rows) for copy in range(6)]
    return [row | {"image": row["image"] and picture(i), "question_id": i} for row, i in many]


def test_the_profile_draws_its_own_figures_of_one_checkpoint():
    planned = jobs.plan(profile="paper-quick")
    assert [job.stem for job in planned] == STEMS
    assert {job.hub[0] for job in planned} == {f"model:{MODEL}"}
    (alone,) = jobs.plan(["fig5"], profile="paper-quick")
    curves, table = (planned[place].parameters for place in (2, 3))
    assert alone.parameters == curves
    shared = ("n", "captions", "source", "ocr", "models")  # so that one sweep serves both
    assert [curves[name] for name in shared] == [table[name] for name in shared]


@pytest.mark.parametrize("figures", ["fig1", "[1]", "[fig77]"])
def test_figures_that_are_no_notebooks_are_refused(figures, tmp_path):
    shutil.copytree(store.root() / "notebooks", tmp_path / "notebooks")
    place = tmp_path / "notebooks/profiles/other.yaml"
    place.write_text(f"figures: {figures}\nall: {{source: hub}}\n")
    with pytest.raises(ValueError, match=r"write a list of notebooks|names fig77; there is no"):
        jobs.plan(profile="other", notebooks=place.parents[1])


def test_the_run_goes_through_on_a_tiny_llava_and_rows_of_the_hubs_layout(
    tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    for task, rows in ROWS.items():
        lay(tmp_path / "rows" / task, task, many(rows()))
    shutil.copytree(store.root() / "notebooks", tmp_path / "notebooks")
    place = tmp_path / "notebooks/profiles/paper-quick.yaml"
    told = place.read_text().replace(MODEL, str(tiny_folder))
    told = re.sub(r"\bn: \d+", "n: 3", told)
    told = re.sub(r"\bcaptions: \d+", "captions: 2", told)  # a random model's never end
    told = told.replace("shallow: 5", "shallow: 2")  # it has 4 layers
    place.write_text(told.replace("source: hub", f"source: {tmp_path / 'rows'}"))
    planned = jobs.plan(profile="paper-quick", notebooks=place.parents[1])
    assert all(job.hub == () for job in planned)
    outcomes = runner.run(planned, workers=1)
    assert [outcome.failure for outcome in outcomes] == [""] * len(STEMS)
    table = pd.read_csv(tmp_path / "figures/paper-quick/table1_generalisation.csv")
    assert (table["baseline_low"] <= table["baseline"]).all()
    packed = packing.pack("paper-quick", out=tmp_path / "sent.zip")
    assert packed.is_file()
