"""Fetch one picture: within limits, politely, and with a reason when it doesn't come."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from winnow.collect.found import AGENT
from winnow.collect.guard import GuardedTransport, PrivateAddress
from winnow.collect.robots import Robots, refuses_ai

UNREACHABLE = "can't be reached"  # the kind of reason that a missing network gives to every address


@dataclass(frozen=True)
class DownloadOptions:
    """Limits and manners of a download. Times are in seconds, sizes in bytes."""

    concurrency: int = 48  # connections at once
    per_host: int = 4  # of them to one host
    total: float = 40.0  # for one file, from the first byte sent to the last received
    stall: float = 10.0  # without a byte
    connect: float = 10.0
    max_bytes: int = 30_000_000
    tries: int = 3
    backoff: float = 0.5  # before the second try; twice that before the third
    max_wait: float = 60.0  # the longest `Retry-After` that is waited for
    redirects: int = 5
    robots: bool = True  # keep to robots.txt
    noai: bool = True  # keep to X-Robots-Tag: noai
    allow_hosts: tuple[str, ...] = ()  # names whose private or loopback address may be fetched from
    proxy: str | None = None  # http://host:port; a proxy looks names up itself, so the guard can't
    verify: bool | str = True  # or the path of a CA bundle
    contact: str = ""  # your e-mail or page, for the User-Agent
    max_side: int | None = None  # pixels: larger pictures are shrunk before they are kept
    threads: int = 2  # that decode and verify


@dataclass(frozen=True)
class Fetched:
    """A file that came whole: its hash, its length, and the address that it came from in the end."""

    sha256: str
    bytes: int
    final_url: str


class Refused(Exception):
    """A picture that didn't come: the reason, and whether (and when) another try may help."""

    def __init__(self, reason: str, *, again: bool = False, wait: float | None = None):
        super().__init__(reason)
        self.again, self.wait = again, wait


class Fetcher:
    """Fetches pictures with one pool of connections; use it as an async context."""

    def __init__(self, options: DownloadOptions):
        self.options = options
        agent = f"{AGENT[:-1]}; {options.contact})" if options.contact else AGENT
        self._client = httpx.AsyncClient(
            transport=_transport(options),
            headers={"User-Agent": agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(options.stall, connect=options.connect, pool=None),
            max_redirects=options.redirects,
            trust_env=False,
        )
        self._robots = Robots(self._client, seconds=options.total)

    async def __aenter__(self) -> Fetcher:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error) -> None:
        await self._client.__aexit__(*error)

    async def fetch(self, url: str, target: Path) -> Fetched:
        """Write the bytes at `url` to `target`; raises `Refused`."""
        try:
            return await asyncio.wait_for(self._follow(url, target), self.options.total)
        except asyncio.TimeoutError:
            raise Refused(f"too slow: not there after {self.options.total:g} seconds") from None
        except PrivateAddress as error:
            raise Refused(f"private address: {error} is on this machine's own network") from None
        except httpx.TimeoutException as error:
            where = "connect" if isinstance(error, httpx.ConnectTimeout) else "send"
            raise Refused(f"too slow: it didn't {where} in time", again=True) from None
        except httpx.ConnectError as error:
            raise Refused(f"{UNREACHABLE}: {error}", again=True) from None
        except httpx.TooManyRedirects:
            raise Refused("too many redirects: it leads round in circles") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, ValueError) as error:
            raise Refused(f"bad address: {error}") from None
        except httpx.TransportError as error:
            raise Refused(f"broke off: {error or type(error).__name__}", again=True) from None

    async def crawl_delay(self, url: str) -> float:
        """Seconds that a site's robots.txt wants between two requests; none where it can't be read."""
        try:
            return await self._robots.delay(url)
        except (httpx.HTTPError, httpx.InvalidURL, PrivateAddress, asyncio.TimeoutError, ValueError):
            return 0.0  # the fetch itself will say what is wrong

    async def _follow(self, url: str, target: Path) -> Fetched:
        """Follow redirects by hand: each address is asked about, and checked, before it is fetched."""
        for _ in range(self.options.redirects + 1):
            await self._ask_leave(url)
            async with self._client.stream("GET", url) as answer:
                if answer.next_request is None:
                    self._check(answer)
                    return await self._write(answer, target)
                url = str(answer.next_request.url)
        raise Refused("too many redirects: it leads round in circles")

    async def _ask_leave(self, url: str) -> None:
        if httpx.URL(url).scheme not in ("http", "https"):
            raise Refused("bad address: only http and https are fetched")
        if self.options.robots and not await self._robots.allows(url):
            raise Refused("robots.txt forbids: the site asks programs not to fetch this")

    def _check(self, answer: httpx.Response) -> None:
        status, wait = answer.status_code, _retry_after(answer.headers)
        if status == 429 or status >= 500:
            kind = "too many requests" if status == 429 else "server fault"
            raise Refused(f"{kind}: it said {status}", again=True, wait=wait)
        if status != 200:
            kinds = {404: "not found", 410: "not found", 401: "access refused", 403: "access refused"}
            raise Refused(f"{kinds.get(status, 'no picture')}: it said {status}")
        if self.options.noai and refuses_ai(answer.headers):
            raise Refused("noai: the site asks that its pictures don't train programs")
        if int(answer.headers.get("content-length") or 0) > self.options.max_bytes:
            raise self._too_large()

    async def _write(self, answer: httpx.Response, target: Path) -> Fetched:
        """Stream to the disk, so that memory stays small whatever the server sends."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            async for chunk in answer.aiter_bytes(65536):
                if size == 0 and (what := _no_picture(chunk)):
                    raise Refused(f"not an image: {what} came instead")
                size += len(chunk)
                if size > self.options.max_bytes:
                    raise self._too_large()
                digest.update(chunk)
                file.write(chunk)
        if size == 0:
            raise Refused("empty file: the server sent no byte")
        return Fetched(digest.hexdigest(), size, str(answer.url))

    def _too_large(self) -> Refused:
        return Refused(f"too large: more than {self.options.max_bytes / 1e6:.0f} MB")


def _transport(options: DownloadOptions) -> httpx.AsyncBaseTransport:
    verify = options.verify
    if isinstance(verify, str):
        verify = ssl.create_default_context(cafile=verify)
    if options.proxy:
        limits = httpx.Limits(max_connections=options.concurrency + 16, max_keepalive_connections=None)
        return httpx.AsyncHTTPTransport(proxy=options.proxy, verify=verify, limits=limits)
    return GuardedTransport(allow_hosts=options.allow_hosts, verify=verify, per_host=options.per_host + 1)


def _no_picture(start: bytes) -> str:
    """What a body's first bytes give away, whatever its name and declared type say; empty if it may be a picture."""
    head = start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in head:
        return "a drawing (SVG)"
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script", b"<!--")):
        return "a web page"
    if head.startswith((b"{", b"[{")):
        return "data (JSON)"
    return "a PDF" if head.startswith(b"%pdf") else ""


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that `Retry-After` asks for, given as a number or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
