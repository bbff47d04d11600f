"""One gateway: where it listens, its apis, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from urllib.parse import urlsplit

from hypercorn.asyncio import serve

from dalsegno.gateway import connections
from dalsegno.gateway.access import Access
from dalsegno.gateway.application import Application
from dalsegno.gateway.calls import Calls
from dalsegno.gateway.cookie_cipher import CookieCipher
from dalsegno.gateway.oidc import Oidc
from dalsegno.gateway.sessions import Sessions
from dalsegno.gateway.settings import Settings
from dalsegno.rpc.addresses import is_address
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.links import BadCredentials
from dalsegno.rpc.memory import return_when_grown
from dalsegno.rpc.options import Auth
from dalsegno.rpc.peers import Peers
from dalsegno.rpc.server import CannotListen, check_reach

CLOSING_S = 1.0
"""The time that connections have to close after the last call."""

STREAMS_MAX = 1000
"""The number of calls at once over one connection of HTTP/2."""

IDLE_S = 120.0

_log = logging.getLogger("dalsegno.gateway")


class Gateway:
    """Serves the api over HTTP. Use it within one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = Calls()
        self._apis = Peers("api", settings.apis, tls=settings.tls.calls)
        host, _, _ = settings.listen.rpartition(":")
        public = urlsplit(settings.public_origin).hostname or ""
        hosts = [each for each in (*settings.host_names, host.strip("[]"), public) if each]
        access = Access(hosts, settings.cors_origins, settings.public_origin)
        asks_tokens = settings.auth == Auth.TOKENS
        sessions = Sessions(settings.cipher or CookieCipher(), settings.public_origin) if asks_tokens else None
        self._oidc = Oidc(settings.oidc) if settings.oidc is not None else None
        self._application = Application(self._apis, self._calls, access, sessions, self._oidc)
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._memory: asyncio.Task[None] | None = None
        self.port = 0
        """The port that it listens on, after the start."""

    @property
    def scheme(self) -> str:
        """Return http or https."""
        return "https" if self._settings.tls.serves is not None else "http"

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        connections.install()
        config = self._config()
        listening = _listen(self._settings)
        self.port = listening.getsockname()[1]
        await self._apis.start()
        config.bind = [f"fd://{listening.detach()}"]
        self._serving = asyncio.create_task(serve(self._application, config, shutdown_trigger=self._stop.wait))
        self._memory = keep_running(return_when_grown, "memory")

    async def stop(self) -> None:
        """End streams, let calls end within the grace, close connections."""
        await self._calls.stop(self._settings.grace_s)
        self._stop.set()
        if self._memory is not None:
            self._memory.cancel()
        if self._serving is not None:
            # Since Python 3.12 closing a server waits for its connections, however long they take.
            await asyncio.wait([self._serving], timeout=2 * CLOSING_S)
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        if self._oidc is not None:
            self._oidc.close()
        await self._apis.stop()

    def _config(self) -> connections.Settings:
        http_log = logging.getLogger("dalsegno.gateway.http")
        http_log.setLevel(logging.WARNING)
        try:
            config = connections.Settings(self._settings.tls.serves)
        except BadCredentials as error:
            raise CannotListen(str(error)) from None
        wanted: dict[str, object] = dict(
            accesslog=None,  # calls have their own lines; a path may hold a task token
            errorlog=http_log,
            include_server_header=False,
            graceful_timeout=CLOSING_S,
            keep_alive_timeout=IDLE_S,
            # At its default the end of the thousandth request ends all others of a connection of HTTP/2.
            keep_alive_max_requests=sys.maxsize,
            h11_max_incomplete_size=connections.HEADER_BYTES,
            h2_max_header_list_size=connections.HEADER_BYTES,
            h2_max_concurrent_streams=STREAMS_MAX,
        )
        for name, value in wanted.items():
            setattr(config, name, value)
        return config


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that is bound. Raises CannotListen."""
    host, _, port = settings.listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(settings.listen) or not port.isdigit():
        raise CannotListen(f"cannot listen on {settings.listen}: it is not of the form host:port")
    asks_tokens = settings.auth == Auth.TOKENS
    check_reach(settings.listen, settings.tls.serves, insecure=settings.insecure, asks_tokens=asks_tokens)
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {settings.listen}: {error}") from None
    return listening
