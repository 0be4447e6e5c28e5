"""What a visitor's browser can ask of a served app. An address that isn't here doesn't exist."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler, FileFindHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from jupyterlab_server.themes_handler import ThemesHandler
from tornado import web
from tornado.iostream import StreamClosedError
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from winnow.share.visitors import Allowance

STATIC = Path(__file__).parent / "static"
COOKIE = "winnow-visitor"
WAIT = (
    "All places are taken right now. Leave this page open: it opens the app as soon as it is your turn, most "
    "often within a minute or two."
)


class Visitors:
    """Mixed into each handler: a visitor is a random, signed cookie that only this server can make or read."""

    def visitor(self) -> str | None:
        """The visitor that the browser's cookie names, or None."""
        cookie = self.get_signed_cookie(COOKIE)  # type: ignore[attr-defined]
        return cookie.decode() if cookie else None

    def check_visitor(self, kernel_id: str) -> None:
        """A stranger's kernel is answered like one that doesn't exist."""
        if not self.kernel_manager.belongs_to(kernel_id, self.visitor()):  # type: ignore[attr-defined]
            raise web.HTTPError(404)


class PlainErrors:
    """Mixed into handlers of files: an error is one sentence, without a traceback or the server's name."""

    def write_error(self, status_code: int, **_: Any) -> None:
        base_url = self.application.settings["base_url"]  # type: ignore[attr-defined]
        title = "Nothing is here" if status_code == 404 else "This can't be answered"
        self.finish(page(title, f'<a href="{base_url}">Open the app</a>'))  # type: ignore[attr-defined]


class Nothing(PlainErrors, web.RequestHandler):
    """Every address that isn't the app's."""

    def prepare(self) -> None:
        self.send_error(404)


class ExtensionFile(PlainErrors, FileFindHandler):
    """JavaScript of the widget packages."""


class StaticFile(PlainErrors, MultiStaticFileHandler):
    """JavaScript and CSS of Voila's page."""


class TemplateFile(PlainErrors, TemplateStaticFileHandler):
    """JavaScript and CSS of Voila's templates."""

    def parse_url_path(self, url_path: str) -> str:
        if url_path.split("/")[1:2] != ["static"] or url_path.count("/") < 2:  # template/static/name
            raise web.HTTPError(404)
        return super().parse_url_path(url_path)


class ThemeFile(PlainErrors, ThemesHandler):
    """CSS of the themes."""


class AppPage(Visitors, JupyterHandler):
    """The app: a kernel that is already running, or a place in line."""

    def initialize(self, notebook: str) -> None:
        self.notebook = notebook

    def welcome(self) -> str:
        """The visitor's name; a new browser gets one."""
        visitor = self.visitor() or secrets.token_urlsafe(16)
        secure = self.request.protocol == "https"
        options = {"path": self.base_url, "httponly": True, "samesite": "Lax", "secure": secure}
        self.set_signed_cookie(COOKIE, visitor, expires_days=1, **options)
        return visitor

    def only_this_server(self) -> str:
        """The page can talk to nobody else, whatever a widget or a package in it tries."""
        here = f"'self' ws://{self.request.host} wss://{self.request.host}"
        inline = "'unsafe-inline' 'unsafe-eval' data: blob:"  # the widget manager needs all four
        return f"default-src {here} {inline}; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"

    @web.authenticated
    async def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", self.only_this_server())
        visitor, kernels = self.welcome(), self.kernel_manager
        position = kernels.door.ask(visitor, kernels.taken)
        if position:
            self.ask_to_wait(position)
            return
        try:
            task, pieces, kernel_id = await kernels.take(self.notebook, visitor)
        except Exception:
            self.log.exception("A kernel for a visitor could not be started")
            self.set_status(500)
            self.finish(
                page("The app could not be started", "Its owner finds the reason in the server's log.")
            )
            return
        await self.send(task, pieces, kernel_id)

    def ask_to_wait(self, position: int) -> None:
        self.set_status(503)
        self.set_header("Retry-After", "5")
        self.finish(page(in_words(position), WAIT, refresh=5))

    async def send(self, task: asyncio.Task, pieces: list[str], kernel_id: str) -> None:
        """Write what is rendered already, then the rest as it comes."""
        try:
            sent = len(pieces)
            self.write("".join(pieces))
            await self.flush()
            rendered, rest = await task
            self.write("".join(rendered[sent:]))
            async for piece, _ in rest:
                self.write(piece)
                await self.flush()
        except StreamClosedError:
            await self.kernel_manager.leave(kernel_id, "the browser went away while the page was sent")
        except Exception:
            self.log.exception("The app's page could not be rendered")
            await self.kernel_manager.leave(kernel_id, "its page could not be rendered")
            self.write("<p role=alert>The app stopped while it started. Please reload the page.</p>")


