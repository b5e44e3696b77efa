"""The runner: strict before, alone during, distrustful after. Real papermill on toy notebooks."""

import json
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from nbformat import v4

from irlib import cli, store
from irlib.reproduce import committed, copies, jobs, listing, runner
from irlib.store.compare import differences

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PARAMETERS = (
    'n: int = 3  # rows\nprofile: str = "mini"\nrates: list[float] = [0.1]\ndeep: bool = False'
)
SAVE = """import matplotlib.pyplot as plt, pandas as pd
from irlib import save_figure
figure, axes = plt.subplots()
axes.plot(range(n))
save_figure(figure, {stem!r}, pd.DataFrame({{"n": [n]}}), profile=profile)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function that writes a notebook of these code cells and gives their folder."""
    place = tmp_path_factory.mktemp("project") / "notebooks"
    place.mkdir()
    return place


def write(folder, stem: str, *code: str, parameters=(PARAMETERS,)):
    cells = [v4.new_markdown_cell("# A toy")]
    cells += [v4.new_code_cell(p, metadata={"tags": ["parameters"]}) for p in parameters]
    cells += [v4.new_code_cell(source) for source in code]
    path = folder / f"{stem}.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


@pytest.fixture(scope="module")
def ran(folder, tmp_path_factory):
    """Run six toys at once and return their outcomes and the folder of figures."""
    figures = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRLIB_FIGURES", str(figures))
        patch.setenv("IRLIB_RESULTS", str(tmp_path_factory.mktemp("results")))
        write(
            folder, "fig1_good", SAVE.format(stem="fig1_good"), "import sys; sys.stderr.write('x')"
        )
        write(folder, "fig2_error", "x = 1", "x / 0")
        write(folder, "fig3_exit", "import sys; sys.exit(0)", SAVE.format(stem="fig3_exit"))
        write(folder, "fig4_nothing", "x = 1")
        (figures / "mini").mkdir()
        (figures / "mini/fig4_nothing.png").write_text("from before")
        write(folder, "fig5_killed", "import os; os._exit(0)", SAVE.format(stem="fig5_killed"))
        write(folder, "explore", "pass", parameters=["row: int = 0"])
        planned = jobs.plan(settings={"n": "5"}, notebooks=folder, out=figures / "mini", pdf=True)
        outcomes = runner.run(planned, workers=2)
    return {outcome.stem: outcome for outcome in outcomes}, figures / "mini"


def test_a_notebook_that_saves_its_figure_passes_with_its_parameters(ran):
    outcomes, figures = ran
    assert outcomes["fig1_good"].failure == ""
    assert pd.read_csv(figures / "fig1_good.csv")["n"].tolist() == [5]
    assert (figures / "fig1_good.pdf").is_file()
    copy = nbformat.read(figures / "notebooks/fig1_good.ipynb", as_version=4)
    assert set(copy.metadata["irlib"]) == {"started", "commit"}


def test_no_named_stem_means_every_figure_and_explore_is_none(ran):
    assert sorted(ran[0]) == [
        *("fig1_good", "fig2_error", "fig3_exit", "fig4_nothing", "fig5_killed")
    ]


def test_a_failing_cell_is_reported_with_notebook_cell_and_error_in_one_screen(ran):
    report = ran[0]["fig2_error"].failure
    assert report.startswith("fig2_error.ipynb, cell 4\n  ZeroDivisionError: division by zero")
    assert "x / 0" in report
    assert len(report.splitlines()) <= 20


@pytest.mark.parametrize("stem", ["fig3_exit", "fig5_killed"])
def test_a_cell_that_ends_the_kernel_fails_whatever_the_exit_code(ran, stem):
    assert ran[0][stem].failure.startswith(f"{stem}.ipynb")


def test_a_cell_that_never_ran_fails_though_outputs_and_exit_code_are_good(tmp_path):
    cells = [nbformat.v4.new_code_cell(f"x = {i}", execution_count=i or None) for i in (1, 0)]
    path = tmp_path / "fig6_left.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    told = copies.failure(path, path, 0, "", [])
    assert told.startswith("fig6_left.ipynb, cell 2\n  never ran")


def test_missing_outputs_are_named_and_old_ones_not_taken_for_new(ran):
    told = ran[0]["fig4_nothing"].failure
    assert "did not write fig4_nothing.png, fig4_nothing.csv" in told
    assert "fig4_nothing.pdf" in told


