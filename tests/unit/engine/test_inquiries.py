"""Whoever answers what an action asks is told what does not fit; the action continues waiting until something does.

And an action is found by the name that it chose for whoever answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1.definition_pb2 import Parameter

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean", "required": True}, "count": {"type": "integer", "required": True}},
}
GOOD = {"approved": True, "count": 3}


class Inquirer(ScriptedExecutor):
    """Serves core.ask, and an action of its own that asks and says so in its Hello."""

    def __init__(self, address: str) -> None:
        super().__init__(
            address,
            lambda run: done(run, wire.TASK_OUTCOME_DELEGATED),
            actions=(("core.ask", True), ("pack.vote", True)),
        )

    def _hello(self) -> wire.Hello:
        hello = super()._hello()
        vote = hello.actions[1]
        vote.parameters.append(Parameter(name="ballot", required=True))
        vote.answer_schema, vote.accepts_any = "ballot", False
        return hello


async def ask(desk: Desk, executor: ScriptedExecutor, action: str, given: object) -> execution_pb2.ActionExecution:
    """An action that waits for its answer."""
    asked: execution_pb2.ActionExecution = await desk.run(action, input=json.dumps(given))
    await until(lambda: any(ack.action_execution_id == asked.id for ack in executor.acks))
    return asked


def answer(asked: execution_pb2.ActionExecution, result: object, **more: Any) -> actions.CompleteActionRequest:
    """The request that gives this answer."""
    return actions.CompleteActionRequest(
        action_execution_id=asked.id,
        outcome=actions.COMPLETION_OUTCOME_SUCCEEDED,
        result=json.dumps(result),
        **more,
    )


async def refusal(desk: Desk, request: actions.CompleteActionRequest) -> Failure:
    """What an answer that must be refused is told."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.submit("complete_action", request)
    return read_failure(caught.value)


async def test_what_does_not_fit_is_refused_and_changes_nothing(desk: Desk) -> None:
    """Every wrong field is named; then an answer that fits completes it, and its result says what was asked."""
    async with Inquirer(desk.address) as executor:
        asked = await ask(desk, executor, "core.ask", {"schema": APPROVAL, "users": ["ada"]})
        execution_id = asked.id.partition(".")[0]
        before = desk.journal(execution_id)

        refused = await refusal(desk, answer(asked, {"approved": "yes"}))

        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert {each.subject: each.description for each in refused.violations} == {
            "result.approved": "'yes' is not of type 'boolean'",
            "result.count": "is missing",
        }
        assert desk.journal(execution_id) == before
        completed = (await desk.submit("complete_action", answer(asked, GOOD))).action_execution
        assert completed.state == execution_pb2.ACTION_STATE_SUCCESS
        assert json.loads(completed.result) == {
            "schema": APPROVAL,
            "roles": [],
            "users": ["ada"],
            "route": "",
            "ttl": 1440,
            "response": GOOD,
        }
        again = (await desk.submit("complete_action", answer(asked, GOOD))).action_execution
        assert again == completed


async def test_the_usual_question(desk: Desk) -> None:
    """Without a schema the question is whether to continue: everybody can read it, and any answer is accepted."""
    async with Inquirer(desk.address) as executor:
        asked = await ask(desk, executor, "core.ask", {})
        assert json.loads(asked.input)["schema"]["properties"].keys() == {"continue"}

        other = await ask(desk, executor, "core.ask", {})
        completed = (await desk.submit("complete_action", answer(asked, {"continue": False}))).action_execution
        assert json.loads(completed.result)["response"] == {"continue": False}
        assert (await desk.submit("complete_action", answer(asked, {"continue": False}))).action_execution == completed
        assert (await refusal(desk, answer(asked, {"continue": True}))).code is grpc.StatusCode.FAILED_PRECONDITION
        completed = (await desk.submit("complete_action", answer(other, None))).action_execution
        assert completed.state == execution_pb2.ACTION_STATE_SUCCESS
        assert json.loads(completed.result)["response"] is None


