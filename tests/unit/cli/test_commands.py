"""Commands with a server that gives scripted answers: their requests, their output and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dalsegno.v1 import (
    action_service_pb2,
    definition_pb2,
    environment_service_pb2,
    execution_pb2,
    execution_service_pb2,
    workflow_service_pb2,
)
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Unavailable, Violation

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
Type = Callable[..., Any]


def execution(state: str = "SUCCESS", **fields: Any) -> execution_pb2.Execution:
    """Return an execution in a state."""
    number = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    return execution_pb2.Execution(id=ID, workflow="city_report", state=number, **fields)


def test_start_sends_what_was_typed_and_prints_the_id(api: Any, type_command: Type) -> None:
    """Only the id is on standard output, so that a shell can read it."""
    api.answer("GetWorkflow", workflow_service_pb2.GetWorkflowResponse())
    api.answer("StartExecution", execution_service_pb2.StartExecutionResponse(execution=execution("RUNNING")))

    ended = type_command(
        "start", "city_report", "-i", "n=3", "-i", "city=Port Ellis", "-l", "team=x", "-s", api.address
    )

    assert (ended.exit_code, ended.out) == (0, f"{ID}\n")
    [_, request] = api.requests
    assert json.loads(request.input) == {"n": 3, "city": "Port Ellis"}
    assert (request.workflow, dict(request.labels)) == ("city_report", {"team": "x"})
    assert request.request_id


def test_a_call_that_nobody_answered_is_made_again_with_the_same_request_id(api: Any, type_command: Type) -> None:
    """A command repeats its request while the engine restarts, and nothing is done twice."""
    started = execution_service_pb2.StartExecutionResponse(execution=execution("RUNNING"))
    api.answer("StartExecution", Unavailable("the engine is being restarted"), started)

    ended = type_command("start", "city_report", "-s", api.address)

    assert ended.exit_code == 0
    assert len({request.request_id for request in api.requests}) == 1
    assert len(api.requests) == 2


def test_everything_that_is_wrong_has_a_line_and_nothing_is_said_twice(api: Any, type_command: Type) -> None:
    """A refusal prints one line for each violation, then advice, and ends with exit code 2."""
    api.answer("GetWorkflow", workflow_service_pb2.GetWorkflowResponse())
    wrong = [Violation("input.x", "is not an input"), Violation("input.city", "is missing")]
    api.answer("StartExecution", InvalidRequest(wrong))

    ended = type_command("start", "city_report", "-i", "x=1", "-s", api.address)

    assert ended.exit_code == 2
    assert ended.err.splitlines() == [
        "error: 2 things are wrong:",
        "  input.x: is not an input",
        "  input.city: is missing",
        "next:  give inputs with -i key=value; `dalsegno workflow show NAME` lists them",
    ]


def test_what_is_not_there_comes_with_where_to_look(api: Any, type_command: Type) -> None:
    """An unknown workflow ends with exit code 2, and the advice lists the known workflows."""
    api.answer("StartExecution", NotFound("workflow", "nowhere"))

    ended = type_command("start", "nowhere", "-s", api.address)

    assert ended.exit_code == 2
    assert "nowhere" in ended.err
    assert "dalsegno workflow list" in ended.err


def test_a_server_that_is_not_there_is_said(type_command: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the command ends with exit code 5 and advice, and prints no traceback."""
    monkeypatch.setattr("dalsegno.cli.reads.RETRY_S", 0.0)

    ended = type_command("list", "-s", "127.0.0.1:9")

    assert ended.exit_code == 5
    assert "dalsegno serve" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:port", "http://127.0.0.1:7700"])
def test_an_address_that_is_none_is_said(type_command: Type, address: str) -> None:
    """The address of a server needs a host and a port."""
    ended = type_command("list", "-s", address)

    assert ended.exit_code == 2
    assert "HOST:PORT" in ended.err


def test_lists_go_through_all_pages(api: Any, type_command: Type) -> None:
    """A list longer than a page is read to its end or to the limit."""
    tasks = [execution_pb2.TaskExecution(number=number, name=f"t{number}") for number in range(1, 4)]
    first = execution_service_pb2.ListTasksResponse(tasks=tasks[:2], next_page_token="more")
    api.answer("ListTasks", first, execution_service_pb2.ListTasksResponse(tasks=tasks[2:]))

    ended = type_command("tasks", ID, "-s", api.address, "-o", "json")

    assert [each["name"] for each in json.loads(ended.out)] == ["t1", "t2", "t3"]
    assert [request.page_token for request in api.requests] == ["", "more"]


