"""Connections of Hypercorn, with two faults mended.

When a client closes its connection, Hypercorn 0.18 keeps the socket until the time for idle connections is over, for a
task of the connection waits for that. And over HTTP/2 it does not wake the applications that wait until something is
sent: each call that was open keeps its task, and all of them the socket, until the gateway stops.
"""

from __future__ import annotations

import ssl

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol.h2 import H2Protocol

from dalsegno.rpc.credentials import ServerTls, names_in_peer

REFUSED = "refused"
"""The key in the state of a connection under which stands why no request of it is served."""


class Settings(Config):
    """The settings of Hypercorn, with our TLS."""

    def __init__(self, tls: ServerTls | None) -> None:
        """With `tls` connections use it. Raises BadCredentials."""
        super().__init__()
        self.tls = tls
        self._context = tls.context(self.alpn_protocols, self.ciphers) if tls is not None else None

    @property
    def ssl_enabled(self) -> bool:
        """Return whether connections use TLS."""
        return self.tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return the context of all connections."""
        return self._context


class Connection(TCPServer):
    """One connection. When its client has closed it, nothing waits for it any more."""

    _has_ended = False

    async def run(self) -> None:
        """Serve the connection; one whose certificate has another name than those let in gets only refusals."""
        tls, handshake = getattr(self.config, "tls", None), self.writer.get_extra_info("ssl_object")
        if tls is not None and handshake is not None:
            self.state = {**self.state, REFUSED: tls.refusal(names_in_peer(handshake))}
        await super().run()

    async def protocol_send(self, event: Event) -> None:
        """Send bytes, close the connection, or let it be idle or not."""
        if not (self._has_ended and isinstance(event, Updated)):
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        self._has_ended = True
        await self.idle_task.stop()
        if isinstance(self.protocol.protocol, H2Protocol):
            for buffer in list(self.protocol.protocol.stream_buffers.values()):
                await buffer.close()


def install() -> None:
    """Let Hypercorn use this class from now on."""
    vars(hypercorn.asyncio.run)["TCPServer"] = Connection
