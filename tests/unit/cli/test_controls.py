"""Commands that operate executions: their requests and their output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.cli.conftest import Ended

from dalsegno.cli.connection import actor_metadata
from dalsegno.v1 import action_service_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.workflow.refusals import Obstacle, Refused, Unavailable, Violation

Type = Callable[..., Ended]
ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
OTHER = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b48"
RUNNING = execution_pb2.Execution(id=ID, state=execution_pb2.EXECUTION_STATE_RUNNING)


def test_one_task_needs_no_names(api: Any, type_command: Type) -> None:
    """With one task the options for its input and its items need no task name (R6, R8, R11)."""
    api.answer("ResumeExecution", messages.ResumeExecutionResponse(execution=RUNNING))
    ended = type_command("resume", ID, "--task", "a", "--item", 3, "--item-input", '{"n": 1}', "-s", api.address)
    assert ended.exit_code == 0, ended.err
    expected = operation_pb2.ResumeTask(task="a", items=[3], item_inputs={3: '{"n": 1}'})
    assert list(api.requests[0].tasks) == [expected]
    type_command("resume", ID, "--task", "a", "--input", '{"n": 2}', "-s", api.address)
    assert list(api.requests[1].tasks) == [operation_pb2.ResumeTask(task="a", input='{"n": 2}')]


def test_several_tasks_each_in_its_own_way(api: Any, type_command: Type) -> None:
    """With several tasks each option names its task; skip takes an output, leave takes nothing (R15, R27)."""
    api.answer("ResumeExecution", messages.ResumeExecutionResponse(execution=RUNNING))
    ended = type_command(
        "resume",
        ID,
        "--task",
        "a",
        "--task",
        "b",
        "--input",
        'a={"n": 2}',
        "--item",
        "b=1",
        "--item",
        "b=4",
        "--item-input",
        'b=4={"n": 5}',
        "--skip",
        "c",
        "--result",
        "[1]",
        "--leave",
        "d",
        "--child-failed",
        "a",
        "-s",
        api.address,
    )
    assert ended.exit_code == 0, ended.err
    assert list(api.requests[0].tasks) == [
        operation_pb2.ResumeTask(task="a", input='{"n": 2}', child=operation_pb2.CHILD_RERUN_FAILED),
        operation_pb2.ResumeTask(task="b", items=[1, 4], item_inputs={4: '{"n": 5}'}),
        operation_pb2.ResumeTask(task="c", skip=True, output="[1]"),
        operation_pb2.ResumeTask(task="d", leave=True),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["resume", ID, "--input", "{}"],
        ["resume", ID, "--task", "a", "--task", "b", "--item", "3"],
        ["resume", ID, "--task", "a", "--item", "first"],
        ["resume", ID, "--task", "a", "--item", "1", "--item", "2", "--item-input", "{}"],
        ["resume", ID, "--skip", "a"],
        ["resume", ID, "--skip", "a", "--skip", "b", "--result", "a=1"],
        ["resume", ID, "--skip", "a", "--result", "done"],
        ["rerun", ID, "--tasks", "a", "--no-reset", "b"],
        ["resume", ID, "--task", "a", "--skip", "a", "--result", "1"],
        ["resume", ID, "--task", "a", "--leave", "a"],
        ["rerun", ID, "--failed", "--tasks", "a"],
        ["rerun", ID, OTHER],
        ["pause"],
        ["pause", ID, "--filter", "state=RUNNING"],
        ["pause", "--filter", "state=RUNNING", "--wait"],
        ["cancel", ID, "--state", "ERROR"],
        ["cancel", ID, "--terminate", "--state", "PAUSED"],
        ["cancel", ID, "--terminate", "--result", "done"],
    ],
)
def test_what_belongs_nowhere_is_not_sent(api: Any, type_command: Type, words: list[str]) -> None:
    """An option for no task, a wrong index or a wrong word is refused, and nothing is sent."""
    ended = type_command(*words, "-s", api.address)
    assert ended.exit_code == 2
    assert ended.err.startswith("error: ")
    assert api.requests == []


def test_who_may_not_just_resume_is_told_how(api: Any, type_command: Type) -> None:
    """The refusal names every failed task (R3, R4), and the advice shows the command to type instead (R24)."""
    failed = [Violation(f"task {name}", "has failed: no answer", Obstacle.TASK_FAILED) for name in ("fetch", "store")]
    api.answer("ResumeExecution", Refused(failed))
    ended = type_command("resume", ID, "-s", api.address)
    assert "task fetch: has failed" in ended.err
    assert "task store: has failed" in ended.err
    assert "--task fetch --task store" in ended.err
    assert "--skip fetch --result" in ended.err


@pytest.mark.parametrize(("name", "told"), [("ada", "ada"), ("Åda\n", "?da?")])
def test_who_asks_is_told(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    """Every request carries the name of the user, in characters that metadata can carry (R22)."""
    monkeypatch.setenv("DALSEGNO_ACTOR", name)
    assert actor_metadata() == (("x-dalsegno-actor", told),)


def test_output_still_says_how_to_print(api: Any, type_command: Type) -> None:
    """`resume --output json` prints JSON: it does not set the output of a task."""
    api.answer("ResumeExecution", messages.ResumeExecutionResponse(execution=RUNNING))
    ended = type_command("resume", ID, "--skip", "a", "--result", '"json"', "--output", "json", "-s", api.address)
    assert json.loads(ended.out)["state"] == "RUNNING"
    assert api.requests[0].tasks[0].output == '"json"'


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([ID], {"start_from": operation_pb2.RERUN_FROM_BEGINNING, "input": "{}"}),
        (
            [ID, "--input", '{"n": 1}', "--latest"],
            {"start_from": operation_pb2.RERUN_FROM_BEGINNING, "input": '{"n": 1}', "latest_definition": True},
        ),
        ([ID, "--failed"], {"start_from": operation_pb2.RERUN_FROM_FAILED}),
        (
            [ID, "--tasks", "a", "b", "--no-reset", "b"],
            {
                "start_from": operation_pb2.RERUN_FROM_TASKS,
                "tasks": [operation_pb2.RerunTask(task="a"), operation_pb2.RerunTask(task="b", reset=False)],
            },
        ),
    ],
)
def test_rerun_begins_where_it_is_told(
    api: Any, type_command: Type, words: list[str], expected: dict[str, Any]
) -> None:
    """A rerun without tasks begins at the beginning (O16); --tasks takes names, each reset or not (O18, O26)."""
    api.answer("RerunExecution", messages.RerunExecutionResponse(execution=RUNNING))
    ended = type_command("rerun", *words, "--request-id", "r", "-m", "why", "-s", api.address)
    assert ended.exit_code == 0, ended.err
    request = messages.RerunExecutionRequest(execution_id=ID, request_id="r", comment="why", **expected)
    assert api.requests == [request]


def test_terminate_says_how_it_ends(api: Any, type_command: Type) -> None:
    """`cancel --terminate` carries state, message and output (decision 7)."""
    api.answer("CancelExecution", messages.CancelExecutionResponse(execution=RUNNING))
    words = ("--terminate", "--state", "success", "--message", "enough", "--result", "[1]")
    type_command("cancel", ID, *words, "-s", api.address)
    state = execution_pb2.EXECUTION_STATE_SUCCESS
    assert api.requests[0].terminate == operation_pb2.Terminate(state=state, message="enough", output="[1]")


def test_context_is_set_and_unset(api: Any, type_command: Type) -> None:
    """`context --set` sends all values as one object, `--unset` the names."""
    api.answer("UpdateContext", messages.UpdateContextResponse(execution=RUNNING))
    type_command("context", ID, "--set", "n=3", "-i", "s=x", "--unset", "old", "--task", "a", "-s", api.address)
    request = api.requests[0]
    assert (json.loads(request.set), list(request.unset), request.task) == ({"n": 3, "s": "x"}, ["old"], "a")


def test_an_action_is_paused_from_outside(api: Any, type_command: Type) -> None:
    """`action update` reports PAUSED, or RUNNING with --running."""
    told = execution_pb2.ActionExecution(id=f"{ID}.1.0.1", state=execution_pb2.ACTION_STATE_PAUSED)
    api.answer("UpdateAction", action_service_pb2.UpdateActionResponse(action_execution=told))
    type_command("action", "update", f"{ID}.1.0.1", "-s", api.address)
    type_command("action", "update", f"{ID}.1.0.1", "--running", "-s", api.address)
    states = [request.state for request in api.requests]
    assert states == [execution_pb2.ACTION_STATE_PAUSED, execution_pb2.ACTION_STATE_RUNNING]


def test_a_dry_run_is_a_tree(api: Any, type_command: Type) -> None:
    """The tree of a dry run shows what starts, with items, what follows, what is kept or superseded, and children."""
    effect = execution_pb2.DryRun(
        starts=[execution_pb2.DryRunTask(name="fetch", number=2, items=[0, 1, 2, 7])],
        may_follow=["store"],
        kept=[execution_pb2.DryRunTask(name="begin", number=1)],
        superseded=[execution_pb2.DryRunTask(name="store", number=3)],
        subsumed=[execution_pb2.DryRunTask(name="store", reason="comes after another task of the request")],
        state=execution_pb2.EXECUTION_STATE_RUNNING,
    )
    effect.children.add(execution_id=OTHER, task_name="call").effect.state = execution_pb2.EXECUTION_STATE_PAUSED
    api.answer("RerunExecution", messages.RerunExecutionResponse(dry_run=effect))
    ended = type_command("rerun", ID, "--tasks", "fetch", "--dry-run", "-s", api.address)
    for told in (
        f"{ID}  would be RUNNING",
        "fetch (2) items 0-2, 7",
        "may follow",
        "begin (1)",
        "would be superseded",
        "store: comes after another task of the request",
        f"call: {OTHER}  would be PAUSED",
    ):
        assert told in ended.out


def test_wait_tells_the_end_by_the_exit_code(api: Any, type_command: Type) -> None:
    """With --wait a pause that ends in PAUSED is a success, and a resume that ends in ERROR is not."""
    for command, method, state, code in (
        ("pause", "PauseExecution", "PAUSED", 0),
        ("pause", "PauseExecution", "CANCELLED", 3),
        ("cancel", "CancelExecution", "CANCELLED", 0),
        ("cancel", "CancelExecution", "SUCCESS", 1),
        ("resume", "ResumeExecution", "SUCCESS", 0),
        ("resume", "ResumeExecution", "ERROR", 1),
        ("resume", "ResumeExecution", "PAUSED", 4),
    ):
        number = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
        ended = execution_pb2.Execution(id=ID, state=number)
        api.answer(method, getattr(messages, f"{method}Response")(execution=RUNNING))
        page = messages.WatchExecutionResponse.Snapshot(execution=ended, last=True)
        api.answer("WatchExecution", [messages.WatchExecutionResponse(snapshot=page, resume_token="t")])
        api.answer("GetExecution", messages.GetExecutionResponse(execution=ended))
        assert type_command(command, ID, "--wait", "-s", api.address).exit_code == code, (command, state)


def test_many_are_told_one_by_one_and_taken_up_again(api: Any, type_command: Type) -> None:
    """With a filter each outcome is a line; a broken stream continues; a refusal makes the exit code 1."""
    one = operation_pb2.BulkOutcome(execution_id=ID, execution=RUNNING)
    two = operation_pb2.BulkOutcome(execution_id=OTHER, refusal=operation_pb2.Refusal(message="it is SUCCESS"))
    api.answer(
        "PauseExecutions",
        [messages.PauseExecutionsResponse(resume_token="t1", outcome=one), Unavailable("stopping")],
        [messages.PauseExecutionsResponse(resume_token="t2", outcome=two)],
    )
    ended = type_command("pause", "--filter", "state=RUNNING", "--rate", 5, "-m", "why", "-s", api.address)
    assert ended.exit_code == 1
    assert ended.out == f"{ID}  RUNNING\n{OTHER}  refused: it is SUCCESS\n"
    assert "2 executions, 1 refused" in ended.err
    assert [request.resume_token for request in api.requests] == ["", "t1"]
    assert (api.requests[0].filter, api.requests[0].rate, api.requests[0].each.comment) == ("state=RUNNING", 5, "why")
