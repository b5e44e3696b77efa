"""The site: nothing is missing in it, nothing comes from elsewhere, its links lead somewhere."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest

import irlib
from irlib import store
from irlib.faces import handed

ROOT = store.root()
ASKED = "is 5 < 6 | *7*?\n- a | `b` [c](d.md) {x} $y$"
TITLE = f"<title>mini-llava: {html.escape(ASKED)}</title>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make site` builds it, with one view in it."""
    for name in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(name, reason="what makes the site is not installed: irlib[site]")
    home = tmp_path_factory.mktemp("site")
    view = home / "results/site/views/mini-llava-pope.html"
    view.parent.mkdir(parents=True)
    view.write_text(f"<!doctype html>\n{TITLE}\n", encoding="utf-8")
    order = ["-q", "-W", "--keep-going", "-c", ROOT / "docs", "-d", home / "kept"]
    told = subprocess.run(
        [sys.executable, "-m", "sphinx", *order, ROOT, home / "site"],
        env=os.environ | {"IRLIB_RESULTS": str(home / "results")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")  # a warning is an error
    return home / "site"


@pytest.fixture(scope="module")
def pages(site):
    """Each page's text by its path."""
    return {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_every_page_of_the_tree_stands_in_the_contents_once():
    text = (ROOT / "docs/index.md").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith(("```", ":"))]
    listed = sorted(path for line in lines for path in found(line))
    pages = [
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/pages/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
    ]
    pages += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("data/minis/*/README.md")]
    assert listed == sorted(path for path in pages if path != ROOT / "docs/index.md")


def found(line: str) -> list[Path]:
    """The files that a line of the contents stands for; a sentence where there is none."""
    paths = [path for end in (".md", ".ipynb") for path in ROOT.glob(line + end)]
    assert paths, f"docs/index.md lists {line}, which is not there"
    return paths


def test_every_link_within_the_site_leads_to_something(site, pages):
    for path, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            parts = urlsplit(html.unescape(link))
            if parts.scheme or parts.netloc:
                continue
            aim = path if not parts.path else path.parent / unquote(parts.path)
            assert aim.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and aim.suffix == ".html":
                there = pages[aim.resolve()]
                assert f'id="{unquote(parts.fragment)}"' in there, f"{path.name}: {link}"


def test_no_page_loads_anything_from_elsewhere(site, pages):
    for path, text in pages.items():
        loads = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[^>]*>", text)
        loads += re.findall(r"<link\b[^>]*>", text)
        assert [one for one in loads if re.search(r'(src|href)="(\w+:)?//', one)] == [], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text()), path


def test_the_front_page_is_the_readme(site):
    text = (site / "index.html").read_text()
    assert text == (site / "README.html").read_text()
    assert "<h1>irlib: information flow in vision-language models" in text


def test_each_name_of_the_package_and_its_rooms_is_in_the_reference(site):
    text = (site / "docs/pages/reference.html").read_text()
    assert {n for n in irlib.__all__ if f'id="irlib.{n}"' not in text} == set()
    for face in ROOT.glob("irlib/*/__init__.py"):
        names = handed(face).keys() - set(irlib.__all__)
        room = f"irlib.{face.parent.name}"
        assert {n for n in names if f'id="{room}.{n}"' not in text} == set(), room
    assert 'id="irlib.models.VLM.answer"' in text  # methods, and an example that was run
    assert "irlib.load(" in text or "load(&quot;mini-llava&quot;)" in re.sub(
        r"</?span[^>]*>", "", text
    )


def test_each_figure_has_links_to_its_notebook_and_its_numbers(site):
    gallery = (site / "docs/pages/figures.html").read_text()
    drawn = sorted(path for name in ("mini", "smol") for path in ROOT.glob(f"figures/{name}/*.png"))
    assert drawn
    for path in drawn:
        notebook = (site / "notebooks" / f"{path.stem}.html").read_text()
        assert f"notebooks/{path.stem}.html" in gallery
        numbers = [re.findall(rf'href="[./]*(_downloads/\w+/{path.stem}.csv)"', text)
                   for text in (gallery, notebook)]  # fmt: skip
        ours = path.with_suffix(".csv").read_bytes()
        for links in numbers:
            assert ours in {(site / link).read_bytes() for link in links}, path


def test_a_notebooks_page_shows_the_pictures_that_are_committed_in_it(site):
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        drawn = [out for cell in cells for out in cell.get("outputs", ())
                 if "image/png" in out.get("data", {})]  # fmt: skip
        text = (site / "notebooks" / f"{path.stem}.html").read_text()
        assert text.count("<img") == len(drawn), path.stem


def test_the_claims_are_those_of_the_csv_files(site):
    text = html.unescape((site / "docs/pages/claims.html").read_text())
    rows = [re.sub(r"<[^>]+>", "", row) for row in re.findall(r"<tr\b.*?</tr>", text, re.S)]
    tables = [pd.read_csv(path) for path in sorted(ROOT.glob("figures/*/claims.csv"))]
    told = pd.concat(tables)
    assert len([row for row in rows if not row.strip().startswith("claim")]) == len(told)
    for row in told.itertuples():
        mine = [one for one in rows if row.id in one and row.outcome in one]
        assert mine, row.id
        if pd.notna(row.low):
            within = f"{row.value:.2f} [{row.low:.2f},\u00a0{row.high:.2f}]"
            assert any(within in one and str(int(row.units)) in one for one in mine), row.id
    assert "nan" not in " ".join(rows).lower().split()


def test_a_view_stands_in_the_gallery_as_what_is_asked_in_it_whatever_that_is(site):
    text = (site / "docs/pages/views.html").read_text()
    (line,) = re.findall(r"<li><p><a[^>]*mini-llava-pope.*?</li>", text, re.S)
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", "", line)).split())
    assert shown == "pope: " + " ".join(ASKED.split())
    assert TITLE in (site / "views/mini-llava-pope.html").read_text()
