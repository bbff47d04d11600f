"""An event loop and the time of a simulation: nothing happens by itself, and no clock of the machine is read."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from dalsegno.engine import clock, pulse, service
from dalsegno.engine.batches import conductor, durations, outbox
from dalsegno.engine.desk import later, library
from dalsegno.engine.executors import tokens


class Timeline:
    """The time of a simulation, in seconds, and what happens in it, in order."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.wall_shift_s = 0.0
        """By how much somebody has set the clock of the database."""
        self.extra_s = 0.0
        """What transactions and works have taken, by the clock that measures them only."""
        self.jump: Callable[[], float] = lambda: 0.0
        """Returns how long the work that is measured took."""
        self._worked_s = 0.0
        self.count = 0
        """How much has happened."""
        self._happenings: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0

    def later(self, delay_s: float, happening: Callable[[], object]) -> None:
        """Have something happen after a delay."""
        self.at(self.now_s + delay_s, happening)

    def at(self, at_s: float, happening: Callable[[], object]) -> None:
        """Have something happen at a time."""
        self._number += 1
        heapq.heappush(self._happenings, (at_s, self._number, happening))

    def run(self, until_s: float) -> None:
        """Let everything happen until then."""
        happenings = self._happenings
        while happenings and happenings[0][0] <= until_s:
            at_s, _, happening = heapq.heappop(happenings)
            self.now_s = max(self.now_s, at_s)
            self.count += 1
            happening()
        self.now_s = max(self.now_s, until_s)

    # What stands where the module `time` would.

    def time(self) -> float:
        """The clock of the database."""
        return self.now_s + self.wall_shift_s

    def monotonic(self) -> float:
        """A clock that nobody can set."""
        return self.now_s + self.extra_s

    def perf_counter(self) -> float:
        """The clock by which a batch measures its works."""
        worked_s = self.jump()
        self.extra_s += worked_s
        self._worked_s += worked_s
        return self.now_s + self.extra_s

    def thread_time(self) -> float:
        """What works have taken, without what the store took."""
        return self._worked_s

    def sleep(self, duration_s: float) -> None:
        """Everything stands still for a while."""
        self.now_s += duration_s


class _Nothing:
    """Stands where a selector would: there are no files."""

    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class SteppedLoop(asyncio.BaseEventLoop):
    """An event loop that takes a turn when the simulation says so."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s
        self._selector = _Nothing()
        # What is due now is done now, and what is due later is not: else who waits for that would look again for ever.
        self._clock_resolution = math.ulp(now_s())
        self.set_exception_handler(self._note)
        self.errors: list[str] = []
        """What nobody has handled."""
        self._tasks: list[asyncio.Task[Any]] = []
        """All tasks that there ever were: the list of asyncio has those of all loops."""

    def time(self) -> float:
        return self._now_s()

    def create_task(self, coro: Any, *, name: object = None, context: Any = None) -> asyncio.Task[Any]:
        """See BaseEventLoop."""
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        self._tasks.append(task)
        return task

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(  # type: ignore[override]  # what is called is not followed by its type
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function at once: there are no threads."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    @property
    def next_s(self) -> float | None:
        """When there is something to do; None: nothing is planned."""
        own: Any = self
        if own._ready:
            return self.time()
        while own._scheduled and own._scheduled[0]._cancelled:
            self._next_timer()
        return own._scheduled[0]._when if own._scheduled else None

    def turn(self) -> None:
        """Do what is due, and what that makes due: as the loop itself would, without a selector and a wait."""
        own: Any = self
        now_s = self.time()
        asyncio.events._set_running_loop(self)
        try:
            while True:
                while own._scheduled and own._scheduled[0]._when <= now_s:
                    own._ready.append(self._next_timer())
                if not own._ready:
                    return
                for _ in range(len(own._ready)):  # what they add has its turn after them
                    handle = own._ready.popleft()
                    if not handle._cancelled:
                        handle._run()
        finally:
            asyncio.events._set_running_loop(None)

    def _next_timer(self) -> Any:
        own: Any = self
        timer = heapq.heappop(own._scheduled)
        timer._scheduled = False
        own._timer_cancelled_count -= timer._cancelled
        return timer

    def bury(self) -> None:
        """End all tasks, and close."""
        own: Any = self
        asyncio.events._set_running_loop(self)
        try:
            for _ in range(3):
                for task in self._tasks:
                    task.cancel()
                for _ in range(10):
                    if own._ready:
                        own._run_once()
        finally:
            asyncio.events._set_running_loop(None)
            self.close()


class _Random:
    """Stands where the modules `os`, `uuid` and `secrets` would, for what is random there."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def urandom(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._chance.getrandbits(128), version=4)

    def token_hex(self, size: int) -> str:
        return self._chance.randbytes(size).hex()


@contextlib.contextmanager
def substituted(timeline: Timeline, chance: random.Random, others: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Have the engine read the time of the simulation, and draw from its generator; `others` replaces further names,
    each of a module."""
    given: dict[tuple[Any, str], Any] = {(module, "time"): timeline for module in (clock, conductor, durations, pulse)}
    source = _Random(chance)
    given.update({(module, "os"): source for module in (outbox, conductor)})
    given.update({(module, "uuid"): source for module in (later, library, service)})
    given[tokens, "secrets"] = source
    given.update(others)
    before = {place: getattr(*place) for place in given}
    try:
        for (module, name), value in given.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)
