"""Messages between the pool and its processes: a header, then bytes whose meaning depends on the kind."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from dalsegno.expressions.pool.limits import MESSAGE_BYTES

HEADER = struct.Struct(">IBH")
"""The number of bytes that follow, the kind, and by how many MiB the sender has grown (0 if it is not needed)."""
LIMITS = struct.Struct(">dI")
"""Seconds of processor time, MiB of address space."""
PIECE_BYTES = 256 * 1024
JOINED_BYTES = 16 * 1024
"""A shorter payload is sent together with its header."""


class Kind(IntEnum):
    """The kind of a message."""

    LIMITS = 1
    """To the process: the limits of its next job."""
    EVALUATE = 2
    """To the process: JSON, a list of the fields of an Evaluation."""
    CHECK = 3
    """To the process: JSON, a pair of schema and answer."""
    CALL = 4
    """To the process: the name of the function, a line end, and its argument."""
    QUESTION = 5
    """From the process: JSON, a list of name, arguments and named arguments."""
    VALUE = 6
    """In both directions, an answer or the value of a job: JSON, or the bytes of a function."""
    ERROR = 7
    """In both directions, why there is no value: text."""
    MISSING = 8
    """To the process: there is no such variable."""
    FAULT = 9
    """From the process, as an error, but without its expression."""
    UNKNOWN = 10
    """To the process: there is no answer now. It stops this job."""


class TooLong(Exception):
    """A message is longer than MESSAGE_BYTES."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: Kind
    payload: bytes
    grown_mib: int = 0


def parts_of(kind: Kind, payload: bytes, grown_mib: int = 0) -> tuple[bytes, ...]:
    """Return the message as it is sent; a long payload is not copied. Raises TooLong."""
    if len(payload) > MESSAGE_BYTES:
        raise TooLong
    header = HEADER.pack(len(payload), kind, min(grown_mib, 0xFFFF))
    return (header + payload,) if len(payload) < JOINED_BYTES else (header, payload)


class Inbox:
    """Received bytes, which become messages."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the messages that are complete with these bytes. Raises TooLong."""
        self._data += data
        while len(self._data) >= HEADER.size:
            length, kind, grown_mib = HEADER.unpack_from(self._data)
            if length > MESSAGE_BYTES:
                raise TooLong
            end = HEADER.size + length
            if len(self._data) < end:
                return
            with memoryview(self._data) as view:
                payload = bytes(view[HEADER.size : end])
            del self._data[:end]
            yield Frame(Kind(kind), payload, grown_mib)


class Channel:
    """The channel in the process, which waits for each message."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox = Inbox()
        self._arrived: list[Frame] = []

    def receive(self) -> Frame | None:
        """Return the next message; None at the end."""
        while not self._arrived:
            data = self._connection.recv(PIECE_BYTES)
            if not data:
                return None
            self._arrived.extend(self._inbox.feed(data))
        return self._arrived.pop(0)

    def send(self, kind: Kind, payload: bytes, grown_mib: int = 0) -> None:
        """Send a message. Raises TooLong."""
        for part in parts_of(kind, payload, grown_mib):
            self._connection.sendall(part)
