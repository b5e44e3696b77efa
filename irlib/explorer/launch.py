"""`irlib explore`: the view in the browser, with a first question answered."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from irlib import doors
from irlib.tasks.protocols import TASKS

if TYPE_CHECKING:
    from irlib.explorer.finding import Found

QUESTION = "What is in the picture?"


def read(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that are ours, wherever they stand, and those that are Jupyter's, in their order.

    >>> read(["mini-glm", "--port", "9999", "--task", "pope", "--no-browser"])[1]
    ['--port', '9999', '--no-browser']
    """
    parser = argparse.ArgumentParser(
        prog="irlib explore", allow_abbrev=False,
        usage="irlib explore [MODEL] [options] [Jupyter's options]",
        description="Ask a model about a picture; see where and how deep its answer comes from.",
        epilog="All other options are a Jupyter server's: --no-browser, --port=8888, --ip=..., "
        "--ServerApp.base_url=...",
    )  # fmt: skip
    parser.add_argument("--model", metavar="MODEL", help="bundled name, local folder or hub id")
    parser.add_argument("--picture", metavar="FILE", help="a picture of your own to begin with")
    parser.add_argument("--question", metavar="TEXT", help=f"about it; else {QUESTION!r}")
    parser.add_argument(
        "--task", choices=list(TASKS), help="else one of its rows; textvqa if not told"
    )
    parser.add_argument("--row", type=int, metavar="N", help="which of them, from 0")
    parser.add_argument("--layer", type=int, metavar="L", help="first layer shown, from 0")
    named = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    told, jupyters = parser.parse_known_args(list(arguments[len(named) :]))
    if named and told.model:
        parser.error(f"two models are named: {named[0]} and {told.model}")
    if told.question is not None and told.picture is None:
        parser.error("--question is about a picture: give --picture too")
    if told.picture is not None and (told.task, told.row) != (None, None):
        parser.error("--task and --row are about the tasks' pictures: leave --picture out, or them")
    told.model = (named or [told.model or "mini-llava"])[0]
    return told, jupyters


def launch(arguments: Sequence[str], say: Callable[[str], object]) -> int:
    """Load the model, ask the first question and serve the view until it is ended.

    Raises ValueError and OSError where there is no such model, picture, row or layer.
    """
    told, jupyters = read(arguments)
    from irlib.explorer.server import Room, elsewhere, open_server  # `--help` does without
    from irlib.models.loading import load

    found = _found(told)
    vlm = load(told.model)
    if told.layer is not None:
        doors.count("--layer", told.layer, most=vlm.n_layers - 1)
    room = Room(vlm, layer=told.layer)
    app = open_server(room, jupyters)
    room.session.ask(lambda finder: found, wait=False)
    if where := elsewhere(app.port, os.environ):
        say(where)
    app.start()
    return 0


def _found(told: argparse.Namespace) -> "Found":
    """What is asked first."""
    from irlib.explorer.finding import Finder  # `--help` does without

    finder = Finder()
    if told.picture is not None:
        path = doors.path("--picture", told.picture).absolute()
        question = QUESTION if told.question is None else told.question
        return finder.own({"path": str(path), "question": question})
    row = doors.count("--row", told.row or 0)
    found = finder.row(told.task or "textvqa", row)
    if found.place[1] != row:
        task, _, rows = found.place
        raise ValueError(
            f"asked for row {row} of {task}, found {rows}; use one in 0..{rows - 1}, counted from 0"
        )
    return found
