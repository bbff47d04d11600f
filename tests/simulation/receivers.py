"""Who hears of executions, as the simulation plays it: an api that follows the feed of an engine, and the receivers of
webhooks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation.engine_life import EngineLife

from dalsegno.store.store import Store
from dalsegno.v1 import engine_service_pb2 as wire


@dataclass(frozen=True)
class _Answer:
    """The answer of a receiver."""

    status: int
    reason: str = ""


class Receivers:
    """Stand where the session of HTTP calls would: some answers are errors, and some come late or never."""

    def __init__(self, chance: random.Random) -> None:
        self.is_calm = False
        """Whether every receiver takes everything now."""
        self.taken: set[str] = set()
        """The ids of the notices that were taken."""
        self._chance = chance

    @asynccontextmanager
    async def post(self, url: str, *, data: bytes, headers: dict[str, str], **others: Any) -> AsyncIterator[_Answer]:
        """See aiohttp.ClientSession."""
        await asyncio.sleep(self._chance.choice([0.0, 0.01, 0.5]))
        what = "taken" if self.is_calm else self._chance.choice(["taken"] * 8 + ["refused", "lost", "answer lost"])
        if what in ("taken", "answer lost"):
            self.taken.add(headers["dalsegno-notice"])
        if what in ("lost", "answer lost"):
            raise ConnectionError("the connection was lost")
        yield _Answer(200 if what == "taken" else 503, "Service Unavailable")

    async def close(self) -> None:
        """See aiohttp.ClientSession."""


async def follow(life: EngineLife, store: Store, wrong: list[str]) -> None:
    """Follow the feed of an engine, as an api does: each hint is about what is stored."""
    context: Any = None
    try:
        async for message in life.desk.Follow(wire.FollowRequest(), context):
            with store.read() as queries:
                standings = queries.standings([each.execution_id for each in message.hints])
            for each in message.hints:
                revision, _ = standings.get(each.execution_id, (each.revision, False))
                if each.revision > revision:
                    wrong.append(
                        f"{life.name} tells of revision {each.revision} of {each.execution_id} before it is stored"
                    )
    except asyncio.CancelledError:
        return