class Line(Visitors, web.RequestHandler):
    """The waiting page asks here where its visitor stands; only one that it let in line gets an answer."""

    def initialize(self, kernels: Any) -> None:
        self.kernels = kernels

    def get(self) -> None:
        visitor = self.visitor()
        if visitor not in self.kernels.door.line:
            position = 0  # nobody in line: the page asks for the app, and stands in line again
        else:
            position = self.kernels.door.ask(visitor, self.kernels.taken, enter=False)
        self.set_header("Cache-Control", "no-store")
        self.write({"position": position, "title": in_words(position) if position else ""})


def in_words(position: int) -> str:
    """The waiting page's heading."""
    return "Busy: you are next" if position == 1 else f"Busy: you are number {position} in line"


class Health(web.RequestHandler):
    """For monitors: answers without a kernel and without a token, and tells nothing but counts."""

    def initialize(self, kernels: Any, notebook: str) -> None:
        self.kernels, self.notebook = kernels, notebook

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(
            {
                "status": "ok",
                "visitors": self.kernels.taken,
                "places": self.kernels.door.places,
                "waiting": self.kernels.door.waiting,
                "kernels_ready": self.kernels.ready(self.notebook),
            }
        )


class OwnKernel(Visitors, APIHandler):
    """GET tells a page whether its own kernel still lives; POST, sent by a closing page, ends it."""

    def check_xsrf_cookie(self) -> None:
        """Not needed: another site knows no kernel's id, and its browser wouldn't send the visitor's cookie."""

    @web.authenticated
    async def get(self, kernel_id: str) -> None:
        self.check_visitor(kernel_id)
        model = await ensure_async(self.kernel_manager.kernel_model(kernel_id))
        self.finish(json.dumps({key: model[key] for key in ("id", "name", "execution_state")}))

    @web.authenticated
    async def post(self, kernel_id: str) -> None:
        self.check_visitor(kernel_id)
        await self.kernel_manager.leave(kernel_id)
        self.set_status(204)
        self.finish()


class OwnSocket(Visitors, VoilaKernelWebsocketHandler):
    """The widgets' line to the visitor's own kernel. The server passes on nothing but widget messages."""

    async def pre_get(self) -> None:
        self.check_visitor(self.kernel_id)
        self.allowance = Allowance()
        await super().pre_get()

    def on_message(self, message: str | bytes) -> None:
        if not self.allowance.spend(len(message)):
            self.log.warning("A browser sent too much at once: its connection is closed.")
            self.close(1009, "Too much data at once.")
            return
        try:
            super().on_message(message)
        except Exception as error:  # only a hand-made message gets here: it must not fill the log
            self.log.warning("A malformed message was dropped: %s", type(error).__name__)

    def write_message(self, message: bytes | dict[str, Any] | str, binary: bool = False) -> Any:
        return None if is_private(message) else super().write_message(message, binary)


def is_private(message: bytes | dict[str, Any] | str) -> bool:
    """Whether a kernel's message is for the owner's log only: errors and what was printed to stderr."""
    header, content = _header_and_content(message)
    kind = header.get("msg_type")
    return kind == "error" or (kind == "stream" and content.get("name") == "stderr")


def _header_and_content(message: bytes | dict[str, Any] | str) -> tuple[dict, dict]:
    """Of a message in either websocket protocol (v1: offsets, channel, header, parent, metadata, content)."""
    try:
        if isinstance(message, bytes):
            count = int.from_bytes(message[:8], "little")
            at = [int.from_bytes(message[8 * i + 8 : 8 * i + 16], "little") for i in range(count)]
            header = json.loads(message[at[1] : at[2]])
            is_stream = header.get("msg_type") == "stream"
            return header, json.loads(message[at[4] : at[5]]) if is_stream else {}
        loaded = json.loads(message) if isinstance(message, str) else message
        return loaded.get("header") or {}, loaded.get("content") or {}
    except (ValueError, IndexError, TypeError, AttributeError):
        return {}, {}


def page(title: str, text: str, *, refresh: int = 0) -> str:
    """A small page of one sentence (busy.html); `refresh`: seconds between its questions to `Line`."""
    template = (STATIC / "busy.html").read_text(encoding="utf-8")
    return template.replace("{title}", title).replace("{text}", text).replace("{refresh}", str(refresh))


def addresses(base_url: str, kernels: Any, notebook: str) -> list[tuple]:
    """The app's own addresses, each relative to `base_url`."""
    kernel_id = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"
    return [
        (url_path_join(base_url, "/health"), Health, {"kernels": kernels, "notebook": notebook}),
        (url_path_join(base_url, "/line"), Line, {"kernels": kernels}),
        (url_path_join(base_url, f"/api/kernels/{kernel_id}"), OwnKernel),
        (url_path_join(base_url, f"/api/kernels/{kernel_id}/channels"), OwnSocket),
        (url_path_join(base_url, f"/voila/api/shutdown/{kernel_id}"), OwnKernel),
        (url_path_join(base_url, "/"), AppPage, {"notebook": notebook}),
    ]
