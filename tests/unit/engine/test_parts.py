"""The small parts: tokens, feed, settings, copies, message ids, limits."""

from __future__ import annotations

import asyncio
import tracemalloc
import uuid
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from dalsegno.engine.batches.batch import _within_limits
from dalsegno.engine.batches.cache import CompiledWorkflows, Copy, ExecutionCache
from dalsegno.engine.batches.outbox import MessageIds
from dalsegno.engine.executors.reports import UnfitReport, read_greeting, read_report
from dalsegno.engine.executors.tokens import Tokens, new_key
from dalsegno.engine.feed import DELETED, HINTS_MAX, Feed, Hint
from dalsegno.engine.settings import read_settings
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1.definition_pb2 import Parameter
from dalsegno.workflow.changes import (
    AnyChange,
    Arrival,
    CheckpointReached,
    Edit,
    ExecutionCreated,
    GlobalsPublished,
    RevertBegun,
    RevertMoved,
    RevertState,
    StopsSet,
)
from dalsegno.workflow.events import TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.refusals import InvalidRequest, PermissionDenied
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import Value, text_fault


def test_token_names_attempt_and_delivery() -> None:
    """A token gives back what it was made for; changed in any part, or by another key, it is not genuine."""
    tokens = Tokens(new_key())
    attempt = "01890a5d-ac96-774b-bcce-b302099a8057.1.0.2"
    token = tokens.make(attempt, 3)
    assert tokens.read(token) == ("01890a5d-ac96-774b-bcce-b302099a8057", (1, 0, 2), 3)
    forged = [token[:-1], token.replace(":3:", ":4:"), token.replace(".2:", ".3:"), "", "ä:1:b", token + "0"]
    for wrong in [*forged, Tokens(new_key()).make(attempt, 3)]:
        with pytest.raises(PermissionDenied):
            tokens.read(wrong)


async def test_slow_follower_gets_fewer_hints() -> None:
    """Hints are merged per execution and bounded; a follower that has left gets none."""
    feed = Feed()
    follower, gone = feed.follow(), feed.follow()
    feed.leave(gone)
    feed.send({"a": Hint(1)})
    feed.send({"a": Hint(2), "b": DELETED})
    assert await follower.take(1) == {"a": Hint(2), "b": DELETED}
    assert await follower.take(0.01) == {}
    feed.send({str(number): Hint(number) for number in range(HINTS_MAX + 10)})
    assert len(await follower.take(1)) == HINTS_MAX
    assert await asyncio.wait_for(gone.take(0.01), 1) == {}


def test_settings_come_from_options_then_environment_then_defaults() -> None:
    """An option wins over its variable, a variable over the default."""
    environment = {"DALSEGNO_ENGINE_LISTEN": "127.0.0.1:1", "DALSEGNO_ENGINE_LEASE_S": "3"}
    settings = read_settings(["--listen", "127.0.0.1:2"], environment)
    assert (settings.listen, settings.lease_s, settings.heartbeat_s) == ("127.0.0.1:2", 3.0, 5.0)


def test_message_ids_are_in_the_order_in_which_they_were_written() -> None:
    """Also when the clock stands still or is set back."""
    ids = MessageIds()
    written = [ids.next(at_s) for at_s in (10.0, 10.0, 9.0, 10.5)]
    assert written == sorted(set(written))


def test_cache_drops_the_least_recently_used() -> None:
    """Copies are bounded by what they weigh, and the newest is always kept."""
    copies = ExecutionCache(20_000, CompiledWorkflows(lambda row: Workflow("w", {})))
    made = [copy_of(str(number)) for number in range(5)]
    for copy in made[:3]:
        copies.put(copy)
    copies.put(made[0])
    copies.put(made[3])
    assert len(copies) == 3
    assert "1" not in copies._copies
    made[4].value_bytes = 100_000
    copies.put(made[4])
    assert list(copies._copies) == ["4"]


def test_cache_drops_what_is_at_rest_first() -> None:
    """An execution at rest is kept for a rerun, in a share of the cache, and goes before any that still runs."""
    copies = ExecutionCache(40_000, CompiledWorkflows(lambda row: Workflow("w", {})))
    running, ended = [copy_of(f"r{number}") for number in range(7)], [copy_of(f"e{number}") for number in range(2)]
    for copy in ended:
        copy.execution.state = ExecutionState.SUCCESS
    copies.put(running[0])
    copies.put(ended[0])
    assert list(copies._copies) == ["r0", "e0"]
    copies.put(ended[1])
    assert list(copies._copies) == ["r0", "e1"]
    for copy in running[1:5]:
        copies.put(copy)
    assert "e1" in copies._copies
    copies.put(running[5])
    assert list(copies._copies) == [f"r{number}" for number in range(6)]
    ended[0].execution.state = ExecutionState.RUNNING
    copies.put(ended[0])
    assert list(copies._copies) == [*(f"r{number}" for number in range(1, 6)), "e0"]


