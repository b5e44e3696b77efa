"""The rooms of irlib stand in a line, and each foreign library has the doors it is given."""

import ast
import sys
from pathlib import Path

import pytest

import irlib

ORDER = (  # a room may import from earlier lines, and from its own where no instrument is
    "answers compare costs engines filling hooks hub originals pictures plots probe protocols"
    " provenance reader registry saving scores shapes splits store tasks verdict wording",
    "anatomy conversations families grids inputs layouts maps models pixels placement"
    " processors prompts shards shikra skeleton slopes targets vlm",
    "attention cam cliff truncation",
    "decoding prefill",
    "staircase",
    "blocks",
    "sweeps",
    "across cli copies draws jobs ledger listing planning reproduce runs widgets",
)
PLACE = {room: i for i, line in enumerate(ORDER) for room in line.split()}
DOORS = {
    "papermill": {"reproduce"},
    "ipywidgets": {"widgets"},
    "matplotlib": {"maps", "plots", "store", "widgets"},
    "transformers": {
        "anatomy",
        "families",
        "layouts",
        "models",
        "placement",
        "probe",
        "processors",
        "registry",
        "shikra",
        "skeleton",
    },
    "safetensors": {"models", "shards"},
    "datasets": {"splits"},
    "pooch": {"scores"},
    "distributed": {"engines"},
    "filelock": {"answers"},
}
TORCHLESS = set(ORDER[0].split()) - {"hooks", "probe", "registry", "saving"}
FILES = sorted(Path(irlib.__file__).parent.rglob("*.py"))


def imports(path: Path) -> set[tuple[str, ...]]:
    """Every module imported in a file, wherever in it, in its parts."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(name.name.split(".")) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(*node.module.split("."), name.name) for name in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_room_imports_only_what_stands_before_it(path):
    room = path.relative_to(Path(irlib.__file__).parent).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for module in imports(path):
        if module[0] == "irlib" and len(module) > 1 and module[1] in PLACE:
            assert PLACE[module[1]] <= PLACE[room]
            assert module[1] == room or PLACE[room] != 2 or PLACE[module[1]] < 2
        assert room in DOORS.get(module[0], {room}), f"{room} imports {module[0]}"
        assert module[0] != "torch" or room not in TORCHLESS


def test_every_room_has_its_place_in_the_line():
    rooms = {
        p.stem for p in Path(irlib.__file__).parent.glob("*") if p.suffix == ".py" or p.is_dir()
    }
    assert rooms - {"__init__", "__pycache__"} <= PLACE.keys()


def test_standard_names_are_not_shadowed():
    assert not PLACE.keys() & sys.stdlib_module_names
