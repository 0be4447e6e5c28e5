"""Fetch one picture: within limits, politely, and with a reason when it doesn't come."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
from multidict import CIMultiDictProxy

from winnow.collect.address import address_of
from winnow.collect.found import AGENT
from winnow.collect.guard import GuardedResolver, PrivateAddress, forbid_private
from winnow.collect.robots import Robots, refuses_ai

UNREACHABLE = "can't be reached"  # the kind of reason that a missing network gives to every address
REDIRECTS = (301, 302, 303, 307, 308)
KEEP = 3.0  # seconds that an idle connection stays open: a busy host is asked again at once, thousands must not stay


@dataclass(frozen=True)
class DownloadOptions:
    """Limits and manners of a download. Times are in seconds, sizes in bytes."""

    concurrency: int = 64  # connections at once
    per_host: int = 4  # of them to one host
    total: float = 40.0  # for one file, from the first byte sent to the last received
    stall: float = 10.0  # without a byte
    connect: float = 10.0
    max_bytes: int = 30_000_000
    tries: int = 3
    backoff: float = 0.3  # before the second try; twice that before the third
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

    async def __aenter__(self) -> Fetcher:
        self._session = _session(self.options)
        self._robots = Robots(self._session, seconds=self.options.total)
        return self

    async def __aexit__(self, *error) -> None:
        await self._session.close()

    async def fetch(self, url: str, target: Path) -> Fetched:
        """Write the bytes at `url` to `target`; raises `Refused`."""
        try:
            return await asyncio.wait_for(self._follow(url, target), self.options.total)
        except PrivateAddress as error:
            raise Refused(f"private address: {error} is on this machine's own network") from None
        except aiohttp.ServerTimeoutError as error:
            where = "connect" if isinstance(error, aiohttp.ConnectionTimeoutError) else "send"
            raise Refused(f"too slow: it didn't {where} in time", again=True) from None
        except asyncio.TimeoutError:
            raise Refused(f"too slow: not there after {self.options.total:g} seconds") from None
        except aiohttp.ClientConnectorError as error:
            raise Refused(f"{UNREACHABLE}: {error}", again=True) from None
        except aiohttp.TooManyRedirects:
            raise Refused("too many redirects: it leads round in circles") from None
        except ValueError as error:  # aiohttp's InvalidURL is one too
            raise Refused(f"bad address: {error}") from None
        except aiohttp.ClientError as error:
            raise Refused(f"broke off: {error or type(error).__name__}", again=True) from None

    async def crawl_delay(self, url: str) -> float:
        """Seconds that a site's robots.txt wants between two requests; none where it can't be read."""
        try:
            return await self._robots.delay(url)
        except (aiohttp.ClientError, PrivateAddress, asyncio.TimeoutError, ValueError):
            return 0.0  # the fetch itself will say what is wrong

    async def _follow(self, url: str, target: Path) -> Fetched:
        """Follow redirects by hand: each address is asked about, and checked, before it is fetched."""
        address = address_of(url)
        for _ in range(self.options.redirects + 1):
            if self.options.robots and not await self._robots.allows(str(address)):
                raise Refused("robots.txt forbids: the site asks programs not to fetch this")
            async with self._session.get(address, allow_redirects=False) as answer:
                onward = answer.headers.get("Location") if answer.status in REDIRECTS else None
                if onward is None:
                    self._check(answer)
                    return await self._write(answer, target)
            address = address_of(urljoin(str(address), onward))
        raise Refused("too many redirects: it leads round in circles")

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        status, wait = answer.status, _retry_after(answer.headers)
        if status == 429 or status >= 500:
            kind = "too many requests" if status == 429 else "server fault"
            raise Refused(f"{kind}: it said {status}", again=True, wait=wait)
        if status != 200:
            kinds = {404: "not found", 410: "not found", 401: "access refused", 403: "access refused"}
            raise Refused(f"{kinds.get(status, 'no picture')}: it said {status}")
        if self.options.noai and refuses_ai(answer.headers):
            raise Refused("noai: the site asks that its pictures don't train programs")
        if (answer.content_length or 0) > self.options.max_bytes:
            raise self._too_large()

    async def _write(self, answer: aiohttp.ClientResponse, target: Path) -> Fetched:
        """Stream to the disk, so that memory stays small whatever the server sends."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            async for chunk in answer.content.iter_any():
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


def _session(options: DownloadOptions) -> aiohttp.ClientSession:
    """A session that keeps no cookie, follows no environment variable and reaches no private address."""
    agent = f"{AGENT[:-1]}; {options.contact})" if options.contact else AGENT
    verify = options.verify
    if isinstance(verify, str):
        verify = ssl.create_default_context(cafile=verify)
    guard = (
        {} if options.proxy else {"resolver": GuardedResolver(options.allow_hosts, seconds=options.connect)}
    )
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, limit_per_host=options.per_host + 1, keepalive_timeout=KEEP, ssl=verify, **guard
        ),
        headers={"User-Agent": agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect, sock_read=options.stall),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=() if options.proxy else (forbid_private(options.allow_hosts),),
        proxy=options.proxy,
        trust_env=False,
        max_line_size=65536,
        max_field_size=65536,
    )  # fmt: skip


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


def _retry_after(headers: CIMultiDictProxy[str]) -> float | None:
    """Seconds that `Retry-After` asks for, given as a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
