"""No message is larger than 3.5 MiB unless one value alone is: every client here has gRPC's default limit of 4 MiB."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.integration import engines
from tests.integration.engines import ScriptedExecutor, done
from tests.unit.api.conftest import Front

from dalsegno.engine.desk.dry_runs import shorten
from dalsegno.rpc import sizes
from dalsegno.rpc.sizes import ALONE_BYTES_MAX, MESSAGE_BYTES_MAX, fitted, shortened
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows
from dalsegno.workflow.value import VALUE_BYTES_MAX

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
TEXT = """
version: '2.0'
one:
  input: [{word: ''}]
  tasks:
    say: {action: std.noop}
many:
  tasks:
    each: {with-items: 'i in [1, 2, 3, 4, 5]', action: std.echo output=<% $.i %>}
"""


def text_of(size: int) -> str:
    """Return the JSON text of an object with this number of bytes."""
    return json.dumps({"word": "x" * (size - len('{"word":""}'))}, separators=(",", ":"))


@pytest.mark.long("values of megabytes")
async def test_24_pauses_at_once_of_executions_with_3_mb_of_input_are_answered(front: Front) -> None:
    """Answers that several callers wait for are cut by their own size: all 24 are OK, each with its input."""
    await front.define(TEXT)
    started = [await front.start("one", input=text_of(3_000_000)) for _ in range(24)]

    pauses = (
        front.executions.PauseExecution(executions.PauseExecutionRequest(execution_id=each.id)) for each in started
    )
    answers = await asyncio.gather(*pauses)

    assert [answer.execution.id for answer in answers] == [each.id for each in started]
    assert {len(answer.execution.input) for answer in answers} == {3_000_000}


async def test_an_execution_with_several_large_values_is_told_without_the_largest(front: Front) -> None:
    """A value of 4,000,000 bytes fits into a message; of several the larger ones are left out, named and read by
    themselves."""
    await front.define(TEXT)
    alone = await front.start("one", input=text_of(VALUE_BYTES_MAX))
    assert (len(alone.input), list(alone.left_out)) == (VALUE_BYTES_MAX, [])
    assert MESSAGE_BYTES_MAX < alone.ByteSize() <= ALONE_BYTES_MAX

    terminate = operation_pb2.Terminate(output=json.dumps("y" * 2_000_000))
    request = executions.CancelExecutionRequest(execution_id=alone.id, terminate=terminate)
    ended = (await front.executions.CancelExecution(request)).execution

    assert (ended.input, list(ended.left_out), len(ended.output)) == ("", ["input"], 2_000_002)
    assert await front.get(alone.id) == ended
    waited = await front.executions.WaitExecution(executions.WaitExecutionRequest(execution_id=alone.id))
    assert waited.execution == ended
    assert await front.value(execution_id=alone.id, field="input") == text_of(VALUE_BYTES_MAX)


async def test_pages_of_executions_end_before_they_are_too_large(front: Front) -> None:
    """With their values, 3 executions of 1.5 MB each are two pages, and each page is within the limit."""
    await front.define(TEXT)
    started = [await front.start("one", input=text_of(1_500_000)) for _ in range(3)]

    pages: list[executions.ListExecutionsResponse] = []
    token = ""
    while not pages or token:
        request = executions.ListExecutionsRequest(full=True, page_token=token)
        pages.append(await front.executions.ListExecutions(request))
        token = pages[-1].next_page_token

    assert [len(page.executions) for page in pages] == [2, 1]
    assert max(page.ByteSize() for page in pages) <= MESSAGE_BYTES_MAX
    assert {each.id for page in pages for each in page.executions} == {each.id for each in started}


async def test_the_result_of_many_items_is_left_out_where_it_is_too_large(front: Front) -> None:
    """With 5 items of a megabyte each the attempts come in pages, the task names its result, and ReadValue returns
    it."""
    await front.define(TEXT)
    result = json.dumps("z" * 1_000_000)

    def echo(run: wire.RunAction) -> wire.TaskDone:
        return done(run, result=result)

    async with ScriptedExecutor(f"127.0.0.1:{front.engine.port}", script=echo):
        started = await front.start("many")
        wait = executions.WaitExecutionRequest(execution_id=started.id)
        assert (await front.executions.WaitExecution(wait)).reason == executions.WAIT_REASON_AT_REST
    request = executions.GetTaskRequest(task_execution_id=f"{started.id}.1")
    task = (await front.executions.GetTask(request)).task
    listed = await front.executions.ListTasks(executions.ListTasksRequest(execution_id=started.id, full=True))

    assert (task.result, list(task.left_out)) == ("", ["result"])
    assert list(listed.tasks) == [task]
    assert await front.value(task_execution_id=task.id, field="result") == f"[{','.join([result] * 5)}]"
    asked = actions.ListActionExecutionsRequest(execution_id=started.id, full=True)
    page = await front.actions.ListActionExecutions(asked)
    assert len(page.action_executions) == 3
    assert page.ByteSize() <= MESSAGE_BYTES_MAX


@pytest.mark.long("values of megabytes")
async def test_a_watcher_gets_no_message_that_is_too_large(front: Front) -> None:
    """A snapshot with 4,000,000 bytes of input, and changes with long reasons, come in messages within the limit."""
    await front.define(TEXT)
    started = await front.start("one", input=text_of(VALUE_BYTES_MAX))
    for _ in range(60):
        for request, method in (
            (executions.PauseExecutionRequest, front.executions.PauseExecution),
            (executions.ResumeExecutionRequest, front.executions.ResumeExecution),
        ):
            await method(request(execution_id=started.id, comment="ä" * 4_096))
    terminate = operation_pb2.Terminate()
    await front.executions.CancelExecution(
        executions.CancelExecutionRequest(execution_id=started.id, terminate=terminate)
    )
    messages = []
    for from_first in (False, True):
        watch = executions.WatchExecutionRequest(execution_id=started.id, from_first_change=from_first)
        messages += [message async for message in front.executions.WatchExecution(watch)]

    assert [message.ByteSize() <= MESSAGE_BYTES_MAX for message in messages].count(False) == 1
    assert max(message.ByteSize() for message in messages) < 4 * 1024 * 1024
    sequences = [change.sequence for message in messages for change in message.changes.changes]
    assert sequences == list(range(1, (await front.get(started.id)).revision + 1))


@pytest.mark.long("values of megabytes")
async def test_an_executor_with_grpcs_own_limits_gets_all(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 inputs and results of 900,000 characters of 2 bytes are sent and acknowledged: none ends the stream of an
    executor with a limit of 4 MiB."""
    monkeypatch.setattr(engines, "open_channel", lambda address, **_: grpc.aio.insecure_channel(address))
    await front.define(TEXT.replace("std.noop", "std.echo output=<% $.word %>"))
    given = json.dumps({"word": "ä" * 900_000}, ensure_ascii=False)

    def echo(run: wire.RunAction) -> wire.TaskDone:
        assert len(run.input.encode()) > 1_800_000
        return done(run, result=json.dumps("ö" * 900_000, ensure_ascii=False))

    started = [await front.start("one", input=given) for _ in range(8)]
    async with ScriptedExecutor(f"127.0.0.1:{front.engine.port}", script=echo) as executor:
        for each in started:
            waited = await front.executions.WaitExecution(executions.WaitExecutionRequest(execution_id=each.id))
            assert waited.execution.state == execution_pb2.EXECUTION_STATE_SUCCESS
        await engines.until(lambda: len(executor.acks) == 8)
        assert executor.errors == []
        assert {ack.verdict for ack in executor.acks} == {wire.ACK_VERDICT_ACCEPTED}


