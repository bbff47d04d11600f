"""Engines that listen, and executors that connect to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.worker.scripted import Engine, Executor, MakeExecutor

from dalsegno.actions.action import AnyAction
from dalsegno.actions.registry import Registry, load_registry
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.session import Session


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """Provide an engine that listens."""
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def other_engine() -> AsyncIterator[Engine]:
    """Provide a second engine."""
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def make_executor(engine: Engine) -> AsyncIterator[MakeExecutor]:
    """Provide a function that makes an executor with the built-in actions and the given ones, for the engine and the
    others."""
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
