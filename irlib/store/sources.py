"""Which files a number hangs on: the code that computes it, by all that this imports and names."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from irlib.faces import handed
from irlib.store.places import bundle

INSTRUMENT = (
    "models.loading",
    "interventions.staircase",
    "tasks.pictures",
    "tasks.shades",
)  # what turns a row into answers, with all that they import
HANDED = ("store", "tasks")  # else give it rows and folders, whose content is hashed itself
WRITER = "store.figure"  # of every figure
HERE = Path(__file__).parents[1]


def instrument(package: Path = HERE) -> str:
    """Return the sha256 of the sources that turn a row into answers; plots and scores are none."""
    return digest(closure(INSTRUMENT, package, leave=HANDED), package)


def ways(package: Path = HERE) -> str:
    """Return the sha256 of the sources that hide tokens otherwise than by a mask."""
    return digest(closure(["interventions.ways"], package, leave=HANDED), package)


def drawing(code: str, folder: Path, *, package: Path = HERE) -> list[Path]:
    """Return the files that compute and draw a figure by this Python code, sorted.

    They are what the code imports of the package and of the modules that lie beside it, in
    `folder`, with all that these import, the writer of figures, and the data files that one of them
    names: by their path in the project, or in the folder. All of the package where the code does
    not read as Python (a cell with a magic) or imports the package as a whole.
    """
    try:
        first = list(_asked(code, folder / "code.py", package, beside=folder))
    except SyntaxError:
        first = sorted(package.rglob("*.py"))
    found = _followed([*closure([WRITER], package), *first], package, beside=folder)
    project = bundle(package) if bundle(package).is_dir() else package.parent
    data = set(_named(code, project, folder))
    for path in found:
        data |= set(_named(path.read_text("utf-8"), project, folder))
    return sorted(found | data)


def closure(names: Iterable[str], package: Path, *, leave: Iterable[str] = ()) -> list[Path]:
    """Return the files of these modules of a package and of all of it that they import, sorted.

    Read from every import in the sources, wherever it stands, so that none can be forgotten; of
    what a room's face hands on, only the module that it comes from. Rooms in `leave` are not
    followed. Raises FileNotFoundError for a module that is not there.

    >>> [path.name for path in closure(["inputs.grids"], HERE)]
    ['areas.py', 'crops.py', 'grids.py']
    """
    first = []
    for name in names:
        files = _files(package, tuple(name.split(".")))
        if not files or name.rpartition(".")[2] not in (files[-1].stem, files[-1].parent.name):
            raise FileNotFoundError(
                f"asked for the sources of {name!r}, found no such module in {package}; name one "
                "that is there"
            )
        first += files
    return sorted(_followed(first, package, leave=leave))


def digest(files: Iterable[Path], *places: Path) -> str:
    """Return the sha256 of these files, each told by its path in the first place that holds it."""
    told = hashlib.sha256()
    for path in files:
        place = next((place for place in places if path.is_relative_to(place)), path.parent)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        told.update(f"{path.relative_to(place).as_posix()}\0{content}\n".encode())
    return told.hexdigest()


def code_of(notebook: Path) -> list[str]:
    """Return the code cells of a notebook; its outputs and its prose are no part of a number."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _followed(
    first: Iterable[Path], package: Path, *, leave: Iterable[str] = (), beside: Path | None = None
) -> set[Path]:
    """These files and all that they import."""
    found, waiting = set(), list(first)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _asked(path.read_text("utf-8"), path, package, leave=leave, beside=beside)
    return found


def _asked(
    text: str, path: Path, package: Path, *, leave: Iterable[str] = (), beside: Path | None = None
) -> Iterator[Path]:
    """The files that this source imports."""
    inside = path.is_relative_to(package)
    place = package.parent if inside else beside
    for node in _statements(text)[0]:
        for parts in _imported(node, path, place):
            if parts[0] != package.name:
                yield from _beside(parts, beside) if beside else ()
            elif len(parts) == 1 or parts[1] not in leave:
                whole = len(parts) == 1 or parts[-1] == "*"
                files = [] if whole else _files(package, tuple(parts[1:]))
                # of the package as a whole, or of a name that is not found, all may be asked later
                yield from files if files or inside else package.rglob("*.py")


def _imported(node: ast.Import | ast.ImportFrom, path: Path, place: Path) -> list[list[str]]:
    """The dotted names of an import statement in the file `path`, in their parts."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".") for alias in node.names]
    home = [*filter(None, [node.module])]
    if node.level:  # relative: counted from the file's own package
        home = [*path.relative_to(place).parts[: -node.level], *home]
    return [[*filter(None, ".".join(home).split(".")), alias.name] for alias in node.names]


def _files(package: Path, name: tuple[str, ...]) -> list[Path]:
    """Return the files behind a dotted name of a package: the module itself, the home of what a
    face hands on, all homes of a whole room; and every __init__ on the way that is no face."""
    files, place = [], package
    for i in range(len(name) + 1):
        place = package.joinpath(*name[:i])
        if i and (module := place.with_suffix(".py")).is_file():
            return [*files, module]
        if not (init := place / "__init__.py").is_file():
            break
        rest, homes = name[i:], handed(init)
        if not homes:
            files.append(init)
        elif not rest:
            asked = homes.values() if i else ()
            return files + [
                package.parent.joinpath(*h.split(".")).with_suffix(".py") for h in asked
            ]
        elif rest[0] in homes:
            home = homes[rest[0]].split(".")
            return [*files, package.parent.joinpath(*home).with_suffix(".py")]
    return files


def _beside(parts: list[str], folder: Path) -> list[Path]:
    """The files of a module that lies in the folder; none where no such module does."""
    files = []
    for i in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:i])
        if (module := place.with_suffix(".py")).is_file():
            return [*files, module]
        if (init := place / "__init__.py").is_file():
            files.append(init)
        elif not place.is_dir():
            break
    return files


def _named(text: str, project: Path, folder: Path) -> Iterator[Path]:
    """The files that a string in this source names: data/..., or what lies beside the code."""
    try:
        strings = _statements(text)[1]
    except SyntaxError:
        return
    for said in strings:
        for place in (project, folder):
            near = "/" in said if place == project else Path(said).suffix not in ("", ".ipynb")
            if near and not Path(said).is_absolute() and ".." not in Path(said).parts:
                yield from filter(Path.is_file, [place / said])


@lru_cache(maxsize=512)
def _statements(text: str) -> tuple[list[ast.Import | ast.ImportFrom], list[str]]:
    """The imports of a source, and the short strings in it."""
    nodes = list(ast.walk(ast.parse(text)))
    said = [node.value for node in nodes if isinstance(node, ast.Constant)]
    short = [s for s in said if isinstance(s, str) and 0 < len(s) < 200 and s.isprintable()]
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)], short