@pytest.mark.long("values of megabytes")
async def test_a_definition_of_4_000_000_bytes_fits_into_its_message(front: Front) -> None:
    """A definition has the limit of a value; read with all its parameters it is below gRPC's default limit."""
    text = f"{TEXT}# " + "x" * (VALUE_BYTES_MAX - len(TEXT) - 3) + "\n"
    assert len(text) == VALUE_BYTES_MAX
    defined = await front.define(text)

    request = workflows.GetWorkflowRequest(definition_id=defined.workflows[0].definition_id)
    assert (await front.workflows.GetWorkflow(request)).workflow.text == text
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await front.define(text + "#")
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.long("values of megabytes")
async def test_large_parameters_are_left_out_beside_a_large_text(front: Front) -> None:
    """A default of 3 MB is in the text and in the parameters: one of them is named, and read in pieces."""
    text = TEXT.replace("{word: ''}", "{word: '%s'}" % ("x" * 3_000_000))
    defined = await front.define(text)
    (one, _many) = defined.workflows
    assert one.parameters[0].name == "word"

    read = (await front.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="one"))).workflow

    assert (read.text, list(read.left_out)) == ("", ["text"])
    assert await front.value(definition_id=one.definition_id, field="text") == text
    parameters = json.loads(await front.value(definition_id=one.definition_id, field="parameters"))
    assert [(each["name"], len(each["default"])) for each in parameters] == [("word", 3_000_000)]