def test_values_are_shown_as_values(api: Any, type_command: Type) -> None:
    """The output decodes JSON texts, shortens enum names and prints times in ISO form."""
    stands = execution("SUCCESS", output='{"n": 18446744073709551616}', revision=7, labels={"team": "x"})
    stands.created_at.FromJsonString("2026-01-02T03:04:05.678Z")
    api.answer("GetExecution", execution_service_pb2.GetExecutionResponse(execution=stands))

    ended = type_command("show", ID, "-s", api.address, "-o", "json")

    assert json.loads(ended.out) == {
        "id": ID,
        "workflow": "city_report",
        "state": "SUCCESS",
        "output": {"n": 18446744073709551616},
        "labels": {"team": "x"},
        "revision": 7,
        "created_at": "2026-01-02T03:04:05.678Z",
    }


def test_yaml_says_the_same_as_json(api: Any, type_command: Type) -> None:
    """YAML and JSON output hold the same data."""
    stands = execution("ERROR", output='{"why": "no"}', state_info="line 1\nline 2")
    api.answer("GetExecution", execution_service_pb2.GetExecutionResponse(execution=stands))

    as_json = type_command("show", ID, "-s", api.address, "-o", "json")
    as_yaml = type_command("show", ID, "-s", api.address, "-o", "yaml")

    assert yaml.safe_load(as_yaml.out) == json.loads(as_json.out)


def test_the_text_of_a_workflow_comes_back_as_it_was(api: Any, type_command: Type) -> None:
    """`workflow show --text` prints only the document."""
    found = definition_pb2.Workflow(name="w", text="version: '2.0'\nw: {}\n")
    api.answer("GetWorkflow", workflow_service_pb2.GetWorkflowResponse(workflow=found))

    assert type_command("workflow", "show", "w", "--text", "-s", api.address).out == found.text


def test_an_action_runs_until_it_has_ended(api: Any, type_command: Type) -> None:
    """`action run` waits until the action has ended, and its exit code tells the outcome."""
    running = execution_pb2.ActionExecution(id=ID, state=execution_pb2.ACTION_STATE_RUNNING)
    failed = execution_pb2.ActionExecution(id=ID, state=execution_pb2.ACTION_STATE_ERROR, error="no")
    api.answer("RunAction", action_service_pb2.RunActionResponse(action_execution=running))
    api.answer(
        "WaitAction",
        action_service_pb2.WaitActionResponse(action_execution=running),
        action_service_pb2.WaitActionResponse(action_execution=failed, ended=True),
    )
    options = ["--timeout", "1.5", "--retry", "2", "--retry-delay", "0.25", "--no-safe-rerun", "--target", "zone=a"]

    ended = type_command("action", "run", "std.fail", *options, "-s", api.address)

    assert ended.exit_code == 1
    request = api.requests[0]
    assert request.timeout.ToTimedelta().total_seconds() == 1.5
    assert (request.retry.count, request.retry.delay.ToTimedelta().total_seconds()) == (2, 0.25)
    assert (request.HasField("safe_to_rerun"), request.safe_to_rerun, request.target) == (True, False, "zone=a")
    assert [each.action_execution_id for each in api.requests[1:]] == [ID, ID]


def test_an_action_is_waited_for_and_cancelled(api: Any, type_command: Type) -> None:
    """`action wait` exits as `action run` does; `action cancel` shows the state."""
    ended = execution_pb2.ActionExecution(id=ID, state=execution_pb2.ACTION_STATE_CANCELLED)
    api.answer("WaitAction", action_service_pb2.WaitActionResponse(action_execution=ended, ended=True))
    api.answer("CancelAction", action_service_pb2.CancelActionResponse(action_execution=ended))

    assert type_command("action", "wait", ID, "-s", api.address).exit_code == 3
    shown = type_command("action", "cancel", ID, "--comment", "not now", "-s", api.address)

    assert (shown.exit_code, shown.out) == (0, f"{ID}  CANCELLED\n")
    assert api.requests[-1].comment == "not now"


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (["--result", "[1]"], action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED),
        (["--error", "no"], action_service_pb2.COMPLETION_OUTCOME_FAILED),
        (["--cancelled"], action_service_pb2.COMPLETION_OUTCOME_CANCELLED),
    ],
)
def test_an_action_is_completed_as_was_said(api: Any, type_command: Type, options: list[str], outcome: int) -> None:
    """`action complete` sends the outcome that its options choose."""
    api.answer("CompleteAction", action_service_pb2.CompleteActionResponse())

    ended = type_command("action", "complete", f"{ID}.1.0.1", *options, "-s", api.address)

    assert ended.exit_code == 0
    assert api.requests[0].outcome == outcome


