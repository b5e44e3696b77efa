"""Executed copies of notebooks: what failed in one, and one made fit to be committed."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas as pd

from irlib import store

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def failure(notebook: Path, copy: Path, code: int, stderr: str, stale: Sequence[Path]) -> str:
    """Return what went wrong in a run, one screen long, and "" where nothing did.

    The exit code is believed first, then the copy: a cell with an error, a code cell that never
    ran (sys.exit(0) leaves such), and last the expected files that are missing or old.
    """
    cells = nbformat.read(copy, as_version=4).cells if copy.is_file() else []
    places = {cell.get("id"): i for i, cell in enumerate(_cells(notebook), start=1)}
    for cell in cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                where = f"{notebook.name}, cell {places.get(cell.get('id'), '?')}"
                return _screen(where, f"{output.ename}: {output.evalue}", cell.source, copy)
    if code:
        return _screen(notebook.name, f"its process ended with code {code}", _tail(stderr), copy)
    left = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    left = [cell for cell in left if cell.execution_count is None]
    if left:
        where = f"{notebook.name}, cell {places.get(left[0].get('id'), '?')}"
        return _screen(where, "never ran: a cell before it ended the kernel", left[0].source, copy)
    if stale:
        names = ", ".join(path.name for path in stale)
        return _screen(
            notebook.name, f"ran, but did not write {names}", f"in {stale[0].parent}", copy
        )
    return ""


def said(copy: Path) -> list[str]:
    """Return the sentences that a notebook closes with: what it shows where it saves its figure,
    and after that, as text."""
    cells = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
    saving = [i for i, cell in enumerate(cells) if "save_figure(" in cell.source]
    outputs = [output for cell in cells[saving[-1] :] for output in cell.outputs] if saving else []
    found = []
    for output in outputs:
        data = output.get("data", {})
        shown = data.get("text/markdown", "" if "image/png" in data else data.get("text/plain", ""))
        text = output.get("text", "") if output.get("name") == "stdout" else shown
        found += [line for line in text.replace("**", "").splitlines() if line.strip()]
    return found


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook as it is committed: outputs kept, traces of the run left out.

    Gone are papermill's and widgets' metadata, timings, what was written to stderr (progress) and
    the kernel's version; widgets are shown as their text.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def refresh(notebook: Path, copy: Path) -> None:
    """Put an executed copy, cleaned, in the place of the notebook it was made from."""
    text = nbformat.writes(clean(nbformat.read(copy, as_version=4)))
    store.write(notebook, text.encode())


def summarise(folder: Path, rows: Sequence[dict]) -> None:
    """Keep how each notebook went in the folder's summary.csv; rows of other notebooks stay."""
    table, path = pd.DataFrame(rows).assign(commit=commit()), folder / "summary.csv"
    if path.is_file():
        before = pd.read_csv(path)
        table = pd.concat([before[~before["stem"].isin(table["stem"])], table])
    store.write(path, table.sort_values("stem").to_csv(index=False).encode())


def commit() -> str:
    """Return the commit that is checked out, "" outside of git."""
    if not store.checkout():
        return ""
    order = ["git", "-C", str(store.root()), "rev-parse", "HEAD"]
    try:
        return subprocess.run(order, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _cells(notebook: Path) -> list:
    return nbformat.read(notebook, as_version=4).cells


def _screen(where: str, error: str, body: str, copy: Path) -> str:
    """Return a report of at most twenty lines."""
    short = _COLOUR.sub("", error).splitlines()[:6]
    lines = [f"    {line}" for line in body.splitlines()[:11]]
    return "\n".join([f"{where}", *(f"  {line}" for line in short), *lines, f"  copy: {copy}"])


def _tail(text: str) -> str:
    return "\n".join(_COLOUR.sub("", text).strip().splitlines()[-11:])
