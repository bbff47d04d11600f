"""How far actions have come, as executors and third parties say: kept at their rows, and in no journal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import grpc
import msgspec
import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.engine.executors.progress import Board
from dalsegno.rpc import messages
from dalsegno.rpc.failure import read_failure
from dalsegno.store.memory import MemoryTransaction
from dalsegno.store.records import AttemptRow, NewProgress, Progress
from dalsegno.v1 import action_service_pb2, execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire

ONE = "version: '2.0'\none:\n  tasks: {t: {action: std.noop}}\n"
RUNNING, DELEGATED = wire.TASK_OUTCOME_RUNNING, wire.TASK_OUTCOME_DELEGATED


def row_of(desk: Desk, execution_id: str) -> AttemptRow:
    row = desk.read(lambda queries: queries.attempt(execution_id, (1, 0, 1)))
    assert isinstance(row, AttemptRow)
    return row


def shown(desk: Desk, execution_id: str) -> tuple[str, float | None]:
    """What a reader is told: the text and the fraction."""
    told = messages.progress_message(row_of(desk, execution_id), full=True)
    return ("", None) if told is None else (told.text, told.fraction if told.HasField("fraction") else None)


async def tell(executor: ScriptedExecutor, run: wire.RunAction, text: str, fraction: float | None = None) -> None:
    progress = execution_pb2.ActionProgress(text=text, fraction=fraction)
    await executor.say(task_done=wire.TaskDoneBatch(outcomes=[done(run, RUNNING, progress=progress)]))


async def heartbeat(desk: Desk, **fields: Any) -> Any:
    return await desk.submit("heartbeat_action", action_service_pb2.HeartbeatActionRequest(**fields))


async def test_an_executor_says_how_far_an_action_has_come(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred reports within a second are one or two writes with the last of them; each is acknowledged as what it
    is; the journal and the revision know of none; and when the action has ended what was said last stays."""
    written: list[Sequence[NewProgress]] = []
    save = MemoryTransaction.save_progress

    def count(transaction: MemoryTransaction, progress: Sequence[NewProgress]) -> None:
        written.append(progress)
        save(transaction, progress)

    monkeypatch.setattr(MemoryTransaction, "save_progress", count)
    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        execution = await desk.start("one")
        await until(lambda: executor.received)
        (run,) = executor.received
        before = desk.execution(execution.id).revision
        began_s = time.monotonic()
        for number in range(100):
            await tell(executor, run, f"file {number} of 100", number / 100)
        await until(lambda: shown(desk, execution.id) == ("file 99 of 100", 0.99))
        await until(lambda: len(executor.acks) == 100)
        assert {(ack.verdict, ack.outcome) for ack in executor.acks} == {(wire.ACK_VERDICT_ACCEPTED, RUNNING)}
        assert 1 <= len(written) <= 3 + (time.monotonic() - began_s), "once a second"
        assert (desk.execution(execution.id).revision, before) == (before, before)
        await executor.finish(run, done(run))
        await desk.wait(execution.id)
    assert "file" not in repr(desk.journal(execution.id))
    assert shown(desk, execution.id) == ("file 99 of 100", 0.99)


async def test_what_an_earlier_delivery_said_is_not_shown(desk: Desk) -> None:
    """When an action is handed out again nothing is known of how far it has come; what the late executor says of the
    delivery that it has lost is superseded, and not noted."""
    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, lambda run: None, executor_id="first") as first:
        execution = await desk.start("one")
        await until(lambda: first.received)
        await tell(first, first.received[0], "nearly done", 0.9)
        await until(lambda: shown(desk, execution.id) == ("nearly done", 0.9))
        async with ScriptedExecutor(desk.address, lambda run: None, executor_id="second") as second:
            await until(lambda: second.welcomes)
            await first.say(goodbye=wire.Goodbye(release=True))
            await until(lambda: second.received)
            assert shown(desk, execution.id) == ("", None)
            late = done(first.received[0], RUNNING, progress=execution_pb2.ActionProgress(text="still here"))
            await second.say(task_done=wire.TaskDoneBatch(outcomes=[late]))
            await until(lambda: second.acks)
            assert second.acks[0].verdict == wire.ACK_VERDICT_SUPERSEDED
            await tell(second, second.received[0], "begun")
            await until(lambda: shown(desk, execution.id) == ("begun", None))


