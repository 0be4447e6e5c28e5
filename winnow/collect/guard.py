"""A network door that opens to public addresses only, so that no web page makes us fetch from our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection

import httpcore
import httpx

POOLS = 128  # hosts whose connections are kept open


class PrivateAddress(Exception):
    """An address on this machine or its own network; only hosts that were allowed by name are fetched from there."""


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's transport, whose every connection (redirects too) is checked after its name was looked up.

    The check and the connection use the same numbers, so a name that changes its mind between the two gains nothing.
    Each host has a small pool of connections of its own: one pool for all would be searched from end to end for
    every request.
    """

    def __init__(
        self, *, allow_hosts: Collection[str] = (), verify: ssl.SSLContext | bool = True, per_host: int = 8
    ):
        self._allowed = frozenset(allow_hosts)
        self._verify = httpx.create_ssl_context() if verify is True else verify
        self._limits = httpx.Limits(
            max_connections=per_host, max_keepalive_connections=per_host, keepalive_expiry=15
        )
        self._pools: dict[tuple, httpx.AsyncHTTPTransport] = {}
        self._busy: Counter[tuple] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by its host's pool."""
        site = (request.url.scheme, request.url.host, request.url.port)
        await self._make_room()
        if site not in self._pools:
            self._pools[site] = self._new_pool()
        self._busy[site] += 1
        try:
            answer = await self._pools[site].handle_async_request(request)
        except BaseException:
            self._release(site)
            raise
        answer.stream = _Released(answer.stream, lambda: self._release(site))
        return answer

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()

    def _new_pool(self) -> httpx.AsyncHTTPTransport:
        pool = httpx.AsyncHTTPTransport(verify=self._verify, limits=self._limits, trust_env=False)
        pool._pool._network_backend = _GuardedBackend(pool._pool._network_backend, self._allowed)
        return pool

    def _release(self, site: tuple) -> None:
        self._busy[site] -= 1
        if not self._busy[site]:
            del self._busy[site]

    async def _make_room(self) -> None:
        """Close the pools of idle hosts, the oldest first, when there are many."""
        if len(self._pools) >= POOLS:
            for site in [site for site in self._pools if site not in self._busy][: POOLS // 4]:
                await self._pools.pop(site).aclose()


class _Released(httpx.AsyncByteStream):
    """A body that says when it has been read or given up."""

    def __init__(self, stream: httpx.AsyncByteStream, done: Callable[[], None]):
        self._stream, self._done = stream, done

    async def __aiter__(self):
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._done()


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
