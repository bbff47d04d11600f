"""Engines that listen, and executors that work for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.executor.scripted import Engine, Executor, MakeExecutor

from dalsegno.actions.registry import AnyAction, Registry, load_registry
from dalsegno.executor.metrics import Metrics
from dalsegno.executor.session import Session


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine that listens."""
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def other_engine() -> AsyncIterator[Engine]:
    """A second engine."""
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def make_executor(engine: Engine) -> AsyncIterator[MakeExecutor]:
    """Makes an executor with the built-in actions and these; it works for the engine and any others given."""
    made: list[Executor] = []

    def make(*actions: AnyAction, slots: int = 100, threads: int = 4, others: Sequence[Engine] = ()) -> Executor:
        addresses = [engine.address, *(other.address for other in others)]
        registry = Registry([*load_registry(plugins=()), *actions])
        session = Session(
            "executor-of-the-test",
            registry,
            addresses,
            slots=slots,
            threads=threads,
            labels={"zone": "north"},
            metrics=Metrics(CollectorRegistry()),
        )
        made.append(Executor(session, addresses))
        return made[-1]

    yield make
    for executor in made:
        await executor.close()