def test_cache_keeps_few_of_those_that_wait_for_third_parties() -> None:
    """A delegate that waits has no memory: small executions that wait for nothing else have a small share of the cache,
    the newest ones; those that also run something, and large ones, are kept like any other (P12)."""
    copies = ExecutionCache(1_000_000, CompiledWorkflows(lambda row: Workflow("w", {})))
    waiting = [copy_of(f"w{number}") for number in range(40)]
    other = [copy_of("runs"), copy_of("large")]
    for copy in [*waiting, *other]:
        copy.execution.delegates[1, 0, 1] = None
    other[0].execution.active_count = 1
    other[1].value_bytes = 100_000
    for copy in [*other, *waiting]:
        copies.put(copy)
    kept = [name for name in copies._copies if name.startswith("w")]
    assert kept == [f"w{number}" for number in range(40 - len(kept), 40)]
    assert 1 <= len(kept) <= 20_000 / waiting[0].weight
    assert {"runs", "large"} <= copies._copies.keys()
    waiting[39].execution.delegates.clear()
    copies.put(waiting[39])
    assert "w39" not in copies._waiting
    assert copies._waiting_weight == sum(copies._copies[name][1] for name in copies._waiting)


@pytest.mark.parametrize("state", [ExecutionState.RUNNING, ExecutionState.SUCCESS])
def test_execution_at_rest_keeps_long_values_as_text(state: ExecutionState) -> None:
    """Parsed, a value takes up to thirty times its text. It is made again when somebody asks for it."""
    long, short = Value(data=[{"a": 1}] * 10_000), Value(data={"b": 2})
    copy = copy_of("e", {"long": long, "short": short})
    copy.execution.state = state
    known = long.data
    ExecutionCache(1 << 20, CompiledWorkflows(lambda row: Workflow("w", {}))).put(copy)
    assert (long.data is known) == (state is ExecutionState.RUNNING)
    assert long.data == known
    assert short.data == {"b": 2}


@pytest.mark.parametrize(
    "member",
    [[0], {}, {"a": 1}, 1.5, "short", {"id": "x", "name": "a name", "tags": ["a", "b"], "state": "ok"}, ["a" * 500]],
)
def test_weight_of_an_execution_is_the_memory_of_its_values(member: object) -> None:
    """Its text and its parsed form, which takes up to thirty times the text: the cache keeps no more than it may."""
    value = Value(text=Value(data=[member] * 20_000).text)
    weight = copy_of("e", {"x": value}).weight
    tracemalloc.start()
    try:
        parsed = value.data
        memory = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert parsed == [member] * 20_000
    assert memory / 1.2 < weight < 3 * memory + 3 * len(value.text)


def copy_of(execution_id: str, published: dict[str, Value] | None = None) -> Copy:
    created = ExecutionCreated(execution_id=execution_id, definition_id="d", workflow="w")
    if published is not None:
        return Copy(Execution(created), Workflow("w", {}), [created, GlobalsPublished(values=published)])
    return Copy(Execution(created), Workflow("w", {}), [created])


def test_result_beyond_the_limits_is_a_failure() -> None:
    """A result that is too large, or one that would bring its execution over 64 MiB, fails its action and says so."""
    copy = copy_of("e")
    small = TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, result=Value(text='"x"'))
    assert _within_limits(copy, small) is small
    copy.value_bytes = 64 << 20
    full = _within_limits(copy, small)
    assert isinstance(full, TaskDone)
    assert (full.outcome, full.result) == ("failed", None)
    assert "result too large" in full.error


@pytest.mark.parametrize(
    "change",
    [
        CheckpointReached(name="c", task=1, data=Value(data="x" * 98)),
        StopsSet(names=("c",), arrival=Arrival(edit=Edit(values={"a": Value(data="x" * 98)}))),
        RevertBegun(sequence=5, arrival=Arrival(edit=Edit(values={"a": Value(data="x" * 98)}))),
        RevertMoved(end=5, state=RevertState.DONE, published={"a": Value(data="x" * 98)}),
    ],
    ids=lambda change: type(change).__name__,
)
def test_values_of_checkpoints_count_towards_the_limits(change: AnyChange) -> None:
    """The data of a checkpoint, an edit on arrival and what a revert publishes are values of the execution too."""
    copy = copy_of("e")
    before = copy.value_bytes
    assert copy.count([change]) == copy.value_bytes - before == 100
    assert (
        copy.count([StopsSet(), RevertBegun(sequence=5, arrival=Arrival()), CheckpointReached(name="c", task=1)]) == 0
    )


DELEGATED = wire.TASK_OUTCOME_DELEGATED
EXECUTION = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_report_is_read_or_refused() -> None:
    """Outcomes map to events; without an outcome, a delivery or an id they are refused, also with an unfit result."""
    name = f"{EXECUTION}.1.0.1"
    fine = wire.TaskDone(action_execution_id=name, delivery=2, outcome=wire.TASK_OUTCOME_SUCCEEDED, result="[1]")
    execution_id, event = read_report(fine)
    assert (execution_id, event.key, event.outcome, event.delivery) == (EXECUTION, (1, 0, 1), "succeeded", 2)
    assert event.result == Value(text="[1]")
    fine.result = "[NaN]"
    for wrong in (
        fine,
        wire.TaskDone(action_execution_id=name, delivery=2),
        wire.TaskDone(action_execution_id=name, outcome=wire.TASK_OUTCOME_FAILED),
        wire.TaskDone(action_execution_id=EXECUTION, delivery=2, outcome=wire.TASK_OUTCOME_FAILED),
    ):
        with pytest.raises(UnfitReport):
            read_report(wrong)


