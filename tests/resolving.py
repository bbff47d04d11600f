"""Names for tests, in place of the name service of the machine."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest


def resolve_as(patch: pytest.MonkeyPatch, *answers: dict[str, list[str]]) -> list[str]:
    """Resolve these names to these addresses, with the next answers at each question, and other names not at all.

    Addresses stand for themselves. Return the list of the names that have been asked for.
    """
    asked: list[str] = []

    async def look_up(host: str, port: int, **options: Any) -> list[Any]:
        known = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        found = known.get(host)
        if found is None:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [each for address in found for each in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)]

    patch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return asked