async def test_who_fails_it_need_not_answer(desk: Desk) -> None:
    """Only an answer has a schema (P16)."""
    async with Inquirer(desk.address) as executor:
        asked = await ask(desk, executor, "core.ask", {"schema": APPROVAL})
        request = actions.CompleteActionRequest(
            action_execution_id=asked.id, outcome=actions.COMPLETION_OUTCOME_FAILED, error="no", result='"why"'
        )
        failed = (await desk.submit("complete_action", request)).action_execution
        assert (failed.state, failed.result, failed.error) == (execution_pb2.ACTION_STATE_ERROR, '"why"', "no")


async def test_an_answer_before_its_executor_has_said_that_it_is_delegated(desk: Desk) -> None:
    """It is checked and kept like any other, and what the executor says then changes nothing (P26)."""
    executor = Inquirer(desk.address)
    executor.script = lambda run: None
    async with executor:
        asked = await desk.run("core.ask", input=json.dumps({"schema": APPROVAL}))
        await until(lambda: executor.received)

        assert [each.subject for each in (await refusal(desk, answer(asked, True))).violations] == ["result"]
        completed = (await desk.submit("complete_action", answer(asked, GOOD))).action_execution
        assert json.loads(completed.result)["response"] == GOOD
        run = executor.received[0]
        await executor.finish(run, done(run, wire.TASK_OUTCOME_DELEGATED))
        await until(lambda: executor.acks)
    assert executor.acks[0].verdict == wire.ACK_VERDICT_SUPERSEDED


async def test_an_answer_on_an_executors_stream(desk: Desk) -> None:
    """The same path: what does not fit is refused, with the reason, and the action waits for what does (P15)."""
    async with Inquirer(desk.address) as executor:
        await ask(desk, executor, "core.ask", {"schema": APPROVAL})
        run = executor.received[0]

        await executor.finish(run, done(run, result='{"approved": true}'))
        await until(lambda: len(executor.acks) == 2)
        assert executor.acks[1].verdict == wire.ACK_VERDICT_REFUSED
        assert "result.count: is missing" in executor.acks[1].reason

        await executor.finish(run, done(run, result=json.dumps(GOOD)))
        await until(lambda: len(executor.acks) == 3)
        assert executor.acks[2].verdict == wire.ACK_VERDICT_ACCEPTED


async def test_actions_of_other_executors_may_ask(desk: Desk) -> None:
    """Which of its inputs holds the schema an action says in its Hello; without a key the answer is the result."""
    async with Inquirer(desk.address) as executor:
        await until(lambda: executor.welcomes)
        asked = await ask(desk, executor, "pack.vote", {"ballot": {"enum": ["ada", "bob"]}})

        assert (await refusal(desk, answer(asked, "eve"))).code is grpc.StatusCode.INVALID_ARGUMENT
        assert (await desk.submit("complete_action", answer(asked, "ada"))).action_execution.result == '"ada"'


async def test_a_schema_that_is_none_lets_nothing_through(desk: Desk) -> None:
    """Whoever answers is told so; the action can still be ended otherwise."""
    async with Inquirer(desk.address) as executor:
        await until(lambda: executor.welcomes)
        asked = await ask(desk, executor, "pack.vote", {"ballot": {"type": "objekt"}})

        refused = await refusal(desk, answer(asked, "ada"))

        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be checked: the schema of the answer is unfit: .type" in refused.message


def aliased(alias: str, **more: Any) -> actions.CompleteActionRequest:
    """The request that completes the action with this alias."""
    return actions.CompleteActionRequest(alias=alias, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, **more)


