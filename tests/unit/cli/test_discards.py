"""Discarded history and forks at the command line: what is sent, what is printed, what a watcher sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.cli.conftest import Ended
from tests.unit.cli.test_checkpoints import execution, reached
from tests.unit.cli.test_watching import CHILD, ID, changes, drawn, snapshot, task_moved

from dalsegno.cli.connection import connect
from dalsegno.cli.execution_view import ExecutionView
from dalsegno.cli.lines import LineWriter
from dalsegno.cli.watching import Watch
from dalsegno.v1 import action_service_pb2, change_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.workflow.refusals import ChangesDiscarded, HistoryDiscarded, Violation

Type = Callable[..., Ended]
ORIGIN = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b49"
FROM = execution_pb2.ForkOrigin(execution_id=ORIGIN, sequence=27, checkpoint="polled")
POLLED = execution_pb2.CheckpointReference(name="polled", sequence=27)
CREATED = change_pb2.Change(execution_created=change_pb2.ExecutionCreated(workflow="poller", forked_from=FROM))
CONSOLIDATED = change_pb2.Consolidated(entry=POLLED, tasks=3, actions=4)
DISCARDED = change_pb2.Change(history_discarded=change_pb2.HistoryDiscarded(before=POLLED))
FORK = execution_pb2.Execution(id=ID, workflow="poller", first_sequence=26, forked_from=FROM)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--before", "polled"], {"name": "polled"}),
        (["--before-entry", "27"], {"sequence": 27}),
        (
            ["--before", "polled", "-m", "too long", "--expected-revision", "9"],
            {"name": "polled", "comment": "too long", "expected_revision": 9},
        ),
    ],
)
def test_discard_sends_what_was_typed(api: Any, type_command: Type, words: list[str], expected: dict[str, Any]) -> None:
    """C8: the history before a checkpoint or an entry; what is printed says where the history begins now."""
    api.answer("DiscardHistory", messages.DiscardHistoryResponse(execution=execution(first_sequence=27)))
    ended = type_command("discard", ID, *words, "-s", api.address)
    assert (ended.exit_code, ended.out) == (0, f"{ID}  RUNNING\n"), ended.err
    assert ended.err == "its history begins with change 27\n"
    (sent,) = api.requests
    assert sent.request_id
    sent.ClearField("request_id")
    assert sent == messages.DiscardHistoryRequest(execution_id=ID, **expected)


@pytest.mark.parametrize(
    "words",
    [
        ["discard", ID],
        ["discard", ID, "--before", "polled", "--before-entry", "27"],
        ["rerun", ID, "--from-checkpoint", "polled", "--from-entry", "27"],
        ["rerun", ID, "--from-checkpoint", "polled", "--failed"],
        ["rerun", ID, "--from-checkpoint", "polled", "--tasks", "fetch"],
        ["rerun", ID, "--from-checkpoint", "polled", "--item", "3"],
        ["rerun", ID, "--from-checkpoint", "polled", "--tasks", "fetch", "report", "--edit", "n=1"],
        ["rerun", "--filter", "state=ERROR", "--from-entry", "27"],
        ["rerun", ID, "--stay"],
        ["rerun", ID, "--edit", "n=1"],
        ["rerun", ID, "--tasks", "fetch", "--unset", "n"],
        ["rerun", ID, "--tasks", "fetch", "-i", "n=1"],
        ["rerun", ID, "--failed", "--label", "team=harbour"],
    ],
)
def test_what_contradicts_itself_is_not_sent(api: Any, type_command: Type, words: list[str]) -> None:
    """One entry to discard before or to begin at; what only a new execution has is for a new one."""
    ended = type_command(*words, "-s", api.address)
    assert ended.exit_code == 2
    assert ended.err.startswith("error: ")
    assert api.requests == []


def test_a_dry_run_says_how_much_would_go(api: Any, type_command: Type) -> None:
    """With --dry-run everything that would be gone is counted, and the request says so."""
    gone = execution_pb2.DryRunDiscard(before=POLLED, changes=12_345, entries=5, tasks=40, actions=80, children=12)
    dry_run = execution_pb2.DryRun(state=execution_pb2.EXECUTION_STATE_RUNNING, discards=gone)
    api.answer("DiscardHistory", messages.DiscardHistoryResponse(dry_run=dry_run))
    ended = type_command("discard", ID, "--before", "polled", "--dry-run", "-s", api.address)
    told = " ".join(ended.out.replace("└──", "").split())
    assert told == (
        f"{ID} would be RUNNING would discard what is before checkpoint polled (entry 27): "
        "changes: 12,345, entries: 5, tasks: 40, actions: 80, sub-workflows: 12"
    )
    assert ended.err == ""
    assert api.requests[0].dry_run
    dry_run.discards.CopyFrom(execution_pb2.DryRunDiscard(before=POLLED))
    api.answer("DiscardHistory", messages.DiscardHistoryResponse(dry_run=dry_run))
    assert (
        "(entry 27): nothing\n" in type_command("discard", ID, "--before", "polled", "--dry-run", "-s", api.address).out
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from-checkpoint", "polled"], {"checkpoint": "polled"}),
        (["--from-entry", "27", "--stay"], {"checkpoint_sequence": 27, "stay": True}),
        (
            ["--from-checkpoint", "polled", "--latest", "-i", "days=3", "--input", '{"city": "Alderford"}'],
            {"checkpoint": "polled", "latest_definition": True, "input": '{"city": "Alderford", "days": 3}'},
        ),
        (
            ["--from-checkpoint", "polled", "--edit", "n=1", "--unset", "old", "--task", "fetch"],
            {"checkpoint": "polled", "edit": messages.ContextEdit(task="fetch", set='{"n": 1}', unset=["old"])},
        ),
        (
            ["--from-checkpoint", "polled", "--unset", "old", "--label", "team=harbour", "--env", '{"a": 1}'],
            {
                "checkpoint": "polled",
                "edit": messages.ContextEdit(unset=["old"]),
                "labels": {"team": "harbour"},
                "environment_overlay": '{"a": 1}',
            },
        ),
    ],
)
def test_a_fork_is_asked_for(api: Any, type_command: Type, words: list[str], expected: dict[str, Any]) -> None:
    """Decision 21: at which entry, on which version, with which input, edit, labels, and whether it stays there."""
    new = execution_pb2.Execution(id=CHILD, state=execution_pb2.EXECUTION_STATE_RUNNING)
    api.answer("RerunExecution", messages.RerunExecutionResponse(execution=new))
    ended = type_command("rerun", ID, *words, "--request-id", "r", "-s", api.address)
    assert (ended.exit_code, ended.out) == (0, f"{CHILD}  RUNNING\n"), ended.err
    fields = {"input": "{}", **expected}
    assert api.requests == [
        messages.RerunExecutionRequest(
            execution_id=ID, request_id="r", start_from=operation_pb2.RERUN_FROM_CHECKPOINT, **fields
        )
    ]


def test_many_are_forked_by_a_filter(api: Any, type_command: Type) -> None:
    """With --filter each execution that matches is forked where it reached the checkpoint last."""
    new = execution_pb2.Execution(id=CHILD, state=execution_pb2.EXECUTION_STATE_RUNNING)
    outcome = operation_pb2.BulkOutcome(execution_id=ID, execution=new)
    api.answer("RerunExecutions", [messages.RerunExecutionsResponse(outcome=outcome, resume_token="t")])
    ended = type_command("rerun", "-f", "state=ERROR", "--from-checkpoint", "polled", "--latest", "-s", api.address)
    assert (ended.exit_code, ended.out) == (0, f"{ID}  RUNNING  as {CHILD}\n"), ended.err
    (sent,) = api.requests
    assert (sent.filter, sent.each.checkpoint, sent.each.latest_definition) == ("state=ERROR", "polled", True)


def test_a_new_execution_may_have_other_input_and_labels(api: Any, type_command: Type) -> None:
    """From the beginning too `-i` sets inputs, over those of --input, and --label adds labels."""
    api.answer("RerunExecution", messages.RerunExecutionResponse(execution=execution()))
    type_command("rerun", ID, "-i", "n=2", "--input", '{"n": 1, "m": 1}', "-l", "team=harbour", "-s", api.address)
    (sent,) = api.requests
    assert sent.start_from == operation_pb2.RERUN_FROM_BEGINNING
    assert (sent.input, dict(sent.labels)) == ('{"n": 2, "m": 1}', {"team": "harbour"})


@pytest.mark.parametrize("words", [["discard", ID, "--before", "polled"], ["rerun", ID, "--from-checkpoint", "polled"]])
def test_a_refusal_tells_where_what_is_left_is_listed(api: Any, type_command: Type, words: list[str]) -> None:
    """C31: what was discarded is refused by its name, with the command that lists the entries that are left."""
    refusal = HistoryDiscarded([Violation("checkpoint polled", "its entries were discarded")])
    api.answer("DiscardHistory", refusal)
    api.answer("RerunExecution", refusal)
    ended = type_command(*words, "-s", api.address)
    assert ended.exit_code == 2
    assert "checkpoint polled: its entries were discarded" in ended.err
    assert "dalsegno checkpoints EXECUTION" in ended.err


def history(api: Any, type_command: Type, *words: str) -> Ended:
    return type_command("history", ID, *words, "-s", api.address)


def shown(ended: Ended) -> list[str]:
    """The lines of a list, without its head and the times."""
    assert ended.exit_code == 0, ended.err
    return [" ".join(line.split()) for line in ended.out.splitlines()[1:]]


def test_the_history_says_what_is_gone(api: Any, type_command: Type) -> None:
    """The change that holds the state at an entry says that what was before is discarded; of a fork nothing is."""
    consolidated = change_pb2.Consolidated(entry=POLLED, tasks=3, actions=4, created=change_pb2.ExecutionCreated())
    page = [change_pb2.Change(sequence=27, consolidated=consolidated), DISCARDED]
    api.answer("ListChanges", messages.ListChangesResponse(changes=page))
    state = "the state at checkpoint polled (entry 27): tasks: 3, actions: 4"
    assert shown(history(api, type_command)) == [
        f"27 execution consolidated {state}; what was before is discarded",
        "0 execution discarded what was before checkpoint polled (entry 27)",
    ]
    api.answer(
        "ListChanges", messages.ListChangesResponse(changes=[CREATED, change_pb2.Change(consolidated=CONSOLIDATED)])
    )
    consolidated.created.forked_from.CopyFrom(FROM)
    assert shown(history(api, type_command)) == [
        f"0 poller CREATED forked from {ORIGIN} at checkpoint polled (entry 27)",
        f"0 execution consolidated {state}",
    ]
    api.answer("ListChanges", messages.ListChangesResponse(changes=[change_pb2.Change(consolidated=consolidated)]))
    assert shown(history(api, type_command)) == [f"0 execution consolidated {state}"]
    consolidated.entry.sequence = 44
    api.answer("ListChanges", messages.ListChangesResponse(changes=[change_pb2.Change(consolidated=consolidated)]))
    assert shown(history(api, type_command))[0].endswith(
        "(entry 44): tasks: 3, actions: 4; what was before is discarded"
    )


def test_a_history_that_is_discarded_meanwhile_is_read_again(api: Any, type_command: Type) -> None:
    """A list is whole: when its next page was discarded, it begins again where the history begins now."""
    first = messages.ListChangesResponse(changes=[task_moved("gone", "RUNNING")], next_page_token="t")
    left = messages.ListChangesResponse(changes=[change_pb2.Change(sequence=27, consolidated=CONSOLIDATED)])
    api.answer("ListChanges", first, ChangesDiscarded(ID, 27), left)
    assert [line.split()[0] for line in shown(history(api, type_command))] == ["27"]
    assert [each.page_token for each in api.requests] == ["", "t", ""]


def test_changes_that_are_gone_cannot_be_listed(api: Any, type_command: Type) -> None:
    """With --after a change that was discarded, the error says where the history begins, and how to list it."""
    api.answer("ListChanges", ChangesDiscarded(ID, 27))
    ended = history(api, type_command, "--after", "3")
    assert ended.exit_code == 2
    assert "27" in ended.err
    assert "without --after" in ended.err
    assert len(api.requests) == 1
    for _ in range(2):  # a checkpoint that discards faster than a client reads
        assert history(api, type_command).exit_code == 2
    assert len(api.requests) == 11


def test_forks_are_listed(api: Any, type_command: Type) -> None:
    """`list --forked-from` takes an execution as everywhere, and the list says from which one each was forked."""
    api.answer("ListExecutions", messages.ListExecutionsResponse(executions=[execution_pb2.Execution(id=ORIGIN)]))
    type_command("list", "--forked-from", "@latest", "-s", api.address)
    listed = [each.filter for each in api.requests if isinstance(each, messages.ListExecutionsRequest)]
    assert listed == ["parent=", f'forked_from="{ORIGIN}" parent=']
    api.answer("ListExecutions", messages.ListExecutionsResponse(executions=[FORK]))
    ended = type_command("list", "--forked-from", ORIGIN, "-s", api.address)
    assert f"forked from {ORIGIN}" in ended.out


def test_show_tells_of_forks_and_of_what_is_gone(api: Any, type_command: Type) -> None:
    """Where it was forked from, what was forked from it, and where its history begins when a part of it is gone."""
    found = execution_pb2.Execution(id=ID, workflow="poller", first_sequence=27, revision=90)
    found.forks.extend([CHILD] * 7)
    found.further_forks = 3
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    lines = type_command("show", ID, "-s", api.address).out
    assert "history   from change 27 on; what was before is discarded" in lines
    assert f"{CHILD}, and 5 more" in " ".join(lines.split())
    assert "forked" not in lines
    api.answer("GetExecution", messages.GetExecutionResponse(execution=FORK))
    lines = type_command("show", ID, "-s", api.address).out
    assert f"from {ORIGIN} at checkpoint polled (entry 27)" in " ".join(lines.split())
    assert "history" not in lines
    assert "forks" not in lines
    later = execution_pb2.Execution(id=ID, workflow="poller", first_sequence=44, forked_from=FROM)
    api.answer("GetExecution", messages.GetExecutionResponse(execution=later))
    assert "history   from change 44 on" in type_command("show", ID, "-s", api.address).out
    told = json.loads(type_command("show", ID, "-o", "json", "-s", api.address).out)
    assert told["forked_from"] == {"execution_id": ORIGIN, "sequence": 27, "checkpoint": "polled"}


def test_copies_are_told_apart(api: Any, type_command: Type) -> None:
    """Of the attempts of a fork those that are copied have no executor, and the list says why."""
    copied = execution_pb2.ActionExecution(task_number=1, task_name="poll", attempt=1, copied=True)
    found = action_service_pb2.ListActionExecutionsResponse(action_executions=[copied])
    api.answer("ListActionExecutions", found)
    assert shown(type_command("action", "attempts", ID, "-s", api.address)) == ["1.0.1 poll UNSPECIFIED (copied)"]


def test_why_it_is_paused_is_read_from_what_is_left(api: Any, type_command: Type) -> None:
    """A history that begins later than the changes that are looked at is read from its beginning."""
    found = execution(execution_pb2.EXECUTION_STATE_PAUSED, first_sequence=80, revision=90)
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    assert type_command("show", ID, "-s", api.address).exit_code == 0
    (asked,) = (each for each in api.requests if isinstance(each, messages.ListChangesRequest))
    assert asked.after_sequence == 79


def forked_snapshot() -> messages.WatchExecutionResponse:
    message = snapshot()
    message.snapshot.execution.forked_from.CopyFrom(FROM)
    return message


def test_a_watcher_sees_where_a_fork_begins_and_what_is_discarded() -> None:
    """The tree and the first line name the origin; a discard is a line, and so is what came in place of an entry."""
    view, writer = ExecutionView(ID), LineWriter()
    message = forked_snapshot()
    view.take(message)
    (line,) = writer.lines(message, view)
    assert line.endswith(f"{ID} forked from {ORIGIN} at checkpoint polled (entry 27)")
    assert f"forked from {ORIGIN} at checkpoint polled" in drawn({ID: view})
    message = changes(change_pb2.Change(consolidated=CONSOLIDATED), DISCARDED)
    view.take(message)
    lines = [" ".join(each.split()).split(" ", 2)[2] for each in writer.lines(message, view)]
    assert lines == [
        "execution consolidated the state at checkpoint polled (entry 27): tasks: 3, actions: 4",
        "execution discarded what was before checkpoint polled (entry 27)",
    ]
    view = ExecutionView(ID)
    view.take(changes(CREATED))
    assert f"forked from {ORIGIN} at checkpoint polled" in drawn({ID: view})


async def test_a_watcher_forgets_what_is_discarded(api: Any) -> None:
    """C19: tasks and sub-workflows that do not exist any more leave the tree, so that it does not grow without end; an
    entry that came as the state at it is marked."""
    tasks = [execution_pb2.TaskExecution(number=number, name="poll") for number in (1, 2)]
    tasks[0].child_execution_ids.append(CHILD)
    tasks[1].child_execution_ids.append(ORIGIN)
    consolidated = change_pb2.Change(consolidated=CONSOLIDATED)
    api.answer("ListTasks", messages.ListTasksResponse(tasks=tasks[1:]))
    entry = execution_pb2.CheckpointEntry(sequence=27, name="polled", task_number=2, stands=True)
    api.answer("ListCheckpoints", messages.ListCheckpointsResponse(entries=[entry]))
    async with connect(api.address) as connection:
        watch = Watch(connection, ID)
        view = watch.view
        view.take(snapshot(execution_pb2.EXECUTION_STATE_RUNNING, *tasks))
        ended = [f"{CHILD[:-4]}{number:04}" for number in range(3)]  # followed until after their tasks were discarded
        watch.views |= {each: ExecutionView(each) for each in (CHILD, ORIGIN, *ended)}
        api.answer("WatchExecution", [changes(consolidated, DISCARDED)])
        async for _ in watch.messages():
            pass
    assert list(view.tasks) == [2]
    assert view.tasks[2].checkpoint == "polled"
    assert list(watch.views) == [ID, ORIGIN]


def test_lines_forget_what_is_discarded() -> None:
    """C19: what was written of tasks is remembered, so that it is written once, and forgotten with them."""
    view, writer = ExecutionView(ID), LineWriter()
    failed = change_pb2.AttemptMoved(
        task_number=1, task_name="poll", attempt=1, state=execution_pb2.ACTION_STATE_ERROR, error="no boat"
    )
    for round in range(3_000):
        failed.task_number = round + 1
        message = changes(change_pb2.Change(attempt_moved=failed), reached("polled", "poll", number=round + 1))
        view.take(message)
        assert any("no boat" in line for line in writer.lines(message, view)), round
        view.keep_tasks([execution_pb2.TaskExecution(number=round + 1)])
        list(writer.lines(changes(DISCARDED), view))
    assert len(view.tasks) == 1
