"""Rows and changes become messages of the contract."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from dalsegno.rpc import messages
from dalsegno.rpc.convert import duration
from dalsegno.rpc.journal import TEXT_BYTES, Named, change_message, entry_of, task_numbers
from dalsegno.rpc.messages import Awaited
from dalsegno.store.records import AttemptRow, DefinitionRow, EnvironmentRow, ExecutionRow, JournalChange, TaskRow
from dalsegno.v1 import definition_pb2, execution_pb2
from dalsegno.workflow import changes
from dalsegno.workflow.consolidated import Consolidated, Indexes, KeptEntry, KeptTask, Standing
from dalsegno.workflow.contexts.portable import to_portable
from dalsegno.workflow.records import Arrivals, Attempt, Progress, Publication, Timing
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

ID = "01890a5d-ac96-774b-bcce-b302099a8057"

EXECUTION = ExecutionRow(
    id=ID,
    namespace="",
    workflow="nightly",
    version=2,
    definition_id="d",
    language="mistral",
    input='{"a":1}',
    params='{"env":"staging"}',
    labels='{"team":"red"}',
    description="",
    root_id=ID,
    parent_id="",
    parent_task=0,
    parent_item=0,
    parent_attempt=0,
    deadline_s=None,
    created_s=10.0,
    actor="ada",
    comment="why",
    forked_from="",
    forked_from_sequence=0,
    forked_from_checkpoint="",
    state="RUNNING",
    info="",
    output=None,
    errors=None,
    revision=7,
    active_count=3,
    waits_for_delegates=False,
    started_s=11.0,
    ended_s=None,
    moved_s=11.0,
    updated_s=12.5,
)
TASK = TaskRow(
    execution_id=ID,
    number=17,
    name="fetch",
    generation=0,
    route=2,
    created_s=1.0,
    state="RUNNING_DELAYED",
    info="",
    timer="retry",
    due_s=20.5,
    timeout_due_s=None,
    verdict="",
    attempt=2,
    retries=1,
    item_count=10,
    added_count=8,
    ended_count=5,
    failed_count=1,
    cancelled_count=1,
    published='{"a":1}',
    source_count=1,
    next="[]",
    routed=False,
    handled=False,
    result_dropped=False,
    superseded_by="",
    tags='["slow"]',
    awaits="[]",
    awaits_count=0,
    started_s=2.0,
    ended_s=None,
)
ATTEMPT = AttemptRow(
    execution_id=ID,
    task=17,
    item=3,
    attempt=2,
    action="std.http",
    child_id="",
    safe=True,
    adhoc="",
    target="",
    digest="",
    timeout_s=5.0,
    input='{"url":"https://example.com"}',
    comment="again",
    actor="ada",
    created_s=1.0,
    reverts=0,
    copied=False,
    was_workflow=False,
    state="READY",
    undone=False,
    accepted=False,
    result=None,
    error="",
    delivery=0,
    session_id="",
    executor_id="",
    delegated=False,
    started_s=None,
    ended_s=None,
)
DEFINITION = DefinitionRow(
    definition_id="d",
    document_id="x",
    kind="workflow",
    namespace="",
    name="nightly",
    version=2,
    language="mistral",
    tags='["a","b"]',
    description="Runs at night.",
    input='[{"name":"url","required":true},{"name":"count","required":false,"default":3}]',
    created_s=1.0,
    actor="ada",
    comment="",
    deleted=False,
    text=None,
)


def test_an_execution_is_told_whole() -> None:
    """The message has every value of the row; an absent one is absent or empty."""
    message = messages.execution_message(EXECUTION, {"SUCCESS": 4, "RUNNING": 3}, Awaited(("executor",), 7))

    assert message.state == execution_pb2.EXECUTION_STATE_RUNNING
    assert message.environment == "staging"
    assert dict(message.labels) == {"team": "red"}
    assert {(each.state, each.count) for each in message.task_counts} == {
        (execution_pb2.TASK_STATE_SUCCESS, 4),
        (execution_pb2.TASK_STATE_RUNNING, 3),
    }
    assert message.output == ""
    assert not message.HasField("ended_at")
    assert message.updated_at.nanos == 500_000_000
    assert (list(message.waiting_for), message.further_waiting_for) == (["executor"], 7)


def test_a_listed_execution_has_no_values() -> None:
    """A row without values makes a message without them."""
    message = messages.execution_message(replace(EXECUTION, input=None, params=None), {})

    assert (message.input, message.params, message.environment) == ("", "", "")


def test_items_are_counted_by_how_they_stand() -> None:
    """Items that ended in ERROR or CANCELLED have failed; created ones that have not ended run."""
    message = messages.task_message(TASK, ATTEMPT)

    assert message.items == execution_pb2.ItemCounts(total=10, succeeded=3, failed=2, running=3)
    assert message.id == f"{ID}.17"
    assert (message.action, message.workflow, message.comment) == ("std.http", "", "again")
    assert message.next_at.seconds == 20
    assert list(message.tags) == ["slow"]


def test_a_task_without_items_has_no_counts() -> None:
    """Only a with-items task has ItemCounts."""
    assert not messages.task_message(replace(TASK, item_count=None)).HasField("items")


def test_a_task_with_a_child_runs_a_workflow() -> None:
    """A task with a sub-workflow shows it under `workflow` (S15)."""
    message = messages.task_message(TASK, replace(ATTEMPT, child_id="c", action="inner"), children=["c"])

    assert (message.action, message.workflow) == ("", "inner")
    assert list(message.child_execution_ids) == ["c"]


def test_a_ready_attempt_waits_for_an_executor() -> None:
    """The message shows what it waits for; without a timeout of its task it has a deadline when it is handed out."""
    ready = messages.action_message(ATTEMPT, EXECUTION, TASK, "executor")
    handed_out = messages.action_message(replace(ATTEMPT, state="RUNNING", deadline_s=105.0), EXECUTION, TASK)

    assert (ready.id, ready.waiting_for) == (f"{ID}.17.3.2", "executor")
    assert not ready.HasField("deadline")
    assert handed_out.waiting_for == ""
    assert handed_out.deadline.seconds == 105


def test_a_standalone_attempt_shows_no_execution() -> None:
    """The execution of a standalone action is not shown (S17)."""
    carrier = replace(EXECUTION, workflow="", namespace="n", comment="alone", actor="bob")
    message = messages.action_message(ATTEMPT, carrier, TASK)

    assert (message.execution_id, message.task_number, message.namespace) == ("", 0, "n")
    assert (message.comment, message.actor, dict(message.labels)) == ("alone", "bob", {"team": "red"})
    assert message.timeout.seconds == 5


def test_a_definition_is_told_with_its_parameters() -> None:
    """A default is JSON text; a parameter without a default has none."""
    workflow = messages.workflow_message(DEFINITION)
    action = messages.adhoc_message(DEFINITION)

    assert [(each.name, each.required, each.default) for each in workflow.parameters] == [
        ("url", True, ""),
        ("count", False, "3"),
    ]
    assert list(workflow.tags) == ["a", "b"]
    assert workflow.language == definition_pb2.LANGUAGE_MISTRAL
    assert action.kind == definition_pb2.ACTION_KIND_AD_HOC
    assert list(action.parameters) == list(workflow.parameters)


def test_an_environment_is_told() -> None:
    """The values of an environment are JSON text."""
    row = EnvironmentRow("", "staging", "", '{"a":1}', 3, 1.0, 2.0, "ada", "")

    message = messages.environment_message(row)

    assert (message.variables, message.revision, message.updated_at.seconds) == ('{"a":1}', 3, 2)


def value(data: object) -> Value:
    """Return a value."""
    return Value(text=json.dumps(data))


CONSOLIDATED = Consolidated(
    entry=KeptEntry(sequence=5, name="built"),
    created=changes.ExecutionCreated(
        execution_id=ID,
        definition_id="d",
        workflow="nightly",
        input=value({"a": 1}),
        forked_from=changes.Fork(execution_id="other", sequence=4, checkpoint="begun"),
    ),
    standing=Standing(state=ExecutionState.RUNNING, revision=5, moved_s=1.0, latest_s=1.0),
    tasks=(
        KeptTask(
            number=17,
            name="fetch",
            state=TaskState.RUNNING,
            arrivals=Arrivals(),
            timing=Timing(),
            progress=Progress(),
            publication=Publication(),
        ),
    ),
    attempts=(
        Attempt(key=(17, 0, 1), action="std.noop", input=value({}), state=AttemptState.RUNNING),
        Attempt(key=(17, 1, 1), action="sub", input=value({}), state=AttemptState.RUNNING, child_id="child"),
    ),
    contexts=to_portable([]),
    indexes=Indexes(),
)

CHANGES: list[tuple[changes.AnyChange | Consolidated, str, dict[str, Any]]] = [
    (
        changes.ExecutionCreated(execution_id=ID, definition_id="d", workflow="w", input=value({"a": 1})),
        "execution_created",
        {"workflow": "w", "input": '{"a": 1}', "language": definition_pb2.LANGUAGE_MISTRAL},
    ),
    (
        changes.ExecutionMoved(state=ExecutionState.SUCCESS, output=value(7)),
        "execution_moved",
        {"state": execution_pb2.EXECUTION_STATE_SUCCESS, "output": "7"},
    ),
    (
        changes.TaskAdded(task=17, name="fetch", state=TaskState.IDLE, sources=(3, 4)),
        "task_added",
        {"task_number": 17, "task_name": "fetch", "state": execution_pb2.TASK_STATE_IDLE, "sources": [3, 4]},
    ),
    (
        changes.TaskMoved(task=17, state=TaskState.RUNNING_DELAYED, due_s=5.0),
        "task_moved",
        {"task_number": 17, "task_name": "fetch", "state": execution_pb2.TASK_STATE_RUNNING_DELAYED},
    ),
    (
        changes.TaskRouted(task=17, next=(18,), handled=True),
        "task_routed",
        {"task_number": 17, "task_name": "fetch", "next": [18], "error_handled": True},
    ),
    (
        changes.AttemptsBegun(task=17, attempt=1, items=value([[1], [2]])),
        "attempts_begun",
        {"task_name": "fetch", "attempt": 1, "has_items": True, "items": 2},
    ),
    (
        changes.AttemptAdded(key=(17, 3, 2), action="std.echo", input=value({}), state=AttemptState.READY),
        "attempt_added",
        {"task_number": 17, "item": 3, "attempt": 2, "action": "std.echo", "task_name": "fetch", "input": "{}"},
    ),
    (
        changes.AttemptMoved(key=(17, 3, 2), state=AttemptState.ERROR, error="broke", delivery=2),
        "attempt_moved",
        {"item": 3, "state": execution_pb2.ACTION_STATE_ERROR, "error": "broke", "delivery": 2, "task_name": "fetch"},
    ),
    (
        changes.Published(task=17, values={"a": value(1), "b": value([2])}),
        "published",
        {"task_number": 17, "to_all": False, "values": '{"a":1,"b":[2]}'},
    ),
    (changes.GlobalsPublished(values={"a": value(1)}), "published", {"task_number": 0, "to_all": True}),
    (changes.TaskTimed(task=17, due_s=9.0), "other", {"name": "TaskTimed", "task_number": 17}),
    (
        changes.JoinReached(task=17, source=4),
        "other",
        {"name": "JoinReached", "detail": '{"task":17,"source":4,"branch":-1,"edition":0,"late":false}'},
    ),
    (changes.ErrorNoted(message="broke", task=17, name="fetch"), "other", {"name": "ErrorNoted", "task_number": 17}),
    (
        changes.RouteOpened(task=17, transition="fetch__t0"),
        "other",
        {"name": "RouteOpened", "task_number": 17},
    ),
    (changes.ResultDropped(task=17), "other", {"name": "ResultDropped"}),
    (
        changes.AttemptsBegun(task=17, attempt=2, only=(3, 5)),
        "attempts_begun",
        {"attempt": 2, "has_items": True, "only": [3, 5]},
    ),
    (
        changes.TaskSuperseded(task=17, by=changes.RepeatedBy.RERUN),
        "task_superseded",
        {"task_number": 17, "task_name": "fetch", "by": "workflow-rerun"},
    ),
    (
        changes.ContextEdited(task=17, values={"a": value(1)}, removed=("b",)),
        "context_edited",
        {"task_number": 17, "task_name": "fetch", "set": '{"a":1}', "unset": ["b"]},
    ),
    (
        changes.RoundPlanned(task=17, only=(3,), inputs={3: value({"n": 1})}),
        "other",
        {"name": "RoundPlanned", "task_number": 17},
    ),
    (
        changes.CheckpointReached(name="built", task=17, data=value({"n": 1}), route=2),
        "checkpoint_reached",
        {"name": "built", "task_number": 17, "task_name": "fetch", "data": '{"n": 1}', "route": 2},
    ),
    (changes.StopsSet(names=("built", "tested")), "stops_set", {"names": ["built", "tested"]}),
    (changes.RevertBegun(sequence=7, failure="it broke"), "revert_begun", {"failure": "it broke"}),
    (changes.Restored(sequence=7, tasks=(2, 3)), "restored", {"tasks": 2}),
    (changes.HistoryDiscarded(sequence=7), "history_discarded", {}),
    (CONSOLIDATED, "consolidated", {"tasks": 1, "actions": 1}),
    (changes.RevertMoved(end=7, state=changes.RevertState.DONE), "other", {"name": "RevertMoved"}),
    (changes.SubflowReverted(key=(17, 0, 1)), "other", {"name": "SubflowReverted"}),
    (changes.EnvironmentChanged(environment=value({"a": 1})), "other", {"detail": '{"environment":{"a":1},"entry":0}'}),
]


@pytest.mark.parametrize(("change", "kind", "told"), CHANGES, ids=lambda each: type(each).__name__)
def test_a_change_is_told(change: changes.AnyChange | Consolidated, kind: str, told: dict[str, Any]) -> None:
    """Each change of the core has its message, with names for numbers."""
    row = JournalChange(sequence=5, at_s=1.0, actor="ada", comment="why", event="task_done", change=change)

    message = change_message(ID, row, {17: Named("fetch", has_items=True)}, {})

    assert message.WhichOneof("kind") == kind
    assert (message.sequence, message.actor, message.comment, message.cause) == (5, "ada", "why", "task_done")
    detail = getattr(message, kind)
    for name, expected in told.items():
        found = getattr(detail, name)
        assert (list(found) if isinstance(expected, list) else found) == expected


def test_every_kind_of_change_is_tried() -> None:
    """Every change of the core has a message."""
    assert {type(change) for change, _, _ in CHANGES} >= {*get_args(changes.AnyChange), Consolidated}


def test_a_large_value_is_left_out_of_a_change() -> None:
    """A page of changes stays small: a large value is read from its resource."""
    large = value("ä" * (TEXT_BYTES // 2))
    for change, field in (
        (changes.ExecutionMoved(state=ExecutionState.SUCCESS, output=large), "execution_moved.output"),
        (changes.Published(task=17, values={"a": large}), "published.values"),
    ):
        row = JournalChange(sequence=5, at_s=1.0, actor="", comment="", event="task_done", change=change)
        kind, name = field.split(".")

        message = change_message(ID, row, {}, {})

        assert getattr(getattr(message, kind), name) == ""
        assert list(message.left_out) == [name]


def test_what_is_left_of_the_past_tells_how_it_was_created() -> None:
    """Decision 24: Consolidated tells its entry, and the creation, which is no change of its own any more."""
    row = JournalChange(sequence=5, at_s=1.0, actor="", comment="", event="task_done", change=CONSOLIDATED)
    told = change_message(ID, row, {}, {}).consolidated
    assert (told.entry.name, told.entry.sequence) == ("built", 5)
    assert (told.created.workflow, json.loads(told.created.input)) == ("nightly", {"a": 1})
    origin = execution_pb2.ForkOrigin(execution_id="other", sequence=4, checkpoint="begun")
    assert told.created.forked_from == origin


def test_a_fork_tells_what_it_was_forked_from() -> None:
    """Decision 21: an execution tells where its journal begins and which entry of another one that was; its attempts
    tell whether they are copies."""
    row = replace(
        EXECUTION, first_sequence=4, forked_from="other", forked_from_sequence=5, forked_from_checkpoint="built"
    )
    message = messages.execution_message(row, {})
    origin = execution_pb2.ForkOrigin(execution_id="other", sequence=5, checkpoint="built")
    assert (message.first_sequence, message.forked_from) == (4, origin)
    assert not messages.execution_message(EXECUTION, {}).HasField("forked_from")
    assert messages.action_message(replace(ATTEMPT, copied=True), EXECUTION, TASK).copied


def test_an_item_is_told_only_of_tasks_that_have_items() -> None:
    """The first item differs from no item."""
    moved = changes.AttemptMoved(key=(17, 0, 1), state=AttemptState.RUNNING)
    row = JournalChange(sequence=5, at_s=1.0, actor="", comment="", event="handed_out", change=moved)

    with_items = change_message(ID, row, {17: Named("fetch", has_items=True)}, {}).attempt_moved
    without = change_message(ID, row, {17: Named("fetch")}, {}).attempt_moved

    assert (with_items.HasField("item"), with_items.item) == (True, 0)
    assert not without.HasField("item")


def test_a_delegated_attempt_tells_when_it_must_be_heard_and_how_its_callbacks_are_signed() -> None:
    """A change that sets neither has no time and no scheme."""
    key, state = (17, 0, 1), AttemptState.RUNNING
    delegated = changes.AttemptMoved(
        key=key, state=state, delegated=True, heartbeat_timeout_s=2.5, signature=changes.Signature.GITHUB
    )
    told, untold = (
        change_message(ID, JournalChange(5, 1.0, "", "", "task_done", change), {}, {}).attempt_moved
        for change in (delegated, changes.AttemptMoved(key=key, state=state))
    )
    assert (told.heartbeat_timeout, told.signature) == (duration(2.5), execution_pb2.SIGNATURE_SCHEME_GITHUB)
    assert not untold.HasField("heartbeat_timeout")
    assert untold.signature == execution_pb2.SIGNATURE_SCHEME_UNSPECIFIED


def test_names_are_asked_for_only_where_they_are_told() -> None:
    """Only changes that name a task by its number ask for its name."""
    assert task_numbers(changes.AttemptMoved(key=(17, 0, 1), state=AttemptState.RUNNING)) == (17,)
    assert task_numbers(changes.ExecutionMoved(state=ExecutionState.RUNNING)) == ()


def test_a_pause_at_a_checkpoint_names_its_entry() -> None:
    """The change has the sequence number of the entry; the message has its name too."""
    paused = changes.ExecutionMoved(state=ExecutionState.PAUSED, paused_at=7)
    row = JournalChange(sequence=9, at_s=1.0, actor="", comment="", event="task_done", change=paused)

    moved = change_message(ID, row, {}, {7: "built"}).execution_moved

    assert (moved.paused_at.name, moved.paused_at.sequence) == ("built", 7)
    assert (entry_of(paused), entry_of(changes.StopsSet(names=()))) == (7, 0)


def test_an_end_names_the_checkpoint_that_was_not_reached() -> None:
    """Whoever follows the execution sees what it did not come to."""
    ended = changes.ExecutionMoved(state=ExecutionState.SUCCESS, not_reached="built")
    row = JournalChange(sequence=9, at_s=1.0, actor="", comment="", event="task_done", change=ended)

    moved = change_message(ID, row, {}, {}).execution_moved

    assert (moved.not_reached, moved.HasField("paused_at")) == ("built", False)


def test_going_back_names_its_entry() -> None:
    """The beginning of a revert and its end name the entry, and `start`, which has no row, by its name too."""
    for change, kind, field in (
        (changes.RevertBegun(sequence=7), "revert_begun", "to"),
        (changes.Restored(sequence=7), "restored", "to"),
        (changes.HistoryDiscarded(sequence=7), "history_discarded", "before"),
    ):
        row = JournalChange(sequence=9, at_s=1.0, actor="", comment="", event="go_to_requested", change=change)
        message = change_message(ID, row, {}, {7: "built"})
        told = getattr(getattr(message, kind), field)

        assert (told.name, told.sequence, entry_of(change)) == ("built", 7, 7)


def test_an_attempt_that_undoes_is_marked() -> None:
    """Whoever follows the execution tells a revert from an attempt of a round."""
    added = changes.AttemptAdded(key=(17, 0, 2), action="undo", input=value({}), state=AttemptState.READY, reverts=5)
    row = JournalChange(sequence=9, at_s=1.0, actor="", comment="", event="go_to_requested", change=added)

    assert change_message(ID, row, {}, {}).attempt_added.revert
