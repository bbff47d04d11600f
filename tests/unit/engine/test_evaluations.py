"""Values that take their time: whose event waits for them, who continues meanwhile, and which values count."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.definitions.long_texts import mistral
from tests.unit.engine.conftest import Desk

from dalsegno.engine.desk import server
from dalsegno.expressions.pool.jobs import JobOutcome, Ticket
from dalsegno.expressions.pool_client import POOL
from dalsegno.store.filters import Filter, Term
from dalsegno.v1 import engine_service_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows

SLOW = "'aaaaaaaaaaaaaaaaaaaaaa!'.matches('^(a+)+$')"
"""Takes a quarter of a second, in a regular expression that no budget counts, and is false."""
SLOW_S = 60.0
"""As long as slow expressions may take where many tests run at once."""

WORKFLOWS = f"""
version: '2.0'
slow_start:
  output: {{said: <% $.said %>}}
  tasks:
    first:
      action: std.echo
      input: {{output: "<% {SLOW} %> <% uuid() %> <% now() %>"}}
      publish: {{said: <% task().result %>}}
quick:
  tasks:
    one: {{action: std.noop, on-success: two}}
    two: {{action: std.noop}}
beside:
  input: [rounds]
  vars: {{n: 0}}
  output: {{found: <% $.get(found) %>}}
  tasks:
    branch: {{action: std.noop, publish: {{found: "<% {SLOW} %>"}}, on-success: after}}
    after: {{action: std.noop}}
    begin: {{action: std.noop, on-success: loop}}
    loop:
      action: std.noop
      publish: {{n: <% $.n + 1 %>}}
      on-success: [{{loop_on: <% $.n < $.rounds %>}}]
    loop_on:
      action: std.noop
      publish: {{n: <% $.n + 1 %>}}
      on-success: [{{loop: <% $.n < $.rounds %>}}]
watcher:
  output: {{seen: <% $.seen %>}}
  tasks:
    look: {{action: std.noop, publish: {{seen: "<% [{SLOW}, task(other).state] %>"}}}}
    other: {{action: std.noop}}
wide:
  output: {{count: <% $.all.len() %>, kinds: <% $.all.distinct() %>}}
  tasks:
    begin: {{action: std.noop, on-success: each}}
    each:
      with-items: i in <% range(0, 275) %>
      action: std.echo output="<% regex('^(a+)+$').matches('aaaaaaaaaaaaaaaaaaa!' + str($.i mod 1)) %>"
      publish: {{all: <% task().result %>}}
listing:
  output: {{seen: <% $.seen %>}}
  tasks:
    look: {{action: std.noop, publish: {{seen: "<% [{SLOW}, executions(state => RUNNING).len() >= 0] %>"}}}}
twins:
  output: {{ids: <% $.ids %>}}
  tasks:
    each:
      with-items: i in <% [1, 1, 1] %>
      action: std.echo output="<% str({SLOW}) + uuid() %>"
      publish: {{ids: <% task().result.distinct().len() %>}}
"""


AFTER = Filter((Term("name", "=", ("after",)),))
OTHER = Filter((Term("name", "=", ("other",)),))


def echo(run: wire.RunAction) -> wire.TaskDone:
    """What std.echo and std.noop answer."""
    return done(run, result=json.dumps(json.loads(run.input).get("output")))


def _output(row: Any) -> Any:
    return json.loads(row.output or "null")


class HeldValues:
    """Holds back the values that come from the pool, until the test lets them go: so the test says what happens before,
    however fast or slow the machine is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._held: list[Callable[[], None]] = []
        self._is_over = False
        self._submit = POOL.submit
        monkeypatch.setattr(POOL, "submit", self._submit_held)

    def _submit_held(self, job: Any, answers: Any, owner: str, on_done: Callable[[JobOutcome], None]) -> Ticket:
        def done(outcome: JobOutcome) -> None:
            with self._lock:
                if not (self._is_over or outcome.needed):
                    self._held.append(partial(on_done, outcome))
                    return
            on_done(outcome)

        return self._submit(job, answers, owner, done)

    async def wait(self) -> None:
        """Return once a value has come."""
        await until(lambda: self._held, timeout_s=SLOW_S)

    def let_go(self) -> None:
        """Hand over what has come, and hold nothing back from now on."""
        with self._lock:
            self._is_over = True
        for hand_over in self._held:
            hand_over()


