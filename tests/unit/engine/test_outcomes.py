"""Outcomes that are not as the contract says, over the wire: refused in a sentence, and their actions end."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.v1 import executor_service_pb2 as wire

ONE = "version: '2.0'\none:\n  tasks: {t: {action: std.noop}}\n"
REFUSED = wire.ACK_VERDICT_REFUSED
FAILED, CANCELLED = wire.TASK_OUTCOME_FAILED, wire.TASK_OUTCOME_CANCELLED
DELEGATED = wire.TASK_OUTCOME_DELEGATED

UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "no JSON": ({"result": "{nonsense"}, "result unfit: not JSON"),
    "NaN": ({"result": "NaN"}, "result unfit: not JSON"),
    "a number beyond all floats": ({"result": "1e999"}, "result unfit: not JSON"),
    "such a number within a list": ({"result": "[1, 1e999, 123456789012345678901234567890]"}, "result unfit"),
    "a result that is too large": ({"result": '"' + "x" * 4_000_000 + '"'}, "result too large: 4,000,002 bytes"),
    "NUL in a result": ({"result": '"a\\u0000"'}, "result unfit"),
    "NUL in its text": ({"result": '"a\0"'}, "the result holds"),
    "NUL in an error": ({"outcome": FAILED, "error": "disk\0full"}, "the error was: disk\\0full"),
    "NUL in an alias": ({"outcome": DELEGATED, "alias": "a\0"}, "the alias holds"),
    "an error with SUCCEEDED": ({"error": "what?"}, "error goes with FAILED and CANCELLED only"),
    "an error that is too long": ({"outcome": FAILED, "error": "x" * 65_537}, "error has 65,537 characters"),
    "a result with CANCELLED": ({"outcome": CANCELLED, "result": "1"}, "result goes with SUCCEEDED and FAILED only"),
    "a result with DELEGATED": ({"outcome": DELEGATED, "result": "1"}, "result goes with"),
    "an alias with SUCCEEDED": ({"alias": "a"}, "alias goes with DELEGATED only"),
    "an alias that is too long": ({"outcome": DELEGATED, "alias": "x" * 256}, "alias has 256 characters"),
    "a negative run time": ({"elapsed": Duration(seconds=-1)}, "elapsed is negative"),
    "a run time of two signs": ({"elapsed": Duration(seconds=1, nanos=-1)}, "elapsed is not a length"),
    "an outcome of later": ({"outcome": 77}, "outcome 77 is unknown to this engine"),
    "no outcome": ({"outcome": 0}, "outcome is missing"),
    "no delivery": ({"delivery": 0}, "delivery is missing"),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_an_outcome_that_is_not_well_formed_is_refused_and_ends_its_action(desk: Desk, name: str) -> None:
    """The acknowledgement says REFUSED and why in a sentence; the action is not left RUNNING for ever: it has failed,
    and says the same."""
    fields, told = UNFIT[name]

    def script(run: wire.RunAction) -> wire.TaskDone:
        outcome = done(run, **{key: value for key, value in fields.items() if key != "delivery"})
        outcome.delivery = fields.get("delivery", run.delivery)
        return outcome

    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, script) as executor:
        execution = await desk.start("one", request_id=str(uuid.uuid4()))
        row = await desk.wait(execution.id)
        attempt = desk.read(lambda queries: queries.attempt(execution.id, (1, 0, 1)))
        await until(lambda: executor.acks)
    assert (row.state, attempt.state) == ("ERROR", "ERROR")
    assert told in attempt.error
    (ack,) = executor.acks
    assert (ack.verdict, bool(ack.reason)) == (REFUSED, True)
    assert ack.reason in attempt.error


async def test_what_is_told_of_an_action_that_goes_on_does_not_end_it(desk: Desk) -> None:
    """RUNNING with an error is refused; the action runs on, and its outcome counts."""
    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        execution = await desk.start("one")
        await until(lambda: executor.received)
        (run,) = executor.received
        odd = done(run, wire.TASK_OUTCOME_RUNNING, error="what?")
        await executor.say(task_done=wire.TaskDoneBatch(outcomes=[odd]))
        await until(lambda: executor.acks)
        assert desk.execution(execution.id).state == "RUNNING"
        await executor.finish(run, done(run))
        assert (await desk.wait(execution.id)).state == "SUCCESS"
    assert [ack.verdict for ack in executor.acks][:1] == [REFUSED]


@pytest.mark.parametrize(
    "name",
    ["", "nonsense", "a.b.c.d", "..", "{id}.1.0", "{id}.1.0.x", "{id}.1.0.-1", "{id}.1.0." + "9" * 5000, "{id}.٣.0.1"],
)
async def test_a_wrong_id_is_refused_in_plain_words(desk: Desk, name: str) -> None:
    """For any wrong id the reason names the field and the form, and holds no message of Python's."""
    await desk.create(ONE)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        execution = await desk.start("one")
        await until(lambda: executor.received)
        outcome = wire.TaskDone(
            action_execution_id=name.replace("{id}", execution.id), delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED
        )
        await executor.say(task_done=wire.TaskDoneBatch(outcomes=[outcome]))
        await until(lambda: executor.acks)
    (ack,) = executor.acks
    assert ack.verdict == REFUSED
    assert ack.reason.startswith("action_execution_id: ")
    assert "is not of the form <execution>.17.3.2" in ack.reason or ack.reason.endswith("is missing")
    assert len(ack.reason) < 300


async def test_nobody_else_is_ended_by_what_is_refused(desk: Desk) -> None:
    """A malformed outcome of a delivery, or of a session, that is not the present one ends nothing."""
    await desk.create(ONE)
    async with (
        ScriptedExecutor(desk.address, lambda run: None) as executor,
        ScriptedExecutor(desk.address, executor_id="other", actions=(("test.other", True),)) as other,
    ):
        execution = await desk.start("one")
        await until(lambda: executor.received)
        (run,) = executor.received
        for who, delivery in ((executor, 7), (other, run.delivery), (other, 0)):
            odd = done(run, error="what?")
            odd.delivery = delivery
            await who.say(task_done=wire.TaskDoneBatch(outcomes=[odd]))
        await until(lambda: len(executor.acks) + len(other.acks) == 3)
        assert desk.read(lambda queries: queries.attempt(execution.id, (1, 0, 1))).state == "RUNNING"
        await executor.finish(run, done(run))
        assert (await desk.wait(execution.id)).state == "SUCCESS"


async def test_a_result_beyond_the_message_limit_does_not_come_back_for_ever(desk: Desk) -> None:
    """20 MB, more than a message may have, are read to be refused: the action fails with `result too large`, the stream
    stays open, and nothing is sent again."""
    await desk.create(ONE)
    text = '"' + "x" * (20 << 20) + '"'
    async with ScriptedExecutor(desk.address, lambda run: done(run, result=text)) as executor:
        execution = await desk.start("one")
        assert (await desk.wait(execution.id)).state == "ERROR"
        await until(lambda: executor.acks)
    attempt = desk.read(lambda queries: queries.attempt(execution.id, (1, 0, 1)))
    assert attempt.error == "result too large: 20,971,522 bytes, at most 4,000,000"
    assert (len(executor.welcomes), executor.errors, executor.reported) == (1, [], {})
