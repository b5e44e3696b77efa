"""What a figure hangs on, read from what is imported and named: nothing of it can be forgotten."""

import shutil
from pathlib import Path

import pytest

from irlib import store
from irlib.faces import handed
from irlib.store import sources


def lay(place: Path, texts: dict[str, str]) -> Path:
    """Write files of these texts below a place, and return it."""
    for name, text in texts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def test_a_closure_is_all_that_is_imported_in_whatever_words_and_wherever(tmp_path):
    texts = {
        "__init__.py": "",
        "start.py": "import os, pack.one\nfrom pack import two, verb\nfrom pack.sub.deep import f",
        "one.py": "def f():\n    from pack.lazy import g",
        "two.py": "from . import near",
        "sub/__init__.py": "", "sub/deep.py": "from .side import h\nfrom ..up import i",
        "sub/side.py": "", "up.py": "", "near.py": "from pack import start, kept", "lazy.py": "",
        "kept.py": "import pack.behind", "behind.py": "", "unused.py": "import pack.start",
    }  # fmt: skip
    root = lay(tmp_path / "pack", texts)
    found = sources.closure(["start"], root, leave=["kept"])
    names = [path.relative_to(root).as_posix() for path in found]
    assert names == [
        *(
            "__init__.py",
            "lazy.py",
            "near.py",
            "one.py",
            "start.py",
            "sub/__init__.py",
            "sub/deep.py",
        ),
        *("sub/side.py", "two.py", "up.py"),
    ]
    with pytest.raises(FileNotFoundError, match="asked for the sources of 'stort'"):
        sources.closure(["stort"], root)


def test_the_instruments_hash_changes_with_every_file_that_answers_hang_on(tmp_path):
    here = shutil.copytree(store.root() / "irlib", tmp_path / "irlib")
    before = sources.instrument(here)
    answers = (
        "hooks/hooks",
        "hooks/probe",
        "hooks/registry",
        "inputs/",
        "models/vlm",
        "models/families",
        "interventions/staircase",
    )
    answers += ("tasks/pictures", "tasks/shades")  # what is seen of a picture
    free = ("evidence/", "cam/", "cli", "plots/", "scores/", "store/", "sweeps/", "tasks/", "plan/")
    for path in sorted(here.rglob("*.py")):
        if handed(path):
            continue  # a face: what it hands on is asked where it is defined
        source = path.read_text()
        path.write_text(source + "# edited\n")
        name = path.relative_to(here).as_posix()
        assert (sources.instrument(here) != before) or not name.startswith(answers), name
        assert (
            (sources.instrument(here) == before)
            or name.startswith(answers)
            or not (name.startswith(free))
        ), name
        path.write_text(source)


def drawn(tmp_path, code: str, beside: dict[str, str] | None = None) -> list[str]:
    """What code beside these files hangs on, in a project whose package has four modules."""
    modules = {
        "__init__.py": "", "load.py": "import pack.deep", "deep.py": "", "other.py": "",
        "store/__init__.py": "", "store/figure.py": "",
    }  # fmt: skip
    root = lay(tmp_path / "pack", modules)
    lay(tmp_path, {"data/table.csv": "a", "README.md": "a"})
    folder = lay(tmp_path / "notebooks", beside or {})
    found = sources.drawing(code, folder, package=root)
    return [path.relative_to(tmp_path).as_posix() for path in found]


WRITER = ["pack/__init__.py", "pack/store/__init__.py", "pack/store/figure.py"]
ALL = sorted([*WRITER, "pack/deep.py", "pack/load.py", "pack/other.py"])


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("x = 1", []),
        ("import pack.load", ["pack/deep.py", "pack/load.py"]),
        ("from pack import load as l", ["pack/deep.py", "pack/load.py"]),
        ("def f():\n    from pack.deep import x", ["pack/deep.py"]),
        ("import pack", ALL),
        ("from pack import *", ALL),
        ("%matplotlib inline\nimport pack.deep", ALL),
        ("read('data/table.csv')", ["data/table.csv"]),
        ("read('README.md', '/etc/passwd', '../x', 'nowhere/x.csv')", []),
    ],
)
def test_a_figure_hangs_on_what_its_code_imports_and_names(tmp_path, code, more):
    assert drawn(tmp_path, code) == sorted({*WRITER, *more})


def test_a_figure_hangs_on_what_lies_beside_its_code_with_all_that_this_imports(tmp_path):
    beside = {
        "mine.py": "import too.part\nread('data/table.csv')", "too/__init__.py": "",
        "too/part.py": "from .near import x", "too/near.py": "from pack import deep",
        "stranger.py": "", "rows.csv": "", "others.csv": "",
    }  # fmt: skip
    assert drawn(tmp_path, "import mine; read('rows.csv')", beside) == sorted([
        *WRITER, "data/table.csv", "notebooks/mine.py", "notebooks/rows.csv", "pack/deep.py",
        "notebooks/too/__init__.py", "notebooks/too/near.py", "notebooks/too/part.py",
    ])  # fmt: skip


def test_a_digest_changes_with_content_and_name_and_not_with_the_place(tmp_path):
    told = {}
    for place, name, text in [("a", "x", "1"), ("b", "x", "1"), ("a", "y", "1"), ("a", "x", "2")]:
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / name).write_text(text)
        told[place, name, text] = sources.digest([tmp_path / place / name], tmp_path / place)
    first, second, *others = told.values()
    assert first == second
    assert len({first, *others}) == 3


def test_no_figure_of_the_project_hangs_on_all_of_it():
    everything = set((store.root() / "irlib").rglob("*.py"))
    for path in (store.root() / "notebooks").glob("*.ipynb"):
        found = set(sources.drawing("\n".join(sources.code_of(path)), path.parent))
        rooms = {path.relative_to(store.root()).as_posix() for path in found}
        assert (
            set(sources.drawing("from irlib import what_is_made_later", path.parent)) >= everything
        )
        told = {*(store.root() / "data/paper").glob("*.csv"), path.parent / "claims.yaml"}
        assert found - told < everything
        assert {"irlib/models/loading.py", "irlib/store/figure.py"} <= rooms, path.name
        assert not rooms & {"irlib/cli.py", "irlib/reproduce/jobs.py", "irlib/plan/planning.py"}
        drawings = {room for room in rooms if room.startswith("irlib/plots/fig")}
        assert len(drawings) <= 2, path.name
