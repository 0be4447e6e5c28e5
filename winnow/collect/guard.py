"""A network door that opens to public addresses only, so that no web page makes us fetch from our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_NUMBERS = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}\.?", re.ASCII | re.IGNORECASE)


class PrivateAddress(Exception):
    """An address on this machine or its own network; only hosts that were allowed by name are fetched from there."""


class GuardedResolver(AbstractResolver):
    """Looks names up and gives only numbers that it found harmless.

    The connection is made to these very numbers, so a name that changes its mind between the check and the
    connection gains nothing. Addresses that are numbers already never come here: see `forbid_private`.
    """

    def __init__(self, allowed: Collection[str], *, seconds: float):
        self._allowed, self._seconds = frozenset(allowed), seconds
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The numbers of `host`; raises `PrivateAddress`, and `OSError` where there are none."""
        try:
            found = await asyncio.wait_for(self._inner.resolve(host, port, family), self._seconds)
        except (asyncio.TimeoutError, UnicodeError) as error:
            raise OSError(f"{host} could not be looked up") from error
        if host not in self._allowed and not all(is_public(entry["host"]) for entry in found):
            raise PrivateAddress(host)
        return found

    async def close(self) -> None:
        """Nothing is held open."""
        await self._inner.close()


def forbid_private(allowed: Collection[str]) -> aiohttp.ClientMiddlewareType:
    """A step before each request, redirects too, that refuses private addresses written as numbers."""
    names = frozenset(allowed)

    async def check(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        host = request.url.host or ""
        number = number_of(host)
        if number and host not in names and not is_public(number):
            raise PrivateAddress(host)
        return await send(request)

    return check


def number_of(host: str) -> str:
    """The IP address that `host` spells, also in the old forms (`2130706433`, `0x7f.1`); empty for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip("."))) if _NUMBERS.fullmatch(host) else ""
    except OSError:
        return ""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when it hides in an IPv6 one."""
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour or (number.teredo or (None, None))[1]
        if inner is None and number in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return number.is_global and not number.is_multicast