def test_sizes_are_bytes_where_limits_are_bytes() -> None:
    """A text of three million characters of two bytes each is over 4 MiB: as a result, and as what a change holds."""
    long = Value(text='"' + "ö" * 3_000_000 + '"')
    copy = copy_of("e")
    event = _within_limits(copy, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, result=long))
    assert (event.outcome, event.error) == ("failed", "result too large: 6,000,002 bytes")
    before = copy.value_bytes
    assert copy.count([GlobalsPublished(values={"a": long})]) == copy.value_bytes - before == 6_000_002
    assert Value(text='"' + "ö" * 600 + '"').is_large
    assert unfit(result=long.text).error == "result too large: 6,000,002 bytes, at most 4,000,000"
    refused = unfit(result='["' + "x" * 1_100_000 + '\\u0000"]')
    assert refused.error == "result unfit: $[0]: holds a NUL character"


def unfit(**told: Any) -> UnfitReport:
    """How an outcome with this is refused."""
    name = {"action_execution_id": f"{EXECUTION}.1.0.1", "delivery": 1, "outcome": wire.TASK_OUTCOME_SUCCEEDED}
    with pytest.raises(UnfitReport) as caught:
        read_report(wire.TaskDone(**{**name, **told}))
    return caught.value


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"result": '"\\ud800"'}, "result unfit: not JSON: no low surrogate in string"),
        ({"result": '"a\0"'}, "the result holds, as character 3, NUL"),
        ({"error": "disk\0full", "outcome": wire.TASK_OUTCOME_FAILED}, "the error was: disk\\0full"),
        ({"error": "by\0hand", "outcome": wire.TASK_OUTCOME_CANCELLED}, "the error of the action holds"),
        ({"alias": "order\0", "outcome": wire.TASK_OUTCOME_DELEGATED}, "the alias holds, as character 6, NUL"),
        ({"alias": "o" * 256, "outcome": wire.TASK_OUTCOME_DELEGATED}, "alias has 256 characters; at most 255"),
        ({"completion_timeout": Duration(seconds=10**12), "outcome": DELEGATED}, "completion_timeout is not"),
        ({"completion_timeout": Duration(seconds=-1), "outcome": DELEGATED}, "is negative"),
        ({"completion_timeout": Duration(seconds=1)}, "completion_timeout goes with DELEGATED only"),
    ],
)
def test_outcome_that_is_unfit_is_a_failure_that_can_be_kept(told: dict[str, Any], said: str) -> None:
    """When an outcome says what it must not, its action fails with a reason that every store can hold."""
    refused = unfit(**told)
    assert refused.about == (EXECUTION, (1, 0, 1))
    assert said in refused.error
    assert text_fault(refused.error) == ""


def test_outcome_of_an_unfit_id_is_refused() -> None:
    """An id that no execution can have is refused before any store is asked for it."""
    refused = unfit(action_execution_id="e\0.1.0.1")
    assert str(refused).startswith("action_execution_id holds, as character 2, NUL")
    assert refused.about is None


def test_hello_with_what_cannot_be_stored_is_refused() -> None:
    """NUL in the id, a label, a description, and NUL or half of a pair in a default: each field is named."""
    parameters = [Parameter(name="a", default='"\\ud800"')], [Parameter(name="b", default='"\\u0000"')]
    hello = wire.Hello(
        executor_id="executor\0",
        session_id=str(uuid.uuid4()),
        slots=1,
        labels={"zone": "a\0", "z\0ne": "a"},
        actions=[
            wire.ActionDescription(name=f"pack.a{number}", description="does\0", parameters=each)
            for number, each in enumerate(parameters)
        ],
    )
    with pytest.raises(InvalidRequest) as caught:
        read_greeting(hello)
    assert sorted(violation.subject for violation in caught.value.violations) == [
        "hello.actions[0].description",
        "hello.actions[0].parameters",
        "hello.actions[1].description",
        "hello.actions[1].parameters",
        "hello.executor_id",
        "hello.labels['z\\x00ne']",
        "hello.labels['zone']",
    ]


def test_hello_is_refused_for_all_that_is_wrong() -> None:
    """Every wrong field of a Hello is named."""
    hello = wire.Hello(
        session_id="x",
        labels={"no label": "a"},
        actions=[wire.ActionDescription(name="no name", answer_schema="question")],
        in_flight=[wire.DeliveryReference()],
    )
    with pytest.raises(InvalidRequest) as caught:
        read_greeting(hello)
    assert [violation.subject for violation in caught.value.violations] == [
        "hello.executor_id",
        "hello.session_id",
        "hello.slots",
        "hello.actions[0].name",
        "hello.actions[0].answer_schema",
        "hello.in_flight[0].action_execution_id",
        "hello.labels['no label']",
    ]
