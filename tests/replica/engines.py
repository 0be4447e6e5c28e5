"""The engines' stand-in: a proxy that ends TLS for their hosts with a test CA and answers in their shapes.

`Engines` is a context; give `proxy` and `ca` to the real clients. `mode["duckduckgo"]` and so on choose how an engine
behaves: "ok", "blocked" (403), "challenge" (a page without what a search needs), "empty" (no result for anything),
"fault" (503), "slow" (no answer), "limited" (429 with Retry-After).
"""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

HOSTS = {
    "duckduckgo.com": "duckduckgo",
    "api.openverse.org": "openverse",
    "commons.wikimedia.org": "commons",
}
NOTHING = "zqxvw"  # a word that nothing is found for


class Engines:
    """`address(query, number)` gives the address of the n-th picture for some words."""

    def __init__(self, address: Callable[[str, int], str], *, each: int = 250):
        self.address, self.each = address, each
        self.mode = dict.fromkeys(HOSTS.values(), "ok")
        self.asked: Counter[str] = Counter()
        self.seen: list[dict] = []
        self.left = 20  # Openverse's allowance
        self._folder = tempfile.TemporaryDirectory()
        self.ca = str(Path(self._folder.name) / "ca.pem")

    def __enter__(self) -> Engines:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        authority.issue_cert(*HOSTS).configure_cert(context)
        handler = type("Handler", (_Handler,), {"engines": self, "context": context})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.proxy = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def options(self) -> dict:
        """What `search_images` needs to search here."""
        return {"proxy": self.proxy, "verify": self.ca}

    def rows(self, query: str, first: int, count: int) -> list[int]:
        """Numbers of the pictures that exist for a query from place `first` on."""
        if NOTHING in query:
            return []
        return list(range(first, min(first + count, self.each)))


class _Handler(BaseHTTPRequestHandler):
    engines: Engines
    context: ssl.SSLContext
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if host not in HOSTS:
            return self.send_error(502)
        self.send_response(200, "Connection established")
        self.end_headers()
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self) -> None:
        engine = HOSTS[self.headers["Host"].partition(":")[0]]
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.engines.asked[engine] += 1
        self.engines.seen.append(
            {"engine": engine, "path": parts.path, "agent": self.headers["User-Agent"], **query}
        )
        mode = self.engines.mode[engine]
        if mode == "slow":
            time.sleep(3)
        if mode in ("blocked", "fault", "limited"):
            extra = {"Retry-After": "30"} if mode == "limited" else {}
            return self._say(
                b"<html>no", {"blocked": 403, "fault": 503, "limited": 429}[mode], "text/html", **extra
            )
        if mode == "challenge":
            return self._say(b"<html>Are you a robot?</html>", kind="text/html")
        getattr(self, f"_{engine}")(parts.path, query, mode == "empty")

    def _duckduckgo(self, path: str, query: dict, empty: bool) -> None:
        if path != "/i.js":
            return self._say(b'<html><script>vqd="4-123456789";</script></html>', kind="text/html")
        assert query["vqd"] == "4-123456789" and query["p"] == "1", query
        numbers = [] if empty else self.engines.rows(query["q"], int(query.get("s", 0)), 100)
        rows = [
            {
                "title": f"Picture {n} &amp; more", "image": self.engines.address(query["q"], n),
                "thumbnail": f"https://tse.example/th?id={n}", "url": f"https://site.example/page%20{n}",
                "height": 240, "width": 320, "source": "Bing",
            }
            for n in numbers
        ]  # fmt: skip
        self._json({"query": query["q"], "results": rows})

    def _openverse(self, path: str, query: dict, empty: bool) -> None:
        if int(query["page_size"]) > 20:
            return self._say(b'{"detail": "page_size"}', 401)
        first = (int(query["page"]) - 1) * 20
        numbers = [] if empty else self.engines.rows(query["q"], first, 20)
        rows = [
            {
                "id": f"{n:08}-0000", "title": f"Picture {n}", "url": self.engines.address(query["q"], 10_000 + n),
                "foreign_landing_url": f"https://flickr.example/{n}", "creator": "Ada & Ben", "license": "by-sa",
                "license_version": "4.0", "license_url": "https://creativecommons.org/licenses/by-sa/4.0/",
                "attribution": f'"Picture {n}" by Ada & Ben is licensed under CC BY-SA 4.0.', "width": 320,
                "height": 240, "thumbnail": f"https://api.openverse.org/v1/images/{n}/thumb/", "mature": False,
            }
            for n in numbers
        ]  # fmt: skip
        self.engines.left -= 1
        limits = {
            "X-RateLimit-Limit-anon_burst": "20/min",
            "X-RateLimit-Available-anon_burst": str(self.engines.left),
        }
        self._json({"result_count": len(numbers), "page_size": 20, "results": rows}, **limits)

    def _commons(self, path: str, query: dict, empty: bool) -> None:
        first = int(query.get("gsroffset", 0))
        words = query["gsrsearch"].removesuffix(" filetype:bitmap")
        numbers = [] if empty else self.engines.rows(words, first, 50)
        pages = [
            {
                "pageid": n, "ns": 6, "title": f"File:Picture {n}.jpg", "index": n + 1,
                "imageinfo": [{
                    "url": self.engines.address(words, 20_000 + n), "width": 320, "height": 240, "size": 9000,
                    "descriptionurl": f"https://commons.wikimedia.org/wiki/File:Picture_{n}.jpg", "mime": "image/jpeg",
                    "thumburl": f"https://upload.example/{n}/320px.jpg", "sha1": "0",
                    "extmetadata": {
                        "Artist": {"value": '<a href="//x">Grace\u00a0Hopper</a>'},
                        "LicenseShortName": {"value": "CC0" if n % 2 else "CC BY 3.0"},
                        "LicenseUrl": {"value": "https://creativecommons.org/"},
                    },
                }],
            }
            for n in numbers
        ]  # fmt: skip
        body = {"batchcomplete": True, "query": {"pages": pages}} if pages else {"batchcomplete": True}
        if pages and first + 50 < self.engines.each:
            body["continue"] = {"gsroffset": first + 50, "continue": "gsroffset||"}
        self._json(body)

    def _json(self, body: dict, **headers) -> None:
        self._say(json.dumps(body).encode(), kind="application/json", **headers)

    def _say(self, body: bytes, status: int = 200, kind: str = "application/json", **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Say nothing."""