def test_the_summary_keeps_minutes_and_outcome_of_every_notebook(ran):
    table = pd.read_csv(ran[1] / "notebooks/summary.csv").set_index("stem")
    assert (table["minutes"] > 0).all()
    assert table["outcome"].to_dict() == {
        stem: "failed" if outcome.failure else "done" for stem, outcome in ran[0].items()
    }


def test_a_copy_is_cleaned_for_committing_with_its_outputs(ran, tmp_path):
    copy = nbformat.read(ran[1] / "notebooks/fig1_good.ipynb", as_version=4)
    copy.metadata["widgets"] = {"state": {}}
    clean = copies.clean(copy)
    assert clean.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    assert all(set(cell.metadata) <= {"tags"} for cell in clean.cells)
    outputs = [output for cell in clean.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert copy.metadata["widgets"]  # the copy itself is left as it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wanted": ["fig99"]}, "asked for fig99; there are explore, fig1_good"),
        ({"wanted": ["fig"]}, "asked for fig; that may be fig1_good, fig2_error, fig3_exit"),
        ({"wanted": [""]}, "asked for ; there are explore, fig1_good"),
        ({"profile": "poster"}, "profile 'poster'; there are mini; take one"),
        ({"profile": "../../x"}, "asked for '../../x' in .*; found no plain name in it"),
        ({"settings": {"profile": "../../x"}}, "asked for '../../x' in .*; found no plain name"),
        ({"settings": {"n": "{[]: 1}"}}, "n was to be '{\\[\\]: 1}', of type str"),
        ({"settings": {"n": "[" * 9999}}, "n was to be '.*', of type str"),
        ({"settings": {"m": 1}}, "run with m; its parameters are n, profile, rates, deep"),
        ({"settings": {"n": "many"}}, "n was to be 'many', of type str; it is declared int"),
        ({"settings": {"n": "1.5"}}, "n was to be 1.5, of type float; it is declared int"),
        ({"settings": {"n": True}}, "n was to be True, of type bool; it is declared int"),
        ({"settings": {"deep": "2"}}, "deep was to be 2, of type int; it is declared bool"),
        ({"settings": {"rates": "0.5"}}, r"rates was to be 0.5, .* declared list\[float\]"),
        ({"settings": {"rates": '["a"]'}}, r"rates was to be \['a'\]"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(ran, folder, options, message):
    with pytest.raises(ValueError, match=message):
        jobs.plan(notebooks=folder, **options)


def test_settings_are_read_as_the_declared_kind(ran, folder):
    told = {"n": "7", "rates": "[1, 0.5]", "deep": "true", "profile": "7"}
    [job] = jobs.plan(["fig1_good"], settings=told, notebooks=folder)
    assert job.parameters == {"n": 7, "rates": [1, 0.5], "deep": True, "profile": "7"}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "0 of its cells are tagged parameters; tag exactly one"),
        ([PARAMETERS, "m: int = 1"], "2 of its cells are tagged parameters"),
        (["n = 3"], "its parameters cell does not read"),
        (["n: int = len([1])"], "its parameters cell does not read"),
        (["n: tuple = (1, 2)"], "annotated tuple; write int, float, str, bool"),
        (['n: int = "3.5"'], "does not read: its default was to be 3.5"),
        (["n: int ="], "its parameters cell does not read"),
        (['s: str = "a=b"'], "papermill does not see s"),
    ],
)
def test_a_parameters_cell_that_papermill_would_bend_is_refused(tmp_path, cells, message):
    write(tmp_path, "fig1_toy", "pass", parameters=cells)
    with pytest.raises(ValueError, match=message):
        jobs.plan(["fig1_toy"], notebooks=tmp_path)


def test_a_model_that_is_nowhere_is_refused_before_anything_runs(tmp_path):
    write(tmp_path, "fig1_toy", "pass", parameters=['models: list[str] = ["mini-llava"]'])
    with pytest.raises(ValueError, match=r"the model 'shikra-7b'; there is no such folder"):
        jobs.plan(["fig1_toy"], settings={"models": "['shikra-7b']"}, notebooks=tmp_path)


def test_several_models_go_by_full_path_and_are_all_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    write(tmp_path, "fig1_toy", "pass", parameters=['models: list[str] = ["mini-llava"]'])
    told = {"models": "['mine', 'mini-llava', 'a/b', 'c/d']"}
    [job] = jobs.plan(["fig1_toy"], settings=told, notebooks=tmp_path)
    assert job.parameters["models"] == [str(tmp_path / "mine"), "mini-llava", "a/b", "c/d"]
    assert job.hub == ("model:a/b", "model:c/d")


