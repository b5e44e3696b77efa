"""How long a reader waits: `python -m benchmarks.explore [--runs 5] [--threads 2] [--minis NAME]`.

Of each model: from asking a row to its last panel, the maps of another word, and one step of the
layer in a browser, from the key to the drawn page (where there is a Chromium and playwright). Rows
differ from run to run; the first is not counted. Wall seconds, and the CPU's beside them: on a
machine that does other things too, only these can be compared.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command
from benchmarks.settings import Settings
from irlib import load
from irlib.explorer.session import Session
from irlib.explorer.view import document

TITLE = "The explorer: how long a reader waits"
MODELS = ("mini-llava", "smol-llava")
TARGETS = {"mini-llava": (2.0, 0.05, 1.0), "smol-llava": (8.0, 0.05, 3.0)}
WAITS = ("first answer, all panels", "a layer step in the browser", "a new word")
TASKS = ("pope", "textvqa")
STEP = """() => { const root = document.querySelector(".ir-root"), times = [];
  for (let i = 0; i < 40; i++) {
    const key = i % 16 < 8 ? "ArrowRight" : "ArrowLeft", from = performance.now();
    root.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    document.querySelector(".ir-stage canvas").getContext("2d").getImageData(0, 0, 1, 1);
    root.getBoundingClientRect();
    times.push(performance.now() - from);
  }
  return times; }"""


def measured(settings: Settings) -> list[dict]:
    """A comparison for each model: what is waited for, how long, and how long it may take."""
    return [waits(name, settings) for name in (MODELS[:1] if settings.quick else settings.minis)]


def waits(name: str, settings: Settings) -> dict:
    """The waits with one model."""
    session, rows = Session(load(name), lambda *_: None), []
    for number in range(settings.runs + 1):
        task, row = TASKS[number % len(TASKS)], number
        asked = _clocked(lambda task=task, row=row: session.ask(lambda f: f.row(task, row)))
        # the whole answer of one word is picked already: pick it as one that is not known yet
        session._picks.pop((), None)
        word = _clocked(lambda: session.hear({"do": "words", "picked": [0]}).join())
        rows.append((asked, word))
    session.ask(lambda finder: finder.row("chair", 0))
    steps, why = _steps(document(session))
    told = zip(*rows[1:], strict=True) if settings.runs else ((), ())
    asked, word = (list(one) for one in told)
    every = (asked, [(None, step / 1000) for step in steps], word)
    made = []
    for what, times, most in zip(WAITS, every, TARGETS.get(name, (None,) * 3), strict=True):
        cpu, wall = ([one[k] for one in times if one[k] is not None] for k in (0, 1))
        made.append({
            "wait": what, "wall_s": _median(wall), "cpu_s": _median(cpu), "worst_s": _most(wall),
            "at_most_s": most, "why": why if not times else "",
        })  # fmt: skip
    return {"model": name, "waits": made}


def text(told: dict) -> str:
    """The waits as a table in markdown."""
    lines = ["| model | what is waited for | median s | longest s | CPU s | at most s |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for one in told["comparisons"]:
        for wait in one["waits"]:
            values = (wait[key] for key in ("wall_s", "worst_s", "cpu_s", "at_most_s"))
            shown = ["–" if value is None else f"{value:g}" for value in values]
            what = wait["wait"] + f" ({wait['why']})" * bool(wait["why"])
            lines.append(f"| {one['model']} | {what} | {' | '.join(shown)} |")
    machine = told["machine"]
    lines += ["", f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
              f"{told['runs']} runs."]  # fmt: skip
    return "\n".join(lines)


def _clocked(run) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def _steps(page: str) -> tuple[list[float], str]:
    """Milliseconds of layer steps in a real browser, or none and the reason."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return [], "playwright is not installed"
    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        return [], "no Chromium here"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        file = Path(folder) / "view.html"
        file.write_text(page, encoding="utf-8")
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1920, "height": 1080})
        shown.goto(file.as_uri())
        shown.locator(".ir-marks circle").wait_for(state="attached")
        times = shown.evaluate(STEP)[8:]
        browser.close()
    return times, ""


def _median(values) -> float | None:
    return float(f"{statistics.median(values):.3g}") if values else None


def _most(values) -> float | None:
    return float(f"{max(values):.3g}") if values else None


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--minis" not in arguments:
        arguments += ["--minis", *MODELS]
    command.main({"explore": sys.modules["__main__"]}, arguments)
