"""Opens connections to hosts that workflows name. The address that is connected to is the one that was checked.

A name is resolved once, its addresses are checked, and one of those is connected to: a name server that answers
something else a moment later changes nothing. Redirects are new connections.

Proxies that the environment names (`https_proxy` and so on) are the operator's and may be anywhere. What a request asks
them for is checked by the addresses that its host has here; a host that has none here is left to the proxy.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias
from urllib.request import getproxies

from dalsegno.outgoing.reach import Reach, TargetRefused

if TYPE_CHECKING:  # slow to import, and not every service sends something
    import aiohttp
    from yarl import URL

CONNECT_S = 30.0
"""The time for a connection over HTTP, after its name is resolved."""

SILENCE_S = 3_600.0
"""A server of HTTP that sends nothing for so long is given up, whatever time the request has."""

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
AddressInfo: TypeAlias = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, Address]

_to_own_proxy: ContextVar[bool] = ContextVar("to_own_proxy", default=False)
"""Whether the connections of the current request lead to a proxy of the environment."""


def http_session(reach: Reach, connections_max: int = 0) -> aiohttp.ClientSession:
    """Return a session whose requests only reach what they may; without cookies that later requests would see.

    `connections_max`: how many it has open at once; 0: any number.
    """
    import aiohttp

    def make_socket(info: AddressInfo) -> socket.socket:
        """Return the socket that is connected to this address next. Raises TargetRefused."""
        family, kind, protocol, _, address = info
        if not (_to_own_proxy.get() or reach.admits(address[0])):
            raise TargetRefused("it")
        return socket.socket(family, kind, protocol)

    async def check_proxied(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Check what a proxy is asked for, and connect to a proxy of the environment wherever it is."""
        if request.proxy is None:
            return await send(request)
        await _check_host(reach, request.url)
        before = _to_own_proxy.set(_is_own(request.proxy, request.url.scheme))
        try:
            return await send(request)
        finally:
            _to_own_proxy.reset(before)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, socket_factory=make_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(check_proxied,),
        timeout=http_timeout(None),
        trust_env=True,
    )


def http_timeout(total_s: float | None) -> aiohttp.ClientTimeout:
    """Return the times that a request over HTTP has."""
    import aiohttp

    return aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, sock_read=SILENCE_S)


async def open_socket(reach: Reach, host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a socket that is connected to a host. Raises OSError, also for one that may not be reached."""
    failure: OSError | None = None
    async with asyncio.timeout(timeout_s):
        for family, address in await resolve(reach, host, port):
            opened = socket.socket(family, socket.SOCK_STREAM)
            opened.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(opened, address)
            except BaseException as error:
                opened.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
            else:
                return opened
    assert failure is not None, "a name has addresses"
    raise failure


async def resolve(reach: Reach, host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    """Return the addresses of a host that may be reached, the best first. Raises OSError if there is none."""
    found = await _look_up(host, port)
    admitted = [(family, address) for family, address in found if reach.admits(address[0])]
    if not admitted:
        raise TargetRefused(host)
    return admitted


async def _look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    known: list[tuple[socket.AddressFamily, Address]] = []
    for family, _, _, _, address in found:
        if isinstance(address[0], str):  # a Python without IPv6 gives numbers for its addresses
            known.append((family, address))
    return known


async def _check_host(reach: Reach, url: URL) -> None:
    """Raise TargetRefused if a host has an address here that may not be reached."""
    host = url.raw_host or ""
    try:
        found = await _look_up(host, url.port or 80)
    except OSError:
        return
    if not all(reach.admits(address[0]) for _, address in found):
        raise TargetRefused(host)


def _is_own(proxy: URL, scheme: str) -> bool:
    """Return whether the environment names this proxy for requests of this scheme."""
    from yarl import URL

    own = URL(getproxies().get(scheme, ""))
    return (own.raw_host, own.port) == (proxy.raw_host, proxy.port)