async def test_a_delegate_is_completed_by_its_alias(desk: Desk) -> None:
    """The one that waits under the name that its action chose; an exact repeat changes nothing, another is late."""
    given: dict[str, Any] = {"outcome": wire.TASK_OUTCOME_DELEGATED, "alias": "order-17"}
    async with ScriptedExecutor(desk.address, lambda run: done(run, **given)) as executor:
        first = await ask(desk, executor, "std.noop", {})
        row = desk.read(lambda queries: queries.attempts(first.id.partition(".")[0])).rows[0]
        assert (row.delegated, row.alias) == (True, "order-17")
        assert (await refusal(desk, aliased("order-18"))).code is grpc.StatusCode.NOT_FOUND
        assert (await refusal(desk, aliased("order-17", namespace="shop"))).code is grpc.StatusCode.NOT_FOUND

        completed = (await desk.submit("complete_action", aliased("order-17", result="17"))).action_execution
        assert (completed.id, completed.alias, completed.result) == (first.id, "order-17", "17")
        assert (await desk.submit("complete_action", aliased("order-17"))).action_execution == completed
        assert (await desk.submit("complete_action", aliased("order-17", result="17"))).action_execution == completed
        assert "with another result" in (await refusal(desk, aliased("order-17", result="18"))).message
        late = actions.CompleteActionRequest(alias="order-17", outcome=actions.COMPLETION_OUTCOME_FAILED)
        assert (await refusal(desk, late)).code is grpc.StatusCode.FAILED_PRECONDITION

        again = await ask(desk, executor, "std.noop", {})
        completed = (await desk.submit("complete_action", aliased("order-17", result="18"))).action_execution
        assert (completed.id, completed.result) == (again.id, "18")


async def test_an_alias_that_two_have_is_none(desk: Desk) -> None:
    """Both are named, and neither is touched; nor may an action be named in two ways."""
    given: dict[str, Any] = {"outcome": wire.TASK_OUTCOME_DELEGATED, "alias": "order-17"}
    async with ScriptedExecutor(desk.address, lambda run: done(run, **given)) as executor:
        asked = [await ask(desk, executor, "std.noop", {}) for _ in range(2)]

        refused = await refusal(desk, aliased("order-17"))

        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert {each.subject for each in refused.violations} == {f"action execution {each.id}" for each in asked}
        both = aliased("order-17", action_execution_id=asked[0].id)
        assert (await refusal(desk, both)).code is grpc.StatusCode.INVALID_ARGUMENT
        for each in asked:
            assert (await desk.submit("complete_action", answer(each, 1))).action_execution.id == each.id


async def test_nobody_is_waited_for_beyond_the_completion_timeout_of_an_action(desk: Desk) -> None:
    """It fails then, and says so; what was completed in time stays as it is."""

    def delegate(run: wire.RunAction) -> wire.TaskDone:
        limit_s = 4.0 if run.action == "std.echo" else 0.3  # the longer one leaves the time to complete it
        timeout = Duration(nanos=int(limit_s * 1e9) % 10**9, seconds=int(limit_s))
        return done(run, wire.TASK_OUTCOME_DELEGATED, completion_timeout=timeout)

    async with ScriptedExecutor(desk.address, delegate) as executor:
        began_s = time.monotonic()
        answered = await ask(desk, executor, "std.echo", {"output": 1})
        await desk.submit("complete_action", answer(answered, "in time"))
        forgotten = await ask(desk, executor, "std.noop", {})

        row = await desk.wait(forgotten.id.partition(".")[0])

        assert row.state == "ERROR"
        assert row.info.endswith("nobody has completed the action within 0.3 s")
        await asyncio.sleep(max(0.0, began_s + 5.5 - time.monotonic()))
        assert desk.execution(answered.id.partition(".")[0]).state == "SUCCESS"


async def test_an_alias_that_is_too_long_fails_the_action(desk: Desk) -> None:
    """Nobody would wait for what cannot be found."""
    given: dict[str, Any] = {"outcome": wire.TASK_OUTCOME_DELEGATED, "alias": "x" * 256}
    async with ScriptedExecutor(desk.address, lambda run: done(run, **given)) as executor:
        asked = await ask(desk, executor, "std.noop", {})
        row = desk.read(lambda queries: queries.attempts(asked.id.partition(".")[0])).rows[0]
        assert row.state == "ERROR"
        assert "alias has 256 characters; at most 255 are allowed" in row.error
