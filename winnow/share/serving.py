"""`winnow serve`: Voila for one notebook and for strangers, each in a kernel of their own.

What differs from plain Voila: kernels wait ready and end after the visit; their number is capped, and the
next visitor stands in line instead of the machine running out of memory; a kernel answers only the browser
that it was started for, and only to widget messages; no file of the machine can be fetched.
"""

from __future__ import annotations

import winnow.share.lighter  # noqa: F401  # the first of all imports, or it comes too late

# isort: split
import contextlib
import errno
import logging
import secrets
import socket
import sys
from pathlib import Path

from jupyter_core.utils import run_sync
from jupyter_events import EventLogger
from jupyter_server.utils import url_path_join
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.web import Application, HTTPError
from traitlets import Instance
from traitlets.config import Config
from voila.app import Voila
from voila.utils import get_voila_labextensions_path

from winnow.share.forking import Mother, install
from winnow.share.handlers import (
    STATIC,
    ExtensionFile,
    Nothing,
    StaticFile,
    TemplateFile,
    ThemeFile,
    addresses,
)
from winnow.share.kernels import (
    QUIET,
    VisitorKernels,
    fitting_visitors,
    keep_memory_small,
    memory_of_this_machine,
)

LOCAL = ("127.0.0.1", "localhost", "::1")
PORT = 8866
MEGABYTE = 1024 * 1024


class ServingError(Exception):
    """The app can't be served as asked."""


class NoSuchApp(ServingError):
    """The path is not a notebook."""


class PortTaken(ServingError):
    """Another program listens on the port that was asked for."""


def serve(
    notebook: Path | str = "app.ipynb",
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    base_url: str = "/",
    token: str | None = None,
    max_visitors: int | None = None,
    ready: int = 1,
    memory_mb: int = 700,
    idle_minutes: float = 15,
    grace_seconds: float = 120,
    log_level: str = "WARNING",
) -> None:
    """Serve `notebook` until Ctrl+C or SIGTERM.

    Every visitor gets a kernel of at most `memory_mb`; `ready` kernels are kept started. `max_visitors`: as
    many as fit this machine's memory if None. A visit ends `grace_seconds` after its browser is gone or after
    `idle_minutes` without use. `port` None: 8866, or the next free one. On another `host` than this machine's
    own address a `token` is made and printed, unless one is given; `token=""` opens the app to everybody.
    Raises `NoSuchApp` or `PortTaken`.
    """
    notebook = Path(notebook).resolve()
    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise NoSuchApp(f"{notebook.name} is not a notebook here: give the path of an app like app.ipynb.")
    keep_memory_small()
    places = max_visitors or fitting_visitors(total_mb=memory_of_this_machine())
    app = AppServer(
        config=_config(places, ready, memory_mb, idle_minutes * 60, grace_seconds),
        ip=host,
        port=find_port(host, port),
        base_url=f"/{base_url.strip('/')}/".replace("//", "/"),
        token=choose_token(host, token),
        notebook_path=str(notebook),
        open_browser=False,
        config_file_paths=[],  # a setting left in somebody's home must not open a door
        log_level=getattr(logging, log_level.upper()),
    )
    app.initialize([])
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)  # robots ask for anything
    # Jupyter counts that timeout in milliseconds and hands it to Tornado, which takes it for seconds.
    logging.getLogger("tornado.general").addFilter(lambda record: "ping_timeout" not in record.getMessage())
    app.log.addFilter(lambda record: "is not trusted" not in record.getMessage())  # its outputs aren't shown
    app.start()


def choose_token(host: str, token: str | None) -> str:
    """The token that visitors need: none on this machine's own address, else the given one or a new one."""
    if token is not None:
        return token
    return "" if host in LOCAL else secrets.token_urlsafe(16)


def find_port(host: str, port: int | None) -> int:
    """`port` if it is free, or the first free one from 8866 if None."""
    for candidate in [port] if port is not None else range(PORT, PORT + 50):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, candidate))
                return listener.getsockname()[1]
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise PortTaken(f"{host} port {candidate} can't be used: {error.strerror}.") from None
    tried = f"Port {port} is" if port is not None else f"Ports {PORT} to {PORT + 49} are"
    raise PortTaken(f"{tried} in use by another program: choose another one with --port.")