def test_a_profile_sets_what_a_notebook_knows_and_names_no_stranger(tmp_path):
    write(tmp_path, "fig1_toy", "pass")
    write(tmp_path, "fig2_other", "pass", parameters=['model: str = "mini-llava"'])
    (tmp_path / "profiles").mkdir()
    profile = tmp_path / "profiles/paper.yaml"
    profile.write_text("all: {profile: paper, model: a/b}\nfig1_toy: {n: 9}\n")
    [job, _] = jobs.plan(profile="paper", notebooks=tmp_path)
    assert job.parameters == {"profile": "paper", "n": 9}
    assert job.outputs[0].parent.name == "paper"
    [job] = jobs.plan(["fig1"], profile="paper", settings={"n": 2}, notebooks=tmp_path)
    assert job.parameters["n"] == 2
    assert job.folder.name == "trials"
    profile.write_text("fig1_toy: {n: 9}\n")  # its figures are no miniature's all the same
    [job] = jobs.plan(["fig1"], profile="paper", notebooks=tmp_path)
    assert job.folder.name == job.parameters["profile"] == "paper"
    profile.write_text("fig1_toy: {m: 9}\n")
    with pytest.raises(ValueError, match="fig1_toy was to be run with m"):
        jobs.plan(profile="paper", notebooks=tmp_path)
    profile.write_text("fig2_toy: {n: 9}\n")
    with pytest.raises(ValueError, match="names fig2_toy; there is no such notebook"):
        jobs.plan(profile="paper", notebooks=tmp_path)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "it holds nothing"),
        ("# only a word\n", "it holds nothing"),
        ("- n: 3\n", "it holds list"),
        ("three", "it holds str"),
        ("all: {n: 3\n", "while parsing a flow mapping"),
        ("all:\n\tn: 3\n", "cannot start any token"),
        ("all: 3\n", "all holds 3"),
        ("fig1_toy: [n]\n", r"fig1_toy holds \['n'\]"),
        (b"all: {n: \xff}\n", "codec can't decode byte"),
        ("all: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("all: {profile: mini}\n", "take the place of the miniature's"),
        ("all: {modle: mini-llava}\n", "sets modle in all; no notebook has such a parameter"),
        ("all: {on: 1}\n", "sets True in all"),
        ("fig1_toy: {3: 1}\n", "run with 3; its parameters are n, profile"),
        ("3: {n: 1}\n", "names 3; there is no such notebook"),
        ("all: {n: a}\n", "n was to be 'a', of type str; it is declared int"),
        ("all: {n: 2020-01-01}\n", "of type date; it is declared int"),
        ("all: {profile: ../../x}\n", "found no plain name in it"),
    ],
)
def test_a_profile_that_does_not_read_is_refused_in_words(written, told, tmp_path):
    write(tmp_path, "fig1_toy", "pass")
    (tmp_path / "profiles").mkdir()
    path = tmp_path / "profiles/paper.yaml"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(ValueError, match=told):
        jobs.plan(profile="paper", notebooks=tmp_path)


