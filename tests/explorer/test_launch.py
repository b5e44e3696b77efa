"""`irlib explore`: whose options are whose, what is refused, and the server behind its token."""

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port
from tornado.websocket import websocket_connect

from irlib import cli
from irlib.explorer import launch, server


@pytest.mark.parametrize(
    ("order", "model", "jupyters"),
    [
        ("", "mini-llava", []),
        ("mini-glm", "mini-glm", []),
        ("--model mini-glm --no-browser", "mini-glm", ["--no-browser"]),
        ("mini-glm --port 9999 --task pope", "mini-glm", ["--port", "9999"]),
        ("--port 9999 --row 2", "mini-llava", ["--port", "9999"]),
        ("m --ServerApp.base_url=/a/ --debug", "m", ["--ServerApp.base_url=/a/", "--debug"]),
    ],
)
def test_our_options_are_read_wherever_they_stand_and_the_others_are_jupyters(
    order, model, jupyters
):
    told, rest = launch.read(order.split())
    assert (told.model, rest) == (model, jupyters)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (["mini-lava"], "mini-lava"),
        (["mini-llava", "--picture", "nowhere.jpg"], "found no such file"),
        (["mini-llava", "--picture", __file__], "does not open as one"),
        (["mini-llava", "--picture", str(Path(__file__).parent)], "found no file"),
        (["mini-llava", "--layer", "12"], "whole number in 0..11"),
        (["mini-llava", "--row", "500"], "use one in 0..499"),
        (["mini-llava", "--row", "-1"], "whole number of at least 0"),
    ],
)
def test_what_cannot_be_shown_is_told_before_a_server_starts(order, error, capsys, monkeypatch):
    monkeypatch.setattr(server, "open_server", None)
    assert cli.main(["explore", *order]) == 1
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    "order",
    [
        ["a", "--model", "b"],
        ["--question", "What?"],
        ["--task", "x"],
        ["--picture", "a.png", "--task", "pope"],
        ["--picture", "a.png", "--row", "0"],
    ],
)
def test_options_that_do_not_fit_are_refused(order):
    with pytest.raises(SystemExit) as ended:
        launch.read(order)
    assert ended.value.code == 2


def test_an_empty_question_is_refused_and_not_replaced(photograph, capsys, monkeypatch):
    monkeypatch.setattr(server, "open_server", None)
    assert cli.main(["explore", "--picture", str(photograph), "--question", ""]) == 1
    assert "write a question" in capsys.readouterr().err


def test_the_server_is_opened_with_jupyters_options_and_a_first_question(monkeypatch, tmp_path):
    opened = []

    class App:
        port = 9999

        def start(self):
            opened.append("started")

    def open_server(room, arguments):
        opened.extend([room, arguments])
        return App()

    monkeypatch.setattr(server, "open_server", open_server)
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    said = []
    assert launch.launch(["mini-llava", "--no-browser", "--layer", "3"], said.append) == 0
    room, arguments, started = opened
    assert (arguments, started, room.layer) == (["--no-browser"], "started", 3)
    assert "/user/me/proxy/9999/irlib/" in said[0]
    for thread in threading.enumerate():
        if thread.name == "explorer":
            thread.join()
    assert room.last["asked"]["place"][:2] == ("textvqa", 0)
    assert room.last["strip"]["number"] == room.last["asked"]["number"]


def test_elsewhere_it_says_what_to_open():
    assert server.elsewhere(8888, {}) == ""
    assert "explore(vlm)" in server.elsewhere(8888, {"COLAB_RELEASE_TAG": "x"})


@pytest.fixture
def served(tiny_llava, sample, monkeypatch, tmp_path):
    """The app, its port and a loop in which it runs; on this machine alone."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    loop = IOLoop()
    room = server.Room(tiny_llava, layer=2)
    arguments = [
        "--no-browser",
        "--IdentityProvider.token=secret",
        f"--ServerApp.root_dir={tmp_path}",
    ]
    app = server.open_server(room, arguments)
    listens, port = bind_unused_port(address="127.0.0.1")
    http = HTTPServer(app.web_app)
    http.add_socket(listens)
    yield app, room, port, loop
    http.stop()
    app.clear_instance()
    loop.close(all_fds=False)


def test_the_server_shows_the_page_and_its_panels_to_who_holds_the_token(served, sample):
    app, room, port, loop = served
    assert app.ip == "127.0.0.1"
    assert app.default_url == "/irlib/"

    async def visit():
        def get(url):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}{url}").read().decode()

        page = await loop.run_in_executor(None, get, "/irlib/?token=secret")
        with pytest.raises(Exception, match="403"):
            await websocket_connect(f"ws://127.0.0.1:{port}/irlib/socket")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            await loop.run_in_executor(None, get, "/irlib/socket?token=wrong")
        socket = await websocket_connect(f"ws://127.0.0.1:{port}/irlib/socket?token=secret")
        told = json.loads(await socket.read_message())
        room.session.ask(lambda finder: finder.given(sample), wait=False)
        while "strip" not in told or told["status"]["busy"]:
            told |= json.loads(await socket.read_message())
        await socket.write_message("no message")
        wrong = json.loads(await socket.read_message())
        await socket.write_message(json.dumps({"do": "page"}))
        whole = json.loads(await socket.read_message())
        late = await websocket_connect(f"ws://127.0.0.1:{port}/irlib/socket?token=secret")
        again = json.loads(await late.read_message())
        return page, told, wrong, whole, again

    page, told, wrong, whole, again = loop.run_sync(visit, timeout=60)
    assert 'id="view"' in page
    assert 'told">' not in page
    assert told["layer"] == 2
    assert told["asked"]["answer"]
    assert "asked to do None" in wrong["status"]["error"]
    assert whole["page"].startswith("<!doctype html>")
    assert again["strip"] == told["strip"]
