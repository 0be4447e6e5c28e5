"""A web of hosts that serve photos, and each fault that the web has, on demand.

Every port of 127.0.0.1 is a host. `/photo/7.jpg` is a photo; `/<fault>/7.jpg` shows the fault: see `FAULTS`.
`/query?id=7` needs its query string. Run as a program, it prints its ports and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from replica import photos

GOOD = (  # faults after which a photo comes all the same
    *photos.ODD, "wrongtype", "once503", "once429", "redirect", "duplicate", "late",
)  # fmt: skip
FAULTS = (
    *GOOD, *photos.BAD, "404", "403", "500", "429", "stall", "drip", "cut", "loop", "endless", "big", "noai",
    "placeholder", "inward",
)  # fmt: skip


class Replica:
    """The hosts, served by a thread; use it as a context. `requests` counts each path, `open` connections a host."""

    def __init__(self, hosts: int = 4, *, latency: tuple[float, float] = (0.0, 0.0)):
        self.latency = latency
        self.ports: list[int] = []
        self.requests: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.robots: dict[int, str] = {}
        self.most_open: Counter[int] = Counter()
        self.times: list[tuple[str, float]] = []
        self._open: Counter[int] = Counter()
        self._hosts = hosts
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Replica:
        photos.colour_photos(), photos.photo(0)  # loaded now, so that no host is slow because of it
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(self, *error) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def url(self, number: int, fault: str = "photo", *, host: int | None = None) -> str:
        """The address of photo `number`, with a fault or none."""
        port = self.ports[(number if host is None else host) % len(self.ports)]
        return f"http://127.0.0.1:{port}/{fault}/{number}.jpg"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        for _ in range(self._hosts):
            server = self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0))
            self.ports.append(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: request after request until somebody has had enough."""
        port = writer.get_extra_info("sockname")[1]
        self._open[port] += 1
        self.most_open[port] = max(self.most_open[port], self._open[port])
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), writer, port)
        except (
            asyncio.IncompleteReadError,
            ConnectionError,
            asyncio.CancelledError,
            asyncio.LimitOverrunError,
        ):
            pass
        finally:
            self._open[port] -= 1
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter, port: int) -> None:
        target = head.split(" ")[1]
        self.requests[f"{port}{target}"] += 1
        self.times.append((f"{port}{target}", time.monotonic()))
        self.agents |= {line[12:] for line in head.split("\r\n") if line.lower().startswith("user-agent: ")}
        parts = urlsplit(target)
        if parts.path == "/robots.txt":
            return await self._robots(writer, port)
        if parts.path == "/_seen":
            seen = {"requests": self.requests.total(), "most_open": max(self.most_open.values())}
            return await _send(writer, json.dumps(seen).encode(), kind="application/json")
        if parts.path == "/_forget":
            self.requests.clear()
            return await _send(writer, b"")
        await asyncio.sleep(random.uniform(*self.latency))
        if parts.path == "/query":
            number = parse_qs(parts.query).get("id", [""])[0]
            fault = "photo" if number else "404"
        else:
            fault, _, name = parts.path.strip("/").partition("/")
            number = name.removesuffix(".jpg")
        await self._show(fault, int(number or 0), target, writer, port)

    async def _robots(self, writer: asyncio.StreamWriter, port: int) -> None:
        if port in self.robots:
            return await _send(writer, self.robots[port].encode(), kind="text/plain")
        await _send(writer, b"", 404)

    async def _show(self, fault: str, number: int, target: str, writer, port: int) -> None:
        first = self.requests[f"{port}{target}"] == 1
        if fault in photos.ODD:
            await _send(writer, photos.odd_photo(fault, number))
        elif fault in photos.BAD:
            await _send(writer, photos.bad_photo(fault, number))
        elif fault in ("404", "403", "500", "429"):
            extra = {"Retry-After": "1"} if fault == "429" else {}
            await _send(writer, b"<html>no</html>", int(fault), kind="text/html", **extra)
        elif fault in ("once503", "once429") and first:
            await _send(writer, b"", int(fault[4:]), **({"Retry-After": "1"} if fault == "once429" else {}))
        elif fault in _SPECIAL:
            await _SPECIAL[fault](self, number, writer, port)
        else:
            await _send(writer, photos.photo(0 if fault == "duplicate" else number))

    async def _wrongtype(self, number, writer, port) -> None:
        await _send(writer, photos.photo(number), kind="text/html")

    async def _late(self, number, writer, port) -> None:
        await asyncio.sleep(0.4)
        await _send(writer, photos.photo(number))

    async def _redirect(self, number, writer, port) -> None:
        await _send(writer, b"", 302, Location=f"/photo/{number}.jpg?moved=1")

    async def _loop_round(self, number, writer, port) -> None:
        await _send(writer, b"", 302, Location=f"/loop/{number}.jpg")

    async def _inward(self, number, writer, port) -> None:
        await _send(writer, b"", 302, Location="http://localhost:1/admin.jpg")

    async def _noai(self, number, writer, port) -> None:
        await _send(writer, photos.photo(number), **{"X-Robots-Tag": "noindex, noai"})

    async def _placeholder(self, number, writer, port) -> None:
        await _send(writer, photos.placeholder())

    async def _stall(self, number, writer, port) -> None:
        data = photos.photo(number)
        writer.write(_head(200, len(data), "image/jpeg") + data[:1000])
        await writer.drain()
        await asyncio.sleep(600)

    async def _drip(self, number, writer, port) -> None:
        data = photos.photo(number)
        writer.write(_head(200, len(data), "image/jpeg"))
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            await writer.drain()
            await asyncio.sleep(self.drip)

    drip = 1.0  # seconds between two bytes

    async def _cut(self, number, writer, port) -> None:
        data = photos.photo(number)
        writer.write(_head(200, len(data), "image/jpeg") + data[: len(data) // 2])
        await writer.drain()
        raise ConnectionError("hung up on purpose")

    async def _endless(self, number, writer, port) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"%x\r\n%s\r\n" % (65536, b"\xff\xd8" + b"\x5a" * 65534)
        for _ in range(self.endless):
            writer.write(block)
            await writer.drain()
        raise ConnectionError("even endlessness ends, for the sake of those who would wait for it")

    endless = 1_000_000  # blocks of 64 kB

    async def _big(self, number, writer, port) -> None:
        writer.write(_head(200, 200_000_000, "image/jpeg") + photos.photo(number))
        for _ in range(3052):
            writer.write(b"\x5a" * 65536)
            await writer.drain()


_SPECIAL = {
    "wrongtype": Replica._wrongtype, "late": Replica._late, "redirect": Replica._redirect, "inward": Replica._inward,
    "noai": Replica._noai, "placeholder": Replica._placeholder, "stall": Replica._stall, "drip": Replica._drip,
    "cut": Replica._cut, "endless": Replica._endless, "big": Replica._big, "loop": Replica._loop_round,
}  # fmt: skip


def _head(status: int, length: int, kind: str, **headers) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}\r\n".encode()


async def _send(writer, data: bytes, status: int = 200, *, kind: str = "image/jpeg", **headers) -> None:
    writer.write(_head(status, len(data), kind, **headers) + data)
    await writer.drain()


def main() -> None:
    """Serve for a benchmark: options as a line of JSON on the input, ports as JSON on the output.

    `prepare` lists [fault, number]: pictures that are made before, so that nobody waits for this server's processor.
    """
    options = json.loads(sys.stdin.readline())
    for fault, number in options.get("prepare", ()):
        photos.prepare(fault, number)
    replica = Replica(options.get("hosts", 32), latency=tuple(options.get("latency", (0, 0))))
    replica.drip, replica.endless = options.get("drip", 1.0), options.get("endless", 1_000_000)
    with replica:
        print(json.dumps(replica.ports), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