@pytest.mark.parametrize(("command", "method"), [("complete", "CompleteAction"), ("update", "UpdateAction")])
def test_an_action_is_named_by_its_alias(api: Any, type_command: Type, command: str, method: str) -> None:
    """An alias names an action in its namespace, without its id or its token."""
    api.answer(method, getattr(action_service_pb2, f"{method}Response")())

    ended = type_command("action", command, "--alias", "order-17", "-n", "shop", "-s", api.address)

    assert ended.exit_code == 0
    request = api.requests[0]
    assert (request.alias, request.namespace, request.action_execution_id) == ("order-17", "shop", "")


def test_completing_needs_an_id_or_a_token(type_command: Type) -> None:
    """`action complete` refuses both or neither, and a result that is not JSON, before it sends a request."""
    assert type_command("action", "complete").exit_code == 2
    assert type_command("action", "complete", ID, "--token", "t").exit_code == 2
    assert type_command("action", "complete", "--alias", "a", "--token", "t").exit_code == 2
    assert "not JSON" in type_command("action", "complete", ID, "--result", "done").err


@pytest.mark.parametrize(
    ("command", "method", "response"),
    [
        ("pause", "PauseExecution", execution_service_pb2.PauseExecutionResponse),
        ("resume", "ResumeExecution", execution_service_pb2.ResumeExecutionResponse),
        ("cancel", "CancelExecution", execution_service_pb2.CancelExecutionResponse),
    ],
)
def test_controls_carry_their_conditions(
    api: Any, type_command: Type, command: str, method: str, response: Any
) -> None:
    """Pause, resume and cancel send comment, expected revision and dry run, and print the state."""
    api.answer(method, response(execution=execution("PAUSING", waiting_for=["a"])))

    ended = type_command(command, ID, "-m", "why", "--expected-revision", "7", "-s", api.address)

    assert ended.out == f"{ID}  PAUSING  waits for: a\n"
    assert (api.requests[0].comment, api.requests[0].expected_revision) == ("why", 7)


def test_a_dry_run_prints_what_would_happen(api: Any, type_command: Type) -> None:
    """`--dry-run` prints the effect, not an execution."""
    effect = execution_pb2.DryRun(starts=[execution_pb2.DryRunTask(name="a")], revision=3)
    api.answer("ResumeExecution", execution_service_pb2.ResumeExecutionResponse(dry_run=effect))

    ended = type_command("resume", ID, "--dry-run", "-s", api.address, "-o", "json")

    assert json.loads(ended.out) == {"starts": [{"name": "a"}], "revision": 3}
    assert api.requests[0].dry_run


def test_environments_are_put_from_file_and_line(api: Any, type_command: Type) -> None:
    """`environment put` sends all values as one JSON object."""
    api.answer("PutEnvironment", environment_service_pb2.PutEnvironmentResponse())

    ended = type_command("environment", "put", "staging", '{"a": 1}', "-i", "b=two", "-s", api.address)

    assert ended.exit_code == 0
    assert json.loads(api.requests[0].variables) == {"a": 1, "b": "two"}


def test_an_environment_does_not_lose_its_values_by_mistake(api: Any, type_command: Type) -> None:
    """Without any value nothing is sent; an empty object empties it."""
    api.answer("PutEnvironment", environment_service_pb2.PutEnvironmentResponse())

    refused = type_command("environment", "put", "staging", "-s", api.address)
    assert (refused.exit_code, api.requests) == (2, [])
    assert "would lose all of its values" in refused.err
    assert type_command("environment", "put", "staging", "{}", "-s", api.address).exit_code == 0
    assert json.loads(api.requests[0].variables) == {}


def test_an_empty_list_says_so_beside_the_result(api: Any, type_command: Type) -> None:
    """An empty list prints `none` for people and an empty list for programs."""
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse())

    assert type_command("list", "-s", api.address).err == "none\n"
    assert json.loads(type_command("list", "-s", api.address, "-o", "json").out) == []


def test_version_as_command_and_as_option(type_command: Type) -> None:
    """`dalsegno version` and `dalsegno --version` print the same and end with exit code 0."""
    by_command, by_option = type_command("version"), type_command("--version")

    assert by_command.out.startswith("dalsegno ")
    assert (by_option.exit_code, by_option.out) == (0, by_command.out)
