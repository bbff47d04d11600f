"""The wires of the simulation: streams between executors and engines, and calls of people."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from tests.simulation.engine_life import EngineLife
from tests.simulation.stepped import Timeline

from dalsegno.v1 import executor_service_pb2 as wire


class Network:
    """How long messages take. Those of one stream arrive in order; those of several overtake each other."""

    def __init__(self, timeline: Timeline, chance: random.Random) -> None:
        self.timeline = timeline
        self._chance = chance
        self.slow_share = 0.03
        """The share of messages that take up to two seconds."""

    def delay_s(self) -> float:
        """Return how long the next message takes."""
        if self._chance.random() < self.slow_share:
            return self._chance.random() * 2.0
        return 0.0005 + self._chance.random() * 0.004

    def loses_rest(self) -> bool:
        """Return whether what was on its way when a stream broke is lost."""
        return self._chance.random() < 0.5


class Side(Protocol):
    """The executor's side of a stream."""

    def take(self, link: Link, message: wire.ConnectResponse) -> None:
        """A message has arrived."""
        ...

    def lost(self, link: Link, error: BaseException | None) -> None:
        """The stream has ended."""
        ...


class Link:
    """One stream between an executor and one life of an engine."""

    def __init__(self, network: Network, life: EngineLife, side: Side, address: int) -> None:
        self.life = life
        self.address = address
        self.engine_id = ""
        """The engine that sent Welcome."""
        self.credit = 0
        """What the executor has given and the engine has not used yet."""
        self.is_cut = False
        """Whether the executor knows that it has ended."""
        self._network = network
        self._side = side
        self._to_engine: deque[wire.ConnectRequest] = deque()
        self._arrived = asyncio.Event()
        self._last_s = {"engine": 0.0, "executor": 0.0}
        self._is_torn = False
        """Whether nothing more arrives."""
        self._task: asyncio.Task[None] | None = None
        self._task = life.spawn(self._serve())

    def peer(self) -> str:
        """See grpc.aio.ServicerContext."""
        return "ipv4:192.0.2.1:1"

    def send(self, message: wire.ConnectRequest) -> None:
        """Send a message to the engine."""
        self._deliver("engine", lambda: self._arrive(message))

    def _deliver(self, end: str, arrival: Callable[[], None]) -> None:
        timeline = self._network.timeline
        at_s = max(self._last_s[end], timeline.now_s + self._network.delay_s())
        self._last_s[end] = at_s
        timeline.at(at_s, lambda: None if self._is_torn else arrival())

    def _arrive(self, message: wire.ConnectRequest) -> None:
        self._to_engine.append(message)
        if not self.life.is_dead:
            self.life.loop.call_soon(self._arrived.set)
            self.life.wake()

    async def _requests(self) -> AsyncIterator[wire.ConnectRequest]:
        while True:
            while self._to_engine:
                yield self._to_engine.popleft()
            self._arrived.clear()
            await self._arrived.wait()

    async def _serve(self) -> None:
        context: Any = self
        ending: BaseException | None = None
        try:
            async for message in self.life.executors.Connect(self._requests(), context):
                self._deliver("executor", self._taking(message))
        except asyncio.CancelledError:
            return
        except Exception as error:
            ending = error
        self._deliver("executor", lambda: self._end(ending))

    def _taking(self, message: wire.ConnectResponse) -> Callable[[], None]:
        return lambda: None if self.is_cut else self._side.take(self, message)

    def _end(self, error: BaseException | None) -> None:
        if not self.is_cut:
            self.is_cut = True
            self._side.lost(self, error)

    def cut(self) -> None:
        """It breaks. Both ends notice it some time later; what is on its way may be lost."""
        if self._network.loses_rest():
            self._is_torn = True
        timeline = self._network.timeline
        timeline.later(self._network.delay_s(), self._cancel)
        timeline.later(self._network.delay_s(), lambda: self._end(ConnectionError("the stream broke")))

    def leave(self) -> None:
        """The executor ends it: nothing more is taken from it, from now on."""
        if not self.is_cut:
            self.is_cut = True
            self._network.timeline.later(self._network.delay_s(), self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self.life.is_dead and not self._task.done():
            self.life.loop.call_soon(self._task.cancel)
            self.life.wake()
