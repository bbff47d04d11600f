"""Executors at one engine, over the wire: who they are, and who takes whose place."""

from __future__ import annotations

import logging

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, until
from tests.unit.engine.conftest import Desk

from dalsegno.rpc.failure import read_failure

ONE = "version: '2.0'\none:\n  tasks: {t: {action: std.noop}}\n"


async def test_an_executor_that_comes_again_ends_its_older_session(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream that ends is told who has taken its place, and the engine warns with both addresses."""
    async with ScriptedExecutor(desk.address) as first:
        await until(lambda: first.welcomes)
        (before,) = desk.read(lambda queries: queries.sessions())
        assert before.peer.startswith("ipv4:127.0.0.1:")
        with caplog.at_level(logging.WARNING):
            async with ScriptedExecutor(desk.address) as second:
                await until(lambda: second.welcomes and first.errors)
                (after,) = desk.read(lambda queries: queries.sessions())
    assert after.peer != before.peer
    failure = read_failure(first.errors[0])
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED")
    assert failure.message == (f"a newer session of executor 'scripted', from {after.peer}, has taken this one's place")
    warnings = [record.getMessage() for record in caplog.records if "scripted" in record.getMessage()]
    assert warnings == [
        f"executor scripted has connected from {after.peer} while its session from {before.peer} was active:"
        " the older session ends"
    ]


async def test_an_executor_that_was_killed_comes_again_without_a_warning(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A session without a stream is nobody's: a restarted executor takes its place in silence."""
    first = ScriptedExecutor(desk.address)
    async with first:
        await until(lambda: first.welcomes)
    await until(lambda: not desk.engine._executors.count)
    with caplog.at_level(logging.WARNING):
        async with ScriptedExecutor(desk.address) as second:
            await until(lambda: second.welcomes)
    assert caplog.records == []


async def test_hello_with_what_cannot_be_stored_is_refused(desk: Desk) -> None:
    """NUL in a label ends the stream with INVALID_ARGUMENT that names it, and no session is kept."""
    async with ScriptedExecutor(desk.address, labels={"zone": "a\0"}, executor_id="x\0") as executor:
        await until(lambda: executor.errors)
    failure = read_failure(executor.errors[0])
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violation.subject for violation in failure.violations) == [
        "hello.executor_id",
        "hello.labels['zone']",
    ]
    assert desk.read(lambda queries: queries.sessions()) == []
