"""Actions by StackStorm's names through the real services: an inquiry's answers, and what the operator turns on."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from tests.processes import CALL_S, System, state_of

from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import action_service_pb2, execution_pb2

WORKFLOWS = """
version: '2.0'

release:
  output: {by: <% $.by %>, said: <% $.said %>}
  tasks:
    approve:
      action: core.ask
      input:
        users: [ada]
        schema:
          type: object
          properties:
            approved: {type: boolean, required: true}
            by: {type: string, required: true}
      publish: {by: <% task().result.response.by %>}
      on-success:
        - announce: <% task().result.response.approved %>
    announce:
      action: core.echo message="released by <% $.by %>"
      publish: {said: <% task().result.stdout %>}

local:
  output: {greeting: <% $.greeting %>}
  tasks:
    greet:
      action: core.local
      input:
        cmd: "printf '{\\"greeting\\": \\"Hello, %s\\"}' $NAME; exit $CODE"
        env: {NAME: Ada, CODE: <% $.code %>}
      publish: {greeting: <% task().result.stdout.greeting %>}
      publish-on-error: {greeting: <% task().result.return_code %>}
      on-error: [mend]
    mend: {action: core.noop}
  input: [code]
"""


async def answer(system: System, action_execution_id: str, given: object) -> execution_pb2.ActionExecution:
    """The inquiry, completed with this answer."""
    request = action_service_pb2.CompleteActionRequest(
        action_execution_id=action_execution_id,
        outcome=action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
        result=json.dumps(given),
    )
    return (await system.actions.CompleteAction(request, timeout=CALL_S)).action_execution


async def test_an_inquiry_is_answered_and_a_command_is_not_run(tmp_path: Path) -> None:
    """A bad answer is refused with every wrong field and changes nothing; with a good one the workflow continues.

    The operator has turned nothing on, so a command waits for an executor that has it.
    """
    async with System(tmp_path) as system:
        await system.define(WORKFLOWS)
        execution_id = await system.begin("release")
        await system.until(execution_id, lambda change: change.attempt_moved.delegated)
        (inquiry,) = await system.attempts(execution_id)
        assert json.loads(inquiry.input)["users"] == ["ada"]
        before = (await system.get(execution_id)).revision

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(system, inquiry.id, {"approved": "maybe"})

        refused = read_failure(caught.value)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert sorted(each.subject for each in refused.violations) == ["result.approved", "result.by"]
        assert (await system.get(execution_id)).revision == before
        completed = await answer(system, inquiry.id, {"approved": True, "by": "ada"})
        assert json.loads(completed.result)["response"] == {"approved": True, "by": "ada"}
        ended = await system.wait(execution_id)
        assert (state_of(ended), json.loads(ended.output)) == ("SUCCESS", {"by": "ada", "said": "released by ada"})

        # Nobody has allowed this executor to run commands: it is never given one.
        execution_id = await system.begin("local", {"code": 0})
        await system.until(execution_id, lambda change: change.attempt_added.task_name == "greet")
        (command,) = await system.attempts(execution_id)
        assert (state_of(command), command.waiting_for) == ("READY", f"executor of {command.action}")
        assert system.findings() == []


async def test_commands_run_where_they_are_allowed(tmp_path: Path) -> None:
    """Their output is data; those that fail give what they gave all the same."""
    async with System(tmp_path, executor=("--allow", "core.local")) as system:
        await system.define(WORKFLOWS)
        ended = await system.run("local", {"code": 0})
        assert (state_of(ended), json.loads(ended.output)) == ("SUCCESS", {"greeting": "Hello, Ada"})
        ended = await system.run("local", {"code": 3})
        assert (state_of(ended), json.loads(ended.output)) == ("SUCCESS", {"greeting": 3})


async def test_the_actions_are_known(tmp_path: Path) -> None:
    """From the start, with what they take, whether or not an executor has been there."""
    async with System(tmp_path, with_executor=False) as system:
        listed = await system.actions.ListActions(action_service_pb2.ListActionsRequest(), timeout=CALL_S)
        known = {each.name: each for each in listed.actions}
        assert {"core.noop", "core.echo", "core.local", "core.http", "core.sendmail", "core.pause"} <= known.keys()
        ask = known["core.ask"]
        assert (ask.answer_schema, ask.answer_key) == ("schema", "response")
        assert [each.name for each in ask.parameters][:2] == ["schema", "roles"]
