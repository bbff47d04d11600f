"""Stored definitions that are compiled for the conductor's thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from tests.unit.definitions.long_texts import mistral

from dalsegno.definitions import reading
from dalsegno.definitions.reading import MODULE
from dalsegno.engine.batches.compiling import KEPT, Compiling, compile_row
from dalsegno.expressions import pool_client
from dalsegno.expressions.pool.jobs import Evaluation, SchemaCheck
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool_client import Waiting
from dalsegno.store.records import DefinitionRow
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.scope import Scope, Suspended

pytestmark = pytest.mark.xdist_group("compiling")

LONG = mistral(40_000, "wf")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """One that is only for definitions."""
    pool = Pool(0, calls=2, modules=(MODULE,))
    yield pool
    pool.close()


class Hasty(Waiting):
    """Waits for nothing."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        raise AssertionError("nothing is evaluated here")

    def wait(self, future: Future[Any]) -> None:
        self.asked.append(future)
        raise Suspended


@pytest.fixture
def hasty() -> Iterator[Hasty]:
    """The evaluator of this thread."""
    evaluator = Hasty()
    pool_client.use(evaluator)
    yield evaluator
    pool_client.use(None)


def row(text: str, definition_id: str = "d") -> DefinitionRow:
    """A stored workflow."""
    return DefinitionRow(
        definition_id=definition_id,
        document_id="document",
        kind="workflow",
        namespace="",
        name="wf",
        version=1,
        language="mistral",
        tags="[]",
        description="",
        input="[]",
        created_s=0.0,
        actor="",
        comment="",
        deleted=False,
        text=text,
    )


def test_a_long_one_is_not_waited_for(pool: Pool, hasty: Hasty) -> None:
    """The first who needs it asks for it, and later it is there: once."""
    compiling = Compiling(pool)
    for _ in range(3):
        with pytest.raises(Suspended):
            compiling(row(LONG))
    (asked,) = set(hasty.asked)
    asked.result(60)
    compiled = compiling(row(LONG))
    expected = compile_row(row(LONG))
    assert isinstance(compiled, Workflow)
    assert isinstance(expected, Workflow)
    assert list(compiled.tasks) == list(expected.tasks)
    with pytest.raises(Suspended):  # whoever has got it keeps it
        compiling(row(LONG))


def test_a_short_one_is_there_at_once(pool: Pool, hasty: Hasty) -> None:
    """As nearly all are."""
    compiled = Compiling(pool)(row("version: '2.0'\nwf: {tasks: {t: {action: std.noop}}}"))
    assert isinstance(compiled, Workflow)
    assert not hasty.asked


def test_a_thread_that_may_wait_waits(pool: Pool) -> None:
    """It has the workflow when the call returns."""
    assert isinstance(Compiling(pool)(row(LONG)), Workflow)


def test_what_cannot_be_compiled_apart_is_compiled_here(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was accepted once, so executions of it continue, whatever that takes."""
    monkeypatch.setattr(reading, "READ_S", 0.01)
    assert isinstance(Compiling(pool)(row(LONG)), Workflow)


@pytest.mark.long("many long definitions")
def test_what_nobody_asks_for_again_is_let_go(pool: Pool, hasty: Hasty) -> None:
    """A few are kept for those that come soon."""
    compiling = Compiling(pool)
    for number in range(KEPT + 4):
        with pytest.raises(Suspended):
            compiling(row(LONG, f"d{number}"))
    for asked in hasty.asked:
        asked.result(60)
    with pytest.raises(Suspended):
        compiling(row(LONG, "last"))
    assert len(compiling._begun) == KEPT + 1