async def _prepared(desk: Desk) -> ScriptedExecutor:
    await desk.create(WORKFLOWS)
    return ScriptedExecutor(desk.address, echo)


async def test_a_start_with_a_slow_expression_is_answered_and_others_go_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that the start is stepped again it is the same execution; nobody else waits for its expression."""
    async with await _prepared(desk):
        held = HeldValues(monkeypatch)
        slow = asyncio.create_task(desk.start("slow_start"))
        await held.wait()
        quick = await desk.start("quick")
        assert (await desk.wait(quick.id)).state == "SUCCESS"
        assert not slow.done()
        held.let_go()
        execution = await slow
        row = await desk.wait(execution.id, timeout_s=SLOW_S)
    assert row.state == "SUCCESS"
    assert _output(row)["said"].startswith("False ")
    assert (
        len([row for row in desk.read(lambda queries: queries.executions()).rows if row.workflow == "slow_start"]) == 1
    )


async def test_a_dry_run_with_a_slow_expression_is_answered(desk: Desk) -> None:
    """The same for a request that only asks what would happen."""
    await desk.create(WORKFLOWS)
    request = executions.StartExecutionRequest(workflow="slow_start", dry_run=True)
    answer = await desk.submit("start_execution", request)
    assert [task.name for task in answer.dry_run.starts] == ["first"]


async def test_a_slow_branch_goes_on_beside_a_loop_of_quick_tasks(desk: Desk) -> None:
    """What happens in the execution meanwhile makes nothing of the branch's value stale, as it did not ask about it."""
    async with await _prepared(desk):
        execution = await desk.start("beside", input='{"rounds": 100000}')
        ends = time.monotonic() + SLOW_S  # the loop takes longer than that
        while time.monotonic() < ends:
            if desk.read(lambda queries: queries.tasks(execution.id, AFTER)).rows:
                break
            await asyncio.sleep(0.02)
        row = desk.execution(execution.id)
        assert row.state == "RUNNING"
        cancel = executions.CancelExecutionRequest(execution_id=execution.id)
        cancel.terminate.message = "seen enough"
        await desk.submit("cancel_execution", cancel)


async def test_a_value_counts_only_while_what_it_was_made_from_is_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expression that asks about another task is evaluated again when that has moved on meanwhile."""
    runs: list[wire.RunAction] = []

    def script(run: wire.RunAction) -> wire.TaskDone | None:
        if run.context.task_name == "other":
            runs.append(run)
            return None
        return echo(run)

    def look(queries: Any) -> Any:
        return queries.tasks(execution.id, OTHER)

    await desk.create(WORKFLOWS)
    async with ScriptedExecutor(desk.address, script) as executor:
        held = HeldValues(monkeypatch)
        execution = await desk.start("watcher")
        await held.wait()
        await until(lambda: runs)
        await executor.finish(runs[0], echo(runs[0]))
        await until(lambda: [row.state for row in desk.read(look).rows] == ["SUCCESS"])
        held.let_go()
        row = await desk.wait(execution.id, timeout_s=SLOW_S)
    assert _output(row) == {"seen": [False, "SUCCESS"]}


@pytest.mark.long("seconds of regular expressions")
async def test_all_items_are_asked_for_at_once(desk: Desk) -> None:
    """275 items with a regular expression of some 20 ms each are evaluated together, in as many processes as cores."""
    async with await _prepared(desk):
        row = await desk.wait((await desk.start("wide")).id, timeout_s=SLOW_S)
    assert (row.state, _output(row)) == ("SUCCESS", {"count": 275, "kinds": [False]})


async def test_what_the_event_itself_changes_makes_nothing_stale(desk: Desk) -> None:
    """The time at which its task ends is the same whenever the event is stepped again."""
    text = f"""
    version: 1.0
    name: example.own
    output: [{{seen: <% ctx(seen) %>}}]
    tasks:
      look:
        action: core.noop
        next: [{{publish: [{{seen: "<% [{SLOW}, 1, task(look).task_name] %>"}}], do: noop}}]
    """
    await desk.create(text)
    async with ScriptedExecutor(desk.address, echo, actions=(("core.noop", True),)):
        row = await desk.wait((await desk.start("example.own")).id, timeout_s=SLOW_S)
    assert _output(row)["seen"][::2] == [False, "look"]


@pytest.mark.long("many evaluations that take long")
async def test_what_others_do_does_not_starve_anybody(desk: Desk) -> None:
    """An expression that asks about other executions has a value though they change all the time."""
    async with await _prepared(desk):
        slow = await desk.start("listing")
        ends = time.monotonic() + SLOW_S
        while desk.execution(slow.id).state == "RUNNING" and time.monotonic() < ends:
            await desk.start("quick")
        assert _output(desk.execution(slow.id)) == {"seen": [False, True]}


async def test_equal_items_have_random_values_of_their_own(desk: Desk) -> None:
    """Values that were made from the same are not taken for one another's."""
    async with await _prepared(desk):
        row = await desk.wait((await desk.start("twins")).id, timeout_s=SLOW_S)
    assert _output(row) == {"ids": 3}


