"""The package: what a wheel built from pyproject alone holds, and where an installed one writes."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from irlib import load, load_task, store
from irlib.store import places

HOME = store.root()
FOLDERS = (
    "irlib",
    "data/minis",
    "data/tasks",
    "data/held",
    "data/pairs",
    "data/paper",
    "notebooks",
)


def tracked(*places: str) -> list[str]:
    told = subprocess.run(
        ["git", "-C", str(HOME), "ls-files", "-co", "--exclude-standard", "--", *places],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode:
        pytest.skip("not a git checkout: which files are the project's is not known")
    return [name for name in told.stdout.splitlines() if (HOME / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """The names in a wheel that is built of a copy: a build leaves files beside the sources."""
    if missing := [name for name in ("pip", "setuptools") if find_spec(name) is None]:
        pytest.skip(f"a wheel is built by {' and '.join(missing)}, which is not here")
    copy, made = (tmp_path_factory.mktemp(name) for name in ("copy", "wheel"))
    for name in [*tracked(*FOLDERS), "pyproject.toml", "README.md", "LICENSE"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HOME / name, copy / name)
    order = "pip wheel --no-deps --no-build-isolation --no-index --quiet -w".split()
    subprocess.run([sys.executable, "-m", *order, str(made), str(copy)], check=True)
    (path,) = made.glob("*.whl")
    assert path.stat().st_size < 95 * 2**20  # an index takes 100
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_every_module_and_all_that_a_checkout_reads(wheel):
    wanted = [
        name
        for name in tracked("irlib")
        if name.endswith((".py", ".json", ".js", ".css", "py.typed"))
    ]
    kept = tracked("data/minis", "data/tasks", "data/held", "data/pairs", "data/paper")
    kept += [n for n in tracked("notebooks") if n.endswith((".ipynb", ".yaml"))]
    wanted += [f"irlib/bundle/{name}" for name in kept]
    inside = [name for name in wheel if ".dist-info/" not in name]
    assert sorted(inside) == sorted(wanted)


def test_pyproject_names_every_room():
    told = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {".".join(path.parent.relative_to(HOME).parts)
             for path in (HOME / "irlib").rglob("__init__.py")}  # fmt: skip
    assert {name for name in told["packages"] if "bundle" not in name} == rooms
    for name in told["package-dir"].values():
        assert (HOME / name).is_dir()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package, as `places` sees it: its bundle a link to what a checkout has."""
    package = tmp_path / "site-packages/irlib"
    (package / "bundle").mkdir(parents=True)
    (package / "bundle/data").symlink_to(HOME / "data")
    (package / "bundle/notebooks").symlink_to(HOME / "notebooks")
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(places, "PACKAGE", package)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("IRLIB_FIGURES", "IRLIB_RESULTS", "IRLIB_OUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IRLIB_CACHE", str(tmp_path / "cache"))
    return package


def test_an_installed_package_writes_into_the_cache_and_the_current_folder(installed, tmp_path):
    assert not store.checkout()
    assert store.root() == installed / "bundle"
    assert store.figures("mini") == tmp_path / "here/figures/mini"
    assert store.results() == tmp_path / "cache/results"
    assert store.added("coco") == tmp_path / "cache/coco"
    with pytest.raises(ValueError, match="found an installed package; clone the repository"):
        store.project()


def test_an_installed_package_finds_its_models_rows_and_notebooks(installed, tmp_path):
    from irlib.explorer import page
    from irlib.reproduce import copies, jobs, listing

    assert load("mini-llava").name == "mini-llava"
    assert len(load_task("pope", n=2)) == 2
    (job,) = jobs.plan(["fig3"])
    assert job.notebook.is_relative_to(installed)
    assert job.copy.is_relative_to(tmp_path / "here/figures/mini")
    assert "mini-llava" in "\n".join(listing.models())
    assert "export default" in page.script()
    assert ".ir-root" in page.style()
    assert copies.commit() == ""


def test_a_checkout_goes_on_as_before():
    assert store.checkout()
    assert store.root() == Path(places.__file__).parents[2] == store.project()
