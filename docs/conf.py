"""The site, as sphinx reads it: README, docs and notebooks as they lie in the tree, and pages/,
templates filled with what is known of figures, claims, views and rooms. Nothing is executed.
"""

import html
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import jinja2
import pandas as pd
from sphinx.application import Sphinx

import irlib
from irlib import store
from irlib.reproduce.committed import JUDGED

ROOT = Path(__file__).parents[1]
VIEWS = store.results() / "site"  # what docs/views.py saves

project, release, language = "irlib", irlib.__version__, "en"
root_doc = "README"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/pages/*.md",
    "notebooks/*.ipynb", "data/minis/**/README.md",
]  # fmt: skip
exclude_patterns = [".venv", "site", "docs/index.md"]  # the last is the front page's second half
default_role = "code"

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # they would come from the net
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 80

html_theme, html_title = "furo", "irlib"
html_copy_source = html_show_sphinx = False
html_show_copyright = False
html_static_path, html_css_files = ["static"], ["site.css"]
html_extra_path = [str(VIEWS)] if VIEWS.is_dir() else []


def figures() -> Iterator[dict]:
    """Yield each notebook that draws, with its title and the files it has in each profile."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"), key=_number):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].lstrip("# ")
        homes = [p for p in JUDGED if (ROOT / "figures" / p / f"{path.stem}.png").is_file()]
        yield {"stem": path.stem, "title": title, "profiles": homes}


def _number(path: Path) -> tuple:
    """Figures by their number, then tables, then the rest."""
    found = re.match(r"fig(\d+)", path.stem)
    return (int(found[1]) if found else 1000, not path.stem.startswith("table"), path.stem)


def claims() -> Iterator[dict]:
    """Yield each judged model with its claims as cells of a table."""
    for profile in JUDGED:
        path = ROOT / "figures" / profile / "claims.csv"
        if path.is_file():
            table = pd.read_csv(path, dtype={"units": "Int64"})
            table["part"] = table["part"].fillna("")
            rows = [{**row, "measured": pd.notna(row["low"])} for row in table.to_dict("records")]
            yield {"profile": profile, "model": table["model"].iloc[0], "rows": rows}


def views() -> dict[str, list[dict]]:
    """Return the saved views of each model, with what is asked in them."""
    found = {}
    for path in sorted(VIEWS.glob("views/*.html")):
        title = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), re.S)[1]
        model, _, asked = html.unescape(title).partition(": ")
        task = path.stem.rpartition("-")[2]
        found.setdefault(model, []).append({"file": path.name, "task": task, "asked": asked})
    return found


def rooms() -> Iterator[dict]:
    """Yield the package and its rooms, each with the names that it hands on and what they are."""
    paths = sorted((ROOT / "irlib").glob("*/__init__.py"))
    for name in ["irlib", *(f"irlib.{path.parent.name}" for path in paths)]:
        room = import_module(name)
        names = [(one, _kind(getattr(room, one))) for one in sorted(room.__all__, key=str.lower)]
        own = [pair for pair in names if name == "irlib" or pair[0] not in irlib.__all__]
        shared = [one for one, _ in names if name != "irlib" and one in irlib.__all__]
        says = inspect.cleandoc(room.__doc__)
        yield {"name": name, "says": says, "names": own, "public": shared}


def _kind(thing: object) -> str:
    """The directive that documents it; a constant has no docstring of its own."""
    called = "autoclass" if inspect.isclass(thing) else "autofunction"
    return called if callable(thing) else "py:data"


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Fill a template; end the front page with the contents and a notebook with its files."""
    if name.startswith("docs/pages/"):
        source[0] = template(source[0], figures=figures, claims=claims, views=views, rooms=rooms)
    elif name == root_doc:
        text = re.sub(r"\]\(figures/\w+\)", "](docs/pages/figures.md)", source[0])  # a folder
        source[0] = f"{text}\n{(ROOT / 'docs/index.md').read_text(encoding='utf-8')}"
    elif name.startswith("notebooks/"):
        (one,) = (one for one in figures() if name == f"notebooks/{one['stem']}")
        lower = re.compile(r"(?<=\]\()[^)\s]*#[^)\s]+")  # Jupyter keeps a heading's capitals
        book = json.loads(lower.sub(_anchor, source[0]))
        text = template(FILES, **one)
        book["cells"].append(
            {"cell_type": "markdown", "id": "files", "metadata": {}, "source": text}
        )
        source[0] = json.dumps(book)


def _anchor(link: re.Match) -> str:
    """A link to a heading of a notebook as these pages spell it, any other as it is."""
    page, _, heading = link[0].partition("#")
    ours = not page or page.endswith(".ipynb")
    return f"{page}#{heading.lower()}" if ours else link[0]


FILES = """\
{% for p in profiles %}
**As committed**, {{ p }}: [picture](../figures/{{ p }}/{{ stem }}.png),
[its numbers](../figures/{{ p }}/{{ stem }}.csv) (csv),
[what made them](../figures/{{ p }}/{{ stem }}.json) (json)

{% endfor %}
"""


def template(text: str, **told: object) -> str:
    """Return a template with what it asks for; `| said` makes any text a line without markup."""
    room = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    room.filters["said"] = lambda text: re.sub(r"([!-/:-@[-`{-~])", r"\\\1", " ".join(text.split()))
    return room.from_string(text).render(told)


def front(app: Sphinx, wrong: Exception | None) -> None:
    """Let the front page be found under the name that servers look for."""
    if wrong is None:
        shutil.copyfile(app.outdir / "README.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    app.connect("source-read", fill)
    app.connect("build-finished", front)