@pytest.mark.parametrize("offline", [True, False])  # told to be offline, or nobody answers
def test_the_paper_profile_is_refused_where_the_hub_cannot_be_reached(offline, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(runner, "_run_one", lambda *_: pytest.fail("a notebook was run"))
    assert cli.main(["reproduce", "--profile", "paper"]) == 1
    told = capsys.readouterr().err
    assert "from the hub; it cannot be reached" in told
    assert "--profile mini" in told


def test_the_paper_profile_fits_its_notebooks():
    planned = jobs.plan(profile="paper")
    models = {job.stem: job.parameters.get("models") for job in planned}
    several = {stem: names for stem, names in models.items() if names}
    assert set(several) == {"fig5_truncation", "fig8_cam_gallery", "table1_generalisation"}
    assert all(names[0] == "llava-hf/llava-1.5-7b-hf" for names in several.values())
    single = {job.parameters["model"] for job in planned if job.stem not in several}
    assert single == {"llava-hf/llava-1.5-7b-hf"}
    [table] = [job for job in planned if job.stem == "table1_generalisation"]
    assert len(table.parameters["models"]) == len(table.parameters["published"])
    assert len(table.hub) == len(table.parameters["models"]) + 1  # and the benchmarks
    assert all(job.outputs[0].parent.name == "paper" for job in planned)


def test_the_smol_profile_shows_the_pretrained_model_in_every_figure_and_fetches_no_other():
    planned = {job.stem: job for job in jobs.plan(profile="smol")}
    assert list(planned) == jobs.stems()
    for job in planned.values():
        assert "smol-llava" in [job.parameters.get("model"), *job.parameters.get("models", ())]
        assert job.hub == ()
        assert job.outputs[0].parent.name == "smol"
    table, curves = (
        planned[name].parameters for name in ("table1_generalisation", "fig5_truncation")
    )
    rows = dict(zip(table["models"], table["published"], strict=True))
    assert [model for model, row in rows.items() if not row] == ["smol-llava"]
    assert [curves[name] for name in ("n", "captions")] == [
        table[name] for name in ("n", "captions")
    ]
    assert planned["fig2_attention_shares"].models == 3


def test_notebooks_of_many_models_go_first_and_are_reported_in_their_own_order(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path))
    went = []

    def pretend(job, *_):
        went.append(job.stem)
        return runner.Outcome(stem=job.stem, minutes=0)

    monkeypatch.setattr(runner, "_run_one", pretend)
    for stem, models in {"fig1_a": "a", "fig2_b": "abc", "fig3_c": "abcdef"}.items():
        write(
            tmp_path, stem, "pass", parameters=[f"models: list[str] = {[f'x/{m}' for m in models]}"]
        )
    monkeypatch.setattr(runner, "reach", lambda _: None)
    outcomes = runner.run(jobs.plan(notebooks=tmp_path), workers=1)
    assert went == ["fig3_c", "fig2_b", "fig1_a"]
    assert [outcome.stem for outcome in outcomes] == ["fig1_a", "fig2_b", "fig3_c"]


def test_threads_are_shared_out_between_workers(monkeypatch, folder, ran, tmp_path):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    seen = []

    def pretend(job, setting, _):
        seen.append((setting["OMP_NUM_THREADS"], setting["IRLIB_FRESH"], setting["HF_HUB_OFFLINE"]))
        return runner.Outcome(stem=job.stem, minutes=0)

    monkeypatch.setattr(runner, "_run_one", pretend)
    runner.run(jobs.plan(["fig1_good"], notebooks=folder), workers=3, fresh=True)
    runner.run(jobs.plan(["fig1_good"], notebooks=folder))
    assert seen == [("2", "1", "1"), ("2", "", "1")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "fig99"], "irlib: reproduce was asked for fig99"),
        (["reproduce", "--set", "n"], "--set was given 'n'; it has no NAME=VALUE"),
        (["reproduce", "fig5_truncation", "--set", "m=1"], "run with m; its parameters are"),
    ],
)
def test_the_command_answers_a_wrong_request_with_a_sentence_and_code_one(
    arguments, message, capsys
):
    assert cli.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_failure_gives_code_one_and_a_count(monkeypatch, capsys):
    failed = runner.Outcome(stem="fig1_information_flow", minutes=1, failure="cell 3")
    monkeypatch.setattr(runner, "run", lambda *_, **__: [failed])
    assert cli.main(["reproduce", "fig1_information_flow"]) == 1
    assert capsys.readouterr().out.endswith("cell 3\n\n0 passed, 1 failed\n")


def test_list_tells_figures_models_tasks_and_prompts(capsys):
    assert cli.main(["list"]) == 0
    told = capsys.readouterr().out
    for word in (
        "fig5_truncation",
        "mini-llava",
        "scienceqa",
        "Answer the question using a single",
    ):
        assert word in told


def test_scores_are_told_by_the_file_beside_the_weights(tmp_path):
    assert listing.scores(tmp_path) == ["no scores.json: never measured"]
    (tmp_path / "scores.json").write_text('{"scores": [{"group": "pope", "picture": 0.97}]}')
    header, row = listing.scores(tmp_path)
    assert header.split() == ["group", "picture"]
    assert row.split() == ["pope", "0.970"]


