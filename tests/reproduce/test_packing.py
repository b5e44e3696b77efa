import json
import os
import platform
import zipfile

import pytest

from irlib import cli, store


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "figures/paper"
    for name in ("fig1.csv", "fig1.json", "fig1.png", "fig1.pdf", "notebooks/summary.csv"):
        store.write(folder / name, name.encode())
    store.write(folder / "notebooks/fig1.ipynb", b"{}")
    return tmp_path


def test_what_came_out_is_one_file_with_its_machine(figures, capsys):
    assert cli.main(["pack", "--profile", "paper"]) == 0
    assert capsys.readouterr().out == "packed: irlib-paper.zip\n"
    with zipfile.ZipFile(figures / "irlib-paper.zip") as packed:
        names = {name.removeprefix("irlib-paper/") for name in packed.namelist()}
        assert names == {"fig1.csv", "fig1.json", "fig1.png", "summary.csv", "machine.json"}
        assert packed.read("irlib-paper/fig1.csv") == b"fig1.csv"
        told = packed.read("irlib-paper/machine.json").decode()
    assert json.loads(told)["cores"] == os.cpu_count()
    for private in (platform.node(), str(figures), os.environ.get("HOME", "/root")):
        assert private not in told


def test_the_same_files_are_packed_to_the_same_bytes(figures):
    for name in ("a.zip", "b.zip"):
        assert cli.main(["pack", "--profile", "paper", "--out", name]) == 0
    assert (figures / "a.zip").read_bytes() == (figures / "b.zip").read_bytes()


@pytest.mark.parametrize(
    ("profile", "message"), [("smol", "found none in"), ("../x", "found no plain name")]
)
def test_a_profile_without_figures_is_told(figures, capsys, profile, message):
    assert cli.main(["pack", "--profile", profile]) == 1
    assert message in capsys.readouterr().err