async def test_a_request_of_15_mib_reaches_the_engine(front: Front) -> None:
    """A request of up to 16 MiB is not refused for its size."""
    item_inputs = {index: text_of(VALUE_BYTES_MAX) for index in range(4)}
    task = operation_pb2.ResumeTask(task="say", items=list(item_inputs), item_inputs=item_inputs)
    request = executions.ResumeExecutionRequest(execution_id=UNKNOWN, tasks=[task])
    assert request.ByteSize() > 15 * 1024 * 1024

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await front.executions.ResumeExecution(request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_dry_run_is_cut_with_the_count() -> None:
    """Lists that make a dry run too large are cut, with the count of the other entries."""
    message = execution_pb2.DryRun(further={"kept": 7})
    for number in range(1_000):
        message.kept.add(name="k" * 3_000, number=number)
        message.starts.add(name="s" * 2_000, number=number)
    message.may_follow.extend(["f"] * 10)

    assert shorten(message).ByteSize() <= MESSAGE_BYTES_MAX

    assert len(message.kept) + message.further["kept"] == 1_007
    assert len(message.starts) + message.further["starts"] == 1_000
    assert (len(message.may_follow), "may_follow" in message.further) == (10, False)


def test_a_dry_run_that_just_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself is allowed; one byte less is not."""
    message = execution_pb2.DryRun(may_follow=["a" * 100, "b" * 100])
    monkeypatch.setattr(sizes, "CONTENT_BYTES_MAX", message.ByteSize())
    assert len(shorten(message).may_follow) == 2
    monkeypatch.setattr(sizes, "CONTENT_BYTES_MAX", message.ByteSize() - 1)
    assert len(shorten(message).may_follow) == 1


WIDE: list[tuple[str, Callable[[int], str]]] = [
    ("letters", lambda size: "x" * size),
    ("wide", lambda size: "ä" * (size // 2)),
]


@pytest.mark.parametrize(("kind", "filled"), WIDE, ids=[kind for kind, _ in WIDE])
def test_what_is_left_out_is_chosen_by_bytes(kind: str, filled: Callable[[int], str]) -> None:
    """The largest values are left out first, until the others fit; long texts are cut with their length."""
    del kind
    given: dict[str, Any] = {"input": filled(3_000_000), "output": filled(2_000_000), "params": filled(1_000_000)}
    message = fitted(execution_pb2.Execution(**given), ("input", "output", "params", "errors"))
    assert list(message.left_out) == ["input"]

    words = execution_pb2.Execution(state_info=filled(5_000_000), input="{}")
    fitted(words, ("input",), ("state_info",))
    assert (words.input, list(words.left_out)) == ("{}", [])
    assert words.state_info.endswith("… (5,000,000 bytes)")
    assert shortened("short") == "short"
