"""A network door that opens to public addresses only, so that no web page makes us fetch from our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection

import httpcore
import httpx


class PrivateAddress(Exception):
    """An address on this machine or its own network; only hosts that were allowed by name are fetched from there."""


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, whose every connection (redirects too) is checked after its name was looked up.

    The check and the connection use the same numbers, so a name that changes its mind between the two gains nothing.
    """

    def __init__(self, *, allow_hosts: Collection[str] = (), verify=True, limits: httpx.Limits):
        super().__init__(verify=verify, limits=limits, trust_env=False)
        self._pool._network_backend = _GuardedBackend(self._pool._network_backend, frozenset(allow_hosts))


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Looks the name up itself and connects to the numbers that it found harmless."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, allowed: frozenset[str]):
        self._inner, self._allowed = inner, allowed

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        addresses = [host] if host in self._allowed else await self._public(host, port, timeout)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    async def _public(self, host: str, port: int, timeout: float | None) -> list[str]:
        lookup = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.wait_for(lookup, timeout)
        except asyncio.TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} could not be looked up in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} could not be looked up") from error
        addresses = list(dict.fromkeys(info[4][0] for info in found))
        if not all(is_public(address) for address in addresses):
            raise PrivateAddress(host)
        return addresses


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
