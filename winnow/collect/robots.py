"""What a site asks of robots: its robots.txt (RFC 9309) and its `X-Robots-Tag: noai`."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from protego import Protego

from winnow.collect.address import address_of

NAME = "winnow-images"  # the token that a robots.txt may name
MAX_BYTES = 500_000  # what RFC 9309 asks to be read
SITES = 5000  # whose rules are remembered
FORGET = 5  # seconds that a failure to read robots.txt is remembered
EVERYTHING, NOTHING = Protego.parse(""), Protego.parse("User-agent: *\nDisallow: /")


class Robots:
    """The rules of each site, asked for once."""

    def __init__(self, session: aiohttp.ClientSession, *, seconds: float):
        self._session, self._seconds = session, seconds
        self._rules: dict[str, asyncio.Task[Protego]] = {}

    async def allows(self, url: str) -> bool:
        """Whether the site lets us fetch `url`; raises aiohttp's errors if the site can't be reached."""
        return (await self._of(url)).can_fetch(url, NAME)

    async def delay(self, url: str) -> float:
        """Seconds that the site wants between two requests."""
        return (await self._of(url)).crawl_delay(NAME) or 0.0

    async def _of(self, url: str) -> Protego:
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self._rules:
            if len(self._rules) >= SITES:
                self._rules.pop(next(iter(self._rules)))
            self._rules[site] = asyncio.ensure_future(asyncio.wait_for(self._ask(site), self._seconds))
            self._rules[site].add_done_callback(lambda task: self._forget_failure(site, task))
        return await asyncio.shield(self._rules[site])

    def _forget_failure(self, site: str, task: asyncio.Task) -> None:
        """Ask again after a while where nothing was learned; until then all that wait share the failure."""
        if task.cancelled() or task.exception():
            asyncio.get_running_loop().call_later(FORGET, self._rules.pop, site, None)

    async def _ask(self, site: str) -> Protego:
        """A site without the file allows everything; one whose server is at fault, nothing (RFC 9309, 2.3.1)."""
        async with self._session.get(address_of(f"{site}/robots.txt"), max_redirects=5) as answer:
            if answer.status >= 500 or answer.status == 429:
                return NOTHING
            if answer.status != 200:
                return EVERYTHING
            text = b""
            async for chunk in answer.content.iter_any():
                text += chunk
                if len(text) > MAX_BYTES:
                    break
        return Protego.parse(text[:MAX_BYTES].decode("utf-8", "replace"))


def refuses_ai(headers: CIMultiDictProxy[str]) -> bool:
    """Whether `X-Robots-Tag` says noai or noimageai, to everybody or to us by name."""
    for value in headers.getall("X-Robots-Tag", []):
        agent, colon, rules = value.rpartition(":")
        if colon and agent.strip().lower() not in ("", "*", NAME):
            continue
        if {"noai", "noimageai"} & {rule.strip().lower() for rule in rules.split(",")}:
            return True
    return False
