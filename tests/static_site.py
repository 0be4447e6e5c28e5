"""A plain static host on 127.0.0.1, as free hosts are: files, types, gzip for text, nothing else. Counts its bytes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}
SQUEEZED = ("text/", "application/manifest+json", "application/json")


@dataclass
class Site:
    """A running host: its address, and what was sent so far."""

    url: str
    server: ThreadingHTTPServer
    sent: list[tuple[str, int]] = field(default_factory=list)  # path, bytes of the body as transferred
    paused: bool = False  # True: every connection is dropped, as if the host were gone

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.sent)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.server.site.paused:
            self.close_connection = True
            return
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return self.send_error(404)
        kind, data = self.guess_type(str(path)), path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "max-age=600")  # as GitHub Pages does
        if kind.startswith(SQUEEZED) and "gzip" in self.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.server.site.sent.append((self.path, len(data)))

    def log_message(self, *_args) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[Site]:
    """Serve `folder` on a free port of 127.0.0.1 until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.daemon_threads = True
    site = server.site = Site(f"http://127.0.0.1:{server.server_port}/", server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield site
    finally:
        site.stop()