def _config(places: int, ready: int, memory_mb: int, idle: float, grace: float) -> Config:
    return Config(
        {
            "VoilaConfiguration": {
                "preheat_kernel": True,
                "default_pool_size": max(1, ready),
                "multi_kernel_manager_class": VisitorKernels,
                "file_allowlist": [],
                "file_denylist": [".*"],
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "show_tracebacks": False,
                # JupyterLab's other extensions find no JupyterLab here and fail in the visitor's browser.
                "extension_allowlist": [
                    "@voila-dashboards/widgets-manager8",
                    "@jupyter-widgets/jupyterlab-manager",
                    "anywidget",
                ],
            },
            # On Binder a Jupyter server on the same host keeps its login under Jupyter's usual name.
            "IdentityProvider": {"cookie_name": "winnow-login"},
            "VoilaExecutor": {
                "cell_error_instruction": "The app's owner finds the reason in the server's log.",
                "cell_timeout_instruction": "Please reload the page.",
            },
            "VisitorKernels": {
                "max_visitors": places,
                "memory_limit": memory_mb,
                "idle": idle,
                "grace": grace,
                "kernel_info_timeout": 20,  # every visit's objects stay that long: Jupyter's timer holds them
            },
            # A restarted kernel would be an empty one. Sockets in a private folder can't be reached by another
            # user of the machine; elsewhere temporary folders have names too long for a socket.
            "KernelManager": {
                "autorestart": False,
                "transport": "ipc" if sys.platform == "linux" else "tcp",
            },
        }
    )


class NoEvents(EventLogger):
    """Nobody listens to Jupyter's events here; a logger with its schemas for each kernel would never be freed."""

    def register_event_schema(self, schema: object) -> None:
        pass

    def emit(self, **_: object) -> None:
        pass


class AppServer(Voila):
    """Voila with Winnow's kernels, addresses and page."""

    event_logger = Instance(NoEvents, ())  # each kernel manager takes the one of its server

    def setup_template_dirs(self) -> None:
        super().setup_template_dirs()
        self.template_paths.insert(0, str(STATIC))

    def init_settings(self) -> dict:
        self.mother = None
        if sys.platform == "linux":  # fork without exec is safe there, and nowhere as cheap
            self.mother = Mother(self.connection_dir, env=QUIET)
            install(self.mother)
        settings = super().init_settings()
        settings["websocket_max_message_size"] = 16 * MEGABYTE  # the app sends photos in smaller pieces
        settings["ws_ping_interval"], settings["ws_ping_timeout"] = 20_000, 60_000  # milliseconds
        settings["default_handler_class"] = Nothing
        return settings

    def init_handlers(self) -> list:
        notebook = Path(self.notebook_path).name
        return [
            *addresses(self.server_url, self.kernel_manager, notebook),
            *self.identity_provider.get_handlers(),
            *self._packaged_files(),
            (r".*", Nothing),
        ]

    def _packaged_files(self) -> list:
        """JavaScript and CSS out of installed packages; nothing of the app's folder is among it."""
        extensions = get_voila_labextensions_path()
        themes = {
            "themes_url": "/voila/api/themes",
            "path": self.themes_dir,
            "labextensions_path": extensions,
            "no_cache_paths": ["/"],
        }
        static = {"paths": self.static_paths, "default_filename": "index.html"}
        files = [
            ("/voila/templates/(.*)", TemplateFile),
            ("/voila/static/(.*)", StaticFile, static),
            ("/voila/api/themes/(.*)", ThemeFile, themes),
            ("/voila/labextensions/(.*)", ExtensionFile, {"path": extensions, "no_cache_paths": ["/"]}),
        ]
        return [(url_path_join(self.server_url, path), *rest) for path, *rest in files]

    def listen(self) -> None:
        self.app: Application
        self.app.listen(self.port, self.ip, max_body_size=MEGABYTE)
        PeriodicCallback(self.kernel_manager.end_the_unneeded, 2000).start()
        print(f"The app is open at {self._visitors_url()} (Ctrl+C ends it).", flush=True)
        self.ioloop = IOLoop.current()
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def _visitors_url(self) -> str:
        host = socket.gethostname() if self.ip in ("", "0.0.0.0", "::") else self.ip
        query = f"?token={self.token}" if self.token else ""
        return f"http://{host}:{self.port}{self.base_url}{query}"

    def stop(self) -> None:
        with contextlib.suppress(HTTPError):  # a kernel that is just ending is unknown by then
            run_sync(self.kernel_manager.shutdown_all)(now=True)
        if self.mother:
            self.mother.stop()
        super().stop()
