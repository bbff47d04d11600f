"""Short names of an execution: the end of its id, and `@latest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dalsegno.cli.ids import mark_ids
from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2

FIRST = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
SECOND = "0193b5c2-7f3a-7e51-9d0c-5a8f0c1e6b47"
Type = Callable[..., Any]


def execution(identity: str) -> execution_pb2.Execution:
    return execution_pb2.Execution(id=identity, workflow="w", state=execution_pb2.EXECUTION_STATE_PAUSED)


def listed(*ids: str) -> execution_service_pb2.ListExecutionsResponse:
    return execution_service_pb2.ListExecutionsResponse(executions=map(execution, ids))


def paused(identity: str) -> execution_service_pb2.PauseExecutionResponse:
    return execution_service_pb2.PauseExecutionResponse(execution=execution(identity))


@pytest.mark.parametrize("end", ["1e6b47", "c1e6b47", "9d0c-5a8f2c1e6b47"])
def test_the_end_of_an_id_stands_for_it(api: Any, type_command: Type, end: str) -> None:
    """The command finds the execution whose id has this end, and its request has the whole id."""
    api.answer("ListExecutions", listed(FIRST))
    api.answer("PauseExecution", paused(FIRST))

    ended = type_command("pause", end, "-s", api.address)

    asked, operation = api.requests
    assert (ended.exit_code, asked.filter, operation.execution_id) == (0, f"id=*{end}", FIRST)


def test_the_end_of_an_id_stands_for_it_before_a_task_and_an_attempt(api: Any, type_command: Type) -> None:
    """`1e6b47.3.0.1` names an attempt of the execution with this end."""
    api.answer("ListExecutions", listed(FIRST))
    attempt = execution_pb2.ActionExecution(id=f"{FIRST}.3.0.1", state=execution_pb2.ACTION_STATE_SUCCESS)
    api.answer("CompleteAction", action_service_pb2.CompleteActionResponse(action_execution=attempt))

    type_command("action", "complete", "1e6b47.3.0.1", "-s", api.address)

    assert api.requests[-1].action_execution_id == f"{FIRST}.3.0.1"


def test_an_ambiguous_end_is_refused_with_those_that_it_may_mean(api: Any, type_command: Type) -> None:
    """An ambiguous end is refused, and the error has ends that are not ambiguous."""
    api.answer("ListExecutions", listed(FIRST, SECOND))

    ended = type_command("pause", "1e6b47", "-s", api.address)

    assert ended.exit_code == 2
    assert "1e6b47: more than one execution has an id with this end:" in ended.err
    assert FIRST in ended.err
    assert SECOND in ended.err
    assert "give more characters" in ended.err
    assert len(api.requests) == 1


def test_an_end_that_none_has_is_said_to_be_so(api: Any, type_command: Type) -> None:
    """An unknown end is refused, and the advice says where to find ids."""
    api.answer("ListExecutions", listed())
    ended = type_command("pause", "1e6b47", "-s", api.address)
    assert (ended.exit_code, "no execution has an id with this end" in ended.err) == (2, True)


def test_less_than_six_characters_are_too_few(api: Any, type_command: Type) -> None:
    """An end of less than six characters is refused, and no request is sent."""
    ended = type_command("pause", "e6b47", "-s", api.address)
    assert (ended.exit_code, "give 6 or more" in ended.err, api.requests) == (2, True, [])


def test_whole_ids_and_other_words_are_sent_as_they_are(api: Any, type_command: Type) -> None:
    """A whole id or another word is sent unchanged, and the server refuses it if it is wrong."""
    api.answer("PauseExecution", paused(FIRST))
    for word in (FIRST, "nonsense"):
        type_command("pause", word, "-s", api.address)
    assert [request.execution_id for request in api.requests] == [FIRST, "nonsense"]


@pytest.mark.parametrize("namespace", ["", "shop"])
def test_latest_is_the_newest_that_nobody_else_started(
    api: Any, type_command: Type, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`@latest` is the newest execution of the namespace that has no parent."""
    monkeypatch.setenv("DALSEGNO_NAMESPACE", namespace)
    api.answer("ListExecutions", listed(SECOND))
    api.answer("PauseExecution", paused(SECOND))

    type_command("pause", "@latest", "-s", api.address)

    asked, operation = api.requests
    assert asked.filter == ('parent= namespace="shop"' if namespace else "parent=")
    assert (asked.page_size, operation.execution_id) == (1, SECOND)


def test_another_word_after_an_at_is_no_id(api: Any, type_command: Type) -> None:
    """A mistyped `@latest` is not sent to the server, which would ask for a UUID."""
    ended = type_command("show", "@latst", "-s", api.address)
    assert ended.exit_code == 2
    assert "@latest is the newest one" in ended.err
    assert api.requests == []


def test_watching_by_the_end_of_an_id(api: Any, type_command: Type) -> None:
    """A stream is requested by the whole id, and again by the same id after it breaks."""
    api.answer("ListExecutions", listed(FIRST))
    page = execution_service_pb2.WatchExecutionResponse()
    page.snapshot.execution.CopyFrom(execution(FIRST))
    api.answer("WatchExecution", [page])
    api.answer("GetExecution", execution_service_pb2.GetExecutionResponse(execution=execution(FIRST)))

    type_command("watch", "1e6b47", "--stop-at-pause", "-s", api.address)

    watched = [each for each in api.requests if isinstance(each, execution_service_pb2.WatchExecutionRequest)]
    assert {each.execution_id for each in watched} == {FIRST}


def test_lists_mark_what_is_enough_of_an_id() -> None:
    """Lists mark six characters, or more where several ids end alike."""
    other = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e0000"
    marked = mark_ids([FIRST, SECOND, other, other])
    assert [each.plain[each.spans[-1].start :] for each in marked] == ["2c1e6b47", "0c1e6b47", "1e0000", "1e0000"]
    assert [each.plain for each in marked] == [FIRST, SECOND, other, other]
    assert {each.spans[-1].style for each in marked} == {"bold"}