@pytest.mark.parametrize(
    ("progress", "outcome", "told"),
    [
        ({"text": "x" * 1_001}, RUNNING, "progress.text has 1,001 characters; at most 1,000 are allowed"),
        ({"text": "a\0"}, RUNNING, "progress.text holds, as character 2, NUL"),
        ({"fraction": 1.5}, RUNNING, "progress.fraction must be from 0 to 1, not 1.5"),
        ({"fraction": float("nan")}, RUNNING, "progress.fraction must be from 0 to 1, not nan"),
        ({"details": "{"}, RUNNING, "progress.details must be JSON: not JSON"),
        ({"details": '"' + "x" * 70_000 + '"'}, RUNNING, "progress.details too large: 70,002 bytes"),
        ({"text": "a"}, DELEGATED, "progress goes with RUNNING only"),
    ],
)
async def test_progress_that_is_not_well_formed_is_refused(
    desk: Desk, progress: dict[str, Any], outcome: wire.TaskOutcome.ValueType, told: str
) -> None:
    """In a sentence that names the field; an action that continues is not ended by it."""
    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        execution = await desk.start("one")
        await until(lambda: executor.received)
        (run,) = executor.received
        odd = done(run, outcome, progress=execution_pb2.ActionProgress(**progress))
        await executor.say(task_done=wire.TaskDoneBatch(outcomes=[odd]))
        await until(lambda: executor.acks)
    assert executor.acks[0].verdict == wire.ACK_VERDICT_REFUSED
    assert told in executor.acks[0].reason
    assert row_of(desk, execution.id).state == ("RUNNING" if outcome == RUNNING else "ERROR")


async def test_a_third_party_says_how_far_a_delegate_has_come(desk: Desk) -> None:
    """By alias, by token or by id, with details; a sign of life alone leaves what was said; nothing of it is in the
    journal; and when the action has ended, it is told to stop."""
    await desk.create(ONE)
    delegate: dict[str, Any] = {"outcome": DELEGATED, "alias": "order-7"}
    async with ScriptedExecutor(desk.address, lambda run: done(run, **delegate)) as executor:
        execution = await desk.start("one")
        await until(lambda: executor.received and row_of(desk, execution.id).delegated)
        token = executor.received[0].task_token
        before = len(desk.journal(execution.id))
        details = json.dumps({"parcels": 3})
        for name in ({"alias": "order-7"}, {"task_token": token}, {"action_execution_id": f"{execution.id}.1.0.1"}):
            by = next(iter(name))
            progress = execution_pb2.ActionProgress(text=f"by {by}", fraction=0.5, details=details)
            answer = await heartbeat(desk, **name, progress=progress)
            assert answer.state == execution_pb2.ACTION_STATE_RUNNING
            await until(lambda by=by: shown(desk, execution.id) == (f"by {by}", 0.5))  # type: ignore[misc]
        await heartbeat(desk, alias="order-7")
        await asyncio.sleep(1.2)
        told = messages.progress_message(row_of(desk, execution.id), full=True)
        assert told is not None
        assert (told.text, told.details, told.HasField("at")) == ("by action_execution_id", details, True)
        assert len(desk.journal(execution.id)) == before

        complete = action_service_pb2.CompleteActionRequest(alias="order-7")
        complete.outcome = action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED
        await desk.submit("complete_action", complete)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await heartbeat(desk, alias="order-7")
        failure = read_failure(caught.value)
        assert (failure.code, "has ended already: SUCCESS" in failure.message) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            True,
        )


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "task_token"),
        ({"alias": "a", "task_token": "b"}, grpc.StatusCode.INVALID_ARGUMENT, "task_token"),
        ({"action_execution_id": "nonsense"}, grpc.StatusCode.INVALID_ARGUMENT, "action_execution_id"),
        ({"alias": "nobody"}, grpc.StatusCode.NOT_FOUND, "nobody"),
        ({"task_token": "forged"}, grpc.StatusCode.PERMISSION_DENIED, "not genuine"),
        (
            {"action_execution_id": "01890a5d-ac96-774b-bcce-b302099a8057.1.0.1"},
            grpc.StatusCode.NOT_FOUND,
            "does not exist",
        ),
        (
            {"alias": "a", "progress": execution_pb2.ActionProgress(fraction=2)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "progress.fraction",
        ),
    ],
)
async def test_a_heartbeat_of_nothing_is_refused(
    desk: Desk, fields: dict[str, Any], code: grpc.StatusCode, told: str
) -> None:
    """With the code and the field that the contract says."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await heartbeat(desk, **fields)
    assert caught.value.code() is code
    assert told in str(read_failure(caught.value))


async def test_nobody_works_on_what_is_not_handed_out(desk: Desk) -> None:
    """A heartbeat of an action that is READY is refused: its executor does not have it."""
    await desk.create(ONE)
    execution = await desk.start("one")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await heartbeat(desk, action_execution_id=f"{execution.id}.1.0.1")
    assert "has not been handed out" in str(read_failure(caught.value))


def test_what_is_said_while_it_is_written_is_written_next() -> None:
    """The board forgets what was written only if nothing newer has been said since."""
    board = Board()
    board.note("e", (1, 0, 1), Progress("one"))
    due = board.due()
    board.note("e", (1, 0, 1), Progress("two"))
    board.written(due)
    assert [each.progress.text for each in board.due()] == ["two"]
    board.written(board.due())
    assert len(board) == 0


def test_progress_is_read_as_it_was_written() -> None:
    """What a later version adds is ignored."""
    told = Progress("a", 0.25, "[1]", 5.0, 2)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Progress) == told
    assert msgspec.json.decode(b'{"text": "a", "later": 1}', type=Progress) == Progress("a")
