"""The rooms of irlib stand on floors, and each foreign library has the doors it is given."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import irlib
from irlib.faces import handed

FLOORS = (  # a room imports from lower floors and from itself, never from its own floor or above
    "faces doors",
    "hooks scores store",
    "tasks plots",
    "inputs",
    "models",
    "attention lens cam",
    "interventions",
    "sweeps",
    "evidence reproduce",
    "explorer plan",
    "cli",
    "__main__",
)
FLOOR = {room: i for i, line in enumerate(FLOORS) for room in line.split()}
DOORS = {  # the only modules that import a library
    "papermill": {"reproduce.execution", "reproduce.parameters"},
    "anywidget": {"explorer.view"},
    "jupyter_server": {"explorer.server"},
    "tornado": {"explorer.server"},
    "matplotlib": {"cam.maps", "explorer.view", "plots", "store.figure"},
    "transformers": {
        "models.assembly",
        "hooks.registry",
        "models.family",
        "models.tilings",
        "models.loading",
        "models.placement",
        "models.processors",
        "models.shikra",
        "models.reading",
        "models.sites",
        "models.substitutes",
        "plan.anatomy",
        "plan.skeleton",
    },
    "safetensors": {
        "models.assembly",
        "models.fetch",
        "models.folders",
        "models.reading",
        "models.shards",
    },
    "datasets": {"tasks.splits"},
    "pooch": {"scores.chair"},
    "nltk": {"scores.lemmas"},
    "distributed": {"sweeps.engines"},
    "filelock": {"models.fetch", "reproduce.ending", "sweeps.answers"},
    "psutil": {"models.memory", "reproduce.ending", "reproduce.packing"},
}
TORCHLESS = {"faces", "doors", "scores", "store", "tasks", "plots", "reproduce", "cli"}
HOME = Path(irlib.__file__).parent
ROOT = HOME.parent
FILES = sorted(HOME.rglob("*.py"))
FACES = [path for path in FILES if path.name == "__init__.py"]


def name_of(path: Path, above: Path = HOME) -> tuple[str, ...]:
    parts = path.relative_to(above).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path) -> set[tuple[str, ...]]:
    """Every module imported in a file, wherever in it, in its parts."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(name.name.split(".")) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(*node.module.split("."), name.name) for name in node.names}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A path that comes back to where it began, or nothing."""
    done: set[str] = set()

    def walk(at: str, path: list[str]) -> list[str]:
        if at in path:
            return [*path[path.index(at) :], at]
        if at in done:
            return []
        for to in sorted(graph.get(at, ())):
            if found := walk(to, [*path, at]):
                return found
        done.add(at)
        return []

    return next((found for start in sorted(graph) if (found := walk(start, []))), [])


def graph_of(folder: Path) -> dict[str, set[str]]:
    """Which modules of a package each of its modules imports; faces define nothing."""
    files = {name_of(path, folder.parent): path for path in folder.rglob("*.py")}
    graph = {}
    for name, path in files.items():
        if path.name == "__init__.py" and handed(path):
            continue
        asked = {module[:i] for module in imports(path) for i in range(1, len(module) + 1)}
        graph[".".join(name)] = {".".join(m) for m in asked & files.keys() if m != name}
    return graph


@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(name_of(path)) or "irlib")
def test_a_room_imports_only_what_stands_on_lower_floors(path):
    name = name_of(path)
    if not name:
        return
    room = name[0]
    for module in imports(path):
        if module[0] == "irlib" and len(module) > 1 and module[1] in FLOOR and module[1] != room:
            assert FLOOR[module[1]] < FLOOR[room], f"{room} imports {module[1]}"
        doors = DOORS.get(module[0])
        assert not doors or doors & {room, ".".join(name)}, f"{name} imports {module[0]}"
        assert module[0] != "torch" or room not in TORCHLESS


def test_every_room_has_its_floor():
    rooms = {name_of(path)[0] for path in FILES if name_of(path)} - {"__main__"}
    assert rooms == FLOOR.keys() - {"__main__"}
    assert len(rooms - {"faces", "doors"}) <= 18  # these two are what every room's entry is made of


@pytest.mark.parametrize("folder", ["irlib", "benchmarks", "data/generate"])
def test_no_module_comes_back_to_itself(folder):
    graph = graph_of(ROOT / folder)
    assert len(graph) > 5
    assert circle(graph) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.parent.name)
def test_a_face_is_short_defines_nothing_and_bears_no_name_of_what_it_hands_on(path):
    text, homes = path.read_text(), handed(path)
    assert homes
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) < 40
    assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    modules = {file.stem for file in path.parent.glob("*.py")} | {
        folder.name for folder in path.parent.iterdir() if (folder / "__init__.py").is_file()
    }
    assert not modules & homes.keys()
    __import__(".".join(("irlib", *name_of(path))))
    module = sys.modules[".".join(("irlib", *name_of(path)))]
    assert [getattr(module, name) is not None for name in module.__all__] == [True] * len(homes)
    with pytest.raises(AttributeError, match="has no 'nothing'; it has"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("room", [*sorted(FLOOR), "evidence.cliff", "sweeps.engines"])
def test_faces_load_no_torch(room):
    if room in ("attention", "lens"):
        return
    order = f"import sys, irlib.{room}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", order], check=True)


def test_standard_names_are_not_shadowed():
    assert not FLOOR.keys() & sys.stdlib_module_names
