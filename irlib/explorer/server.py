"""The view on a Jupyter server of its own: one page and one socket, for who holds its token."""

import json
import os
import threading
from collections.abc import Mapping, Sequence

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, authenticated
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from irlib.explorer.page import page
from irlib.explorer.session import Session
from irlib.explorer.view import document

PLACE = "irlib"
LONGEST = 16 * 2**20  # bytes of a message: an upload in base64


class Room:
    """One session and the pages that look at it: all see the same question."""

    def __init__(self, vlm, *, layer: int | None = None):
        self.session, self.layer = Session(vlm, self.tell), layer
        self.pages, self.last, self.loop = set(), {}, None
        self._lock = threading.Lock()

    def tell(self, name: str, panel: dict) -> None:
        """Tell every page; it may be asked from any thread."""
        with self._lock:
            self.last = {"asked": panel, "status": self.last.get("status", {})} if (
                name == "asked") else self.last | {name: panel}  # fmt: skip
        if self.loop is not None:
            self.loop.add_callback(self._send, json.dumps({name: panel}, allow_nan=False))

    def greet(self, one: "Socket") -> None:
        """Take a page in, and tell it all that has been told."""
        self.loop = IOLoop.current()
        self.pages.add(one)
        with self._lock:
            one.write_message(json.dumps({"layer": self.layer, **self.last}, allow_nan=False))

    def _send(self, text: str) -> None:
        for one in list(self.pages):
            try:
                one.write_message(text)
            except WebSocketClosedError:
                self.pages.discard(one)


class Page(JupyterHandler):
    """The page, which asks its socket for everything."""

    @authenticated
    def get(self) -> None:
        """Answer with the document."""
        self.finish(page(None, title="irlib explore", connects=True))


class Socket(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """What a page asks, and what it is told."""

    max_message_size = LONGEST

    def initialize(self, room: Room) -> None:
        """Stand in this room."""
        self.room = room

    def set_default_headers(self) -> None:
        """None: those of a page make no sense here."""

    @ws_authenticated
    async def get(self) -> None:
        """Open the socket to who may run things here."""
        may = self.authorizer.is_authorized(self, self.current_user, "execute", "kernels")
        if not await ensure_async(may):
            raise HTTPError(403)
        await super().get()

    def open(self) -> None:
        """A page has come."""
        super().open()
        self.room.greet(self)

    def on_message(self, text: str | bytes) -> None:
        """A page asks for something."""
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if message == {"do": "page"}:
            try:
                self.write_message(json.dumps({"page": document(self.room.session)}))
            except ValueError as error:
                self.write_message(json.dumps({"status": {"error": str(error)}}))
        else:
            self.room.session.hear(message)

    def on_close(self) -> None:
        """A page has gone."""
        self.room.pages.discard(self)


def open_server(room: Room, arguments: Sequence[str] = ()) -> ServerApp:
    """A Jupyter server with the view at /irlib/, on this machine alone unless its own options
    (`arguments`) say otherwise; root may start it too."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    app = ServerApp.instance(ip="127.0.0.1", default_url=f"/{PLACE}/", allow_root=root)
    app.initialize([*arguments], find_extensions=False)
    base = url_path_join(app.base_url, PLACE)
    app.web_app.add_handlers(
        ".*$", [(f"{base}/?", Page), (f"{base}/socket", Socket, {"room": room})]
    )
    return app


def elsewhere(port: int, setting: Mapping[str, str]) -> str:
    """What to open where this machine is not the reader's: behind JupyterHub, in Colab; else "".

    >>> elsewhere(8888, {"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}).split(";")[0]
    'behind JupyterHub: open /user/me/proxy/8888/irlib/ of it'
    """
    here = "or call explore(vlm) in a cell of a notebook, which needs no address"
    if prefix := setting.get("JUPYTERHUB_SERVICE_PREFIX"):
        return (
            f"behind JupyterHub: open {prefix.rstrip('/')}/proxy/{port}/{PLACE}/ of it; that takes "
            f"jupyter-server-proxy there, and here --ServerApp.allow_remote_access=True; {here}"
        )
    if "COLAB_RELEASE_TAG" in setting:
        return f"in Colab: this machine's addresses cannot be reached from yours; {here}"
    return ""