async def test_a_request_whose_caller_has_gone_is_dropped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits for any more is not stored when its value comes."""
    await desk.create(WORKFLOWS)
    execution_id = str(uuid.uuid4())
    request = executions.StartExecutionRequest(workflow="slow_start", execution_id=execution_id)
    write = engine_service_pb2.SubmitRequest(actor="tester", start_execution=request)
    held = HeldValues(monkeypatch)
    call = desk.stub.Submit(write)
    await held.wait()
    deferred = desk.engine.conductor._deferred
    await until(lambda: deferred._waiting)
    assert call.cancel()
    await until(lambda: not any(work.is_wanted for work in deferred._waiting))
    held.let_go()
    await until(lambda: not deferred)
    assert desk.read(lambda queries: queries.execution(execution_id)) is None


async def test_an_answer_that_takes_longer_holds_up_no_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of writes that travel together the quick ones are answered at once, the slow one is asked for apart."""
    await desk.create(WORKFLOWS)
    writes = [
        engine_service_pb2.SubmitRequest(
            actor="tester", start_execution=executions.StartExecutionRequest(workflow=name), takes_later=True
        )
        for name in ("slow_start", "quick")
    ]
    held = HeldValues(monkeypatch)
    slow, quick = (await desk.stub.SubmitMany(engine_service_pb2.SubmitManyRequest(writes=writes), timeout=60)).results
    assert quick.answer.start_execution.execution.id
    assert slow.answer.later
    held.let_go()
    awaited = await desk.stub.Await(engine_service_pb2.AwaitRequest(later=slow.answer.later), timeout=60)
    assert awaited.answer.start_execution.execution.workflow == "slow_start"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.stub.Await(engine_service_pb2.AwaitRequest(later=slow.answer.later), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.long("many evaluations that take long")
async def test_a_quick_write_does_not_wait_for_slow_ones_that_travel_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long definition is compiled meanwhile: its answer is asked for apart, or comes with the others if the caller
    asks for nothing apart."""
    monkeypatch.setattr(server, "TOGETHER_S", 0.0)
    await desk.create(WORKFLOWS)
    create = workflows.CreateDefinitionsRequest(text=mistral(50_000))
    start = executions.StartExecutionRequest(workflow="quick")
    writes = [
        engine_service_pb2.SubmitRequest(actor="tester", create_definitions=create, takes_later=True),
        engine_service_pb2.SubmitRequest(actor="tester", start_execution=start, takes_later=True),
    ]
    slow, quick = (await desk.stub.SubmitMany(engine_service_pb2.SubmitManyRequest(writes=writes), timeout=60)).results
    assert quick.answer.start_execution.execution.id
    awaited = await desk.stub.Await(engine_service_pb2.AwaitRequest(later=slow.answer.later), timeout=60)
    assert [each.name for each in awaited.answer.create_definitions.workflows]
    writes[0].takes_later = False
    slow, quick = (await desk.stub.SubmitMany(engine_service_pb2.SubmitManyRequest(writes=writes), timeout=60)).results
    assert slow.answer.HasField("create_definitions")
    assert quick.answer.start_execution.execution.id
    assert not (await desk.stub.SubmitMany(engine_service_pb2.SubmitManyRequest(), timeout=60)).results