def test_the_gallery_tells_what_figures_say_and_claims_came_to_and_leaves_all_else(
    tmp_path, monkeypatch
):
    for place in ("root", "project"):
        monkeypatch.setattr(store, place, lambda: tmp_path)
    (tmp_path / "figures/mini").mkdir(parents=True)
    numbers = {"value": 0.12345, "low": 0.1, "high": None, "n": 9, "units": 7}
    told = [{"says": "a", **numbers, "high": 0.2}, {"says": "b | c", **numbers}]
    (tmp_path / "figures/mini/fig1_a.json").write_text(json.dumps({"said": told}))
    head = "model,id,statement,part,outcome,says,value,low,high,units\n"
    rows = "m,C1.a,It falls.,all tasks,shown,It does.,0.5,0.4,0.6,30\n"
    rows += "m,C1.b,It stays.,pope,refuted,No.,0.1,0,0.2,30\n"
    rows += "m,C1.b,It stays.,chair,shown,Yes.,0,-0.1,0.1,20\n"
    rows += "m,C2,Why.,,not testable here,why,,,,\n"
    (tmp_path / "figures/mini/claims.csv").write_text(head + rows)
    before = (
        '# T\n| <img src="figures/mini/fig1_a.png" alt="x"><br>[fig1_a](n) | {} |\n'
        "<!-- claims -->\n{}\n<!-- /claims -->\nend\n"
    )
    (tmp_path / "README.md").write_text(before.format("old", "old"))
    (tmp_path / "docs").mkdir()
    families = "# F\n<!-- families -->\n{}\n<!-- /families -->\nend\n"
    (tmp_path / "docs/families.md").write_text(families.format("old"))
    assert cli.main(["gallery"]) == 0
    page = (tmp_path / "docs/families.md").read_text()
    assert "| llava | LLaVA-1.5 |" in page
    assert page.startswith("# F\n<!-- families -->\n| model_type |")
    assert page.endswith("\n<!-- /families -->\nend\n")
    text = (tmp_path / "README.md").read_text()
    table = "| claim | m |\n|---|---|\n| C1.a: It falls. | **shown**, 0.50 [0.40, 0.60], n = 30 |"
    table += "\n| C1.b: It stays. | pope: **refuted**, 0.10 [0.00, 0.20], n = 30"
    table += "<br>chair: **shown**, 0.00 [-0.10, 0.10], n = 20 |"
    table += "\n| C2: Why. | **not testable here** |"
    said = r"a: 0.123 [0.1, 0.2], 7 pictures<br>b \| c: 0.123, 7 pictures"
    assert text == before.format(said, table)


def test_check_compares_with_what_is_committed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path))
    monkeypatch.setattr(jobs, "stems", lambda: ["fig1_a", "fig2_b"])
    monkeypatch.setattr(committed, "committed", lambda path: "share\n0.5\n0.5\n")
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/fig1_a.csv").write_text("share\n0.505\n0.5\n")
    (tmp_path / "mini/fig2_b.csv").write_text("share\n0.9\n0.9\n")
    assert cli.main(["check"]) == 1
    told = capsys.readouterr().out
    assert "fig1_a                     agrees" in told
    assert "share: 2 of 2 cells differ, by 0.4 at the most" in told
    assert told.endswith("1 passed, 1 failed\n")


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        (lambda t: t, True),
        (lambda t: t.assign(share=t["share"] + 0.01), True),
        (lambda t: t.assign(share=t["share"] + 0.1), False),
        (lambda t: t.assign(answer=["No", *t["answer"][1:]]), True),
        (lambda t: t.assign(answer="No"), False),
        (lambda t: t.assign(layer=t["layer"] + 1), False),
        (lambda t: t.assign(share=float("nan")), False),
        (lambda t: t.drop(columns="answer"), False),
        (lambda t: t[1:], False),
    ],
)
def test_a_borderline_row_may_flip_and_a_figure_may_not(change, agrees):
    rows = range(40)
    table = pd.DataFrame({"layer": rows, "share": [i / 40 for i in rows], "answer": "Yes"})
    assert (differences(change(table), table) == []) == agrees


def test_the_command_is_installed_and_helps():
    told = subprocess.run(
        [sys.executable, "-m", "irlib", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("reproduce", "list", "explore"):
        assert command in told.stdout


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"models": "[]"}, "no model at all"),
        ({"models": '["mini-llava", "mini-llava"]'}, "several models named mini-llava"),
        ({"models": '["mini-llava"]'}, "6 rows of the paper"),
    ],
)
def test_lists_of_models_that_cannot_be_told_apart_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        jobs.plan(["table1_generalisation"], settings=settings)
