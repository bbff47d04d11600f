"""`delete` takes ids, or a filter and an age, and has a dry run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dalsegno.v1 import execution_pb2, execution_service_pb2, operation_pb2

FIRST = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
SECOND = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1fa000"
Type = Callable[..., Any]


def outcomes(*found: operation_pb2.BulkOutcome) -> list[execution_service_pb2.DeleteExecutionsResponse]:
    return [execution_service_pb2.DeleteExecutionsResponse(outcome=each) for each in found]


def test_all_that_a_filter_and_an_age_choose(api: Any, type_command: Type) -> None:
    """Each deletion is a line; refused executions stay, and the exit code tells that there are some."""
    gone = operation_pb2.BulkOutcome(execution_id=FIRST, deleted=True)
    kept = operation_pb2.BulkOutcome(execution_id=SECOND)
    kept.refusal.message = f"execution {SECOND}: is not at rest"
    api.answer("DeleteExecutions", outcomes(gone, kept))

    ended = type_command(
        "delete",
        "-f",
        "workflow=w",
        "--state",
        "ERROR",
        "--label",
        "team=red",
        "--older-than",
        "1d12h",
        "--rate",
        "5",
        "-m",
        "spring",
        "-s",
        api.address,
    )

    [request] = api.requests
    assert request.filter == 'workflow=w state="ERROR" label.team="red"'
    assert (request.older_than.seconds, request.rate, request.each.comment) == (129_600, 5, "spring")
    assert request.each.request_id
    assert ended.exit_code == 1
    assert ended.out.splitlines() == [f"{FIRST}  deleted", f"{SECOND}  refused: is not at rest"]
    assert ended.err == "2 executions, 1 refused\n"


def test_a_dry_run_tells_which_would_be_deleted(api: Any, type_command: Type) -> None:
    """A dry run lists the executions that an age alone chooses."""
    dry = operation_pb2.BulkOutcome(execution_id=FIRST, dry_run=execution_pb2.DryRun())
    dry.dry_run.children.add(execution_id=SECOND)
    api.answer("DeleteExecutions", outcomes(dry))

    ended = type_command("delete", "--older-than", "30d", "--dry-run", "-s", api.address)

    [request] = api.requests
    assert (request.filter, request.each.dry_run) == ("", True)
    assert (ended.exit_code, ended.out) == (0, f"{FIRST}  would be deleted, with 1 that it started\n")


def test_ids_are_deleted_one_by_one(api: Any, type_command: Type) -> None:
    """The end of an id names an execution, and the output shows the whole id."""
    listed = execution_service_pb2.ListExecutionsResponse(executions=[execution_pb2.Execution(id=FIRST)])
    api.answer("ListExecutions", listed)
    api.answer("DeleteExecution", execution_service_pb2.DeleteExecutionResponse())

    ended = type_command("delete", "1e6b47", SECOND, "-s", api.address)

    deletions = [each for each in api.requests if isinstance(each, execution_service_pb2.DeleteExecutionRequest)]
    assert [each.execution_id for each in deletions] == [FIRST, SECOND]
    assert len({each.request_id for each in deletions}) == 2
    assert ended.out.splitlines() == [f"{FIRST}  deleted", f"{SECOND}  deleted"]


@pytest.mark.parametrize(
    "words", [[], [FIRST, "--state", "ERROR"], ["--older-than", "soon"], ["--older-than", "2"], ["--older-than", "1dx"]]
)
def test_what_chooses_nothing_or_contradicts_itself_is_refused(type_command: Type, words: list[str]) -> None:
    """A command that chooses nothing, or contradicts itself, is refused before any request."""
    ended = type_command("delete", *words, "-s", "127.0.0.1:1")
    assert ended.exit_code == 2
    assert "next:" in ended.err
