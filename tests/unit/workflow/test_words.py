"""The words of the core: refusals say what is wrong, identities and moves of states follow their rules."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from dalsegno.definitions.problems import Problem
from dalsegno.workflow.contexts.nothing import NOTHING
from dalsegno.workflow.identity import attempt_id, derived_id, parse_attempt_id, task_id
from dalsegno.workflow.model import ActionDescription, Task
from dalsegno.workflow.refusals import (
    AlreadyExists,
    Deleted,
    InvalidDefinition,
    InvalidRequest,
    NotFound,
    Refused,
    RevisionMoved,
    TooLarge,
    Violation,
)
from dalsegno.workflow.states import (
    AttemptState,
    ExecutionState,
    IllegalMove,
    TaskState,
    check_attempt_move,
    check_execution_move,
    check_task_move,
)


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (TooLarge("the input", 5_000_000, 4 * 1024 * 1024), "the input has 5000000 bytes; the limit is 4 MiB"),
        (TooLarge("the input", 5_000_000, 4_000_000), "the input has 5000000 bytes; the limit is 4,000,000 bytes"),
        (RevisionMoved("task", "t", 2, 3), "task 't' is at revision 3, not at 2: read it again"),
        (RevisionMoved("task", "t", 0, 3), "task 't' exists already, at revision 3"),
        (NotFound("task", "t"), "task 't' does not exist"),
        (NotFound("task", "t", "it is gone"), "it is gone"),
        (AlreadyExists("task", "t"), "task 't' exists already"),
        (Deleted("task", "t", 0.5), "task 't' was deleted at 1970-01-01T00:00:00.500+00:00"),
        (InvalidDefinition([Problem("", 3, 1, "is odd")]), "the definition is not valid: line 3: is odd"),
        (
            InvalidDefinition([Problem("a.b", 3, 1, "is odd")] * 3),
            "the definition is not valid: line 3: a.b: is odd (and 2 more)",
        ),
        (Refused([Violation("a", "is odd"), Violation("b", "too")], "both are odd"), "both are odd"),
    ],
)
def test_a_refusal_says_what_is_wrong(refusal: Exception, text: str) -> None:
    """In one line, with what and where."""
    assert str(refusal) == text


def test_a_refusal_lists_what_it_is_about() -> None:
    """Each violation is there, and in the text when it has no other; without any there is nothing to refuse."""
    refusal = InvalidRequest([Violation("a", "is odd"), Violation("b", "is missing")])
    assert [each.description for each in refusal.violations] == ["is odd", "is missing"]
    assert str(refusal) == f"{refusal.violations[0]}; {refusal.violations[1]}"
    assert InvalidDefinition([Problem("a", 1, 1, "odd")]).problems == (Problem("a", 1, 1, "odd"),)
    for kind in (InvalidRequest, Refused, InvalidDefinition):
        with pytest.raises(ValueError, match="at least one"):
            kind([])


@pytest.mark.parametrize(
    ("check", "what"),
    [
        (lambda: check_execution_move(ExecutionState.SUCCESS, ExecutionState.ERROR), "execution: SUCCESS -> ERROR"),
        (lambda: check_execution_move(ExecutionState.RUNNING, ExecutionState.RUNNING), "execution: RUNNING -> RUNNING"),
        (lambda: check_task_move(7, TaskState.SKIPPED, TaskState.ERROR), "task 7: SKIPPED -> ERROR"),
        (
            lambda: check_attempt_move((1, 0, 2), AttemptState.ERROR, AttemptState.RUNNING),
            "attempt 1.0.2: ERROR -> RUN",
        ),
    ],
)
def test_a_move_that_no_table_lists_is_a_mistake(check: Callable[[], None], what: str) -> None:
    """It is said with what should have moved, from where and to where."""
    with pytest.raises(IllegalMove, match=what):
        check()


def test_a_move_of_a_table_or_none_is_allowed() -> None:
    """Tasks and attempts may stay where they are, executions may not."""
    check_execution_move(ExecutionState.RUNNING, ExecutionState.PAUSED)
    check_task_move(1, TaskState.ERROR, TaskState.RUNNING)
    check_task_move(1, TaskState.SUCCESS, TaskState.SUCCESS)
    check_attempt_move((1, 0, 1), AttemptState.READY, AttemptState.SUCCESS)
    check_attempt_move((1, 0, 1), AttemptState.SUCCESS, AttemptState.SUCCESS)


def test_an_id_is_derived_from_time_and_seed() -> None:
    """The same ones give the same id, of version 7, that sorts by time."""
    first = derived_id(1_700_000_000.123, "a")
    assert first == derived_id(1_700_000_000.123, "a") != derived_id(1_700_000_000.123, "b")
    assert first < derived_id(1_700_000_000.125, "a")
    read = uuid.UUID(first)
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == 1_700_000_000_123


def test_ids_of_tasks_and_attempts_show_their_numbers() -> None:
    """And are read back."""
    assert task_id("e", 17) == "e.17"
    assert parse_attempt_id(attempt_id("e", (17, 3, 2))) == ("e", (17, 3, 2))
    with pytest.raises(ValueError, match="unpack"):
        parse_attempt_id("e.17")


def test_the_shared_empty_dict_stays_empty() -> None:
    """Whoever writes to it is stopped."""
    with pytest.raises(TypeError, match="read-only"):
        NOTHING["a"] = 1
    assert NOTHING == {}


def test_a_description_is_found_by_its_digest() -> None:
    """An old one as long as it is known, then the newest."""
    old = ActionDescription("a", digest="old")
    newest = ActionDescription("a", digest="new", others=(ActionDescription("a", digest="mid"), old))
    assert newest.of_digest("old") is old
    assert newest.of_digest("new") is newest.of_digest("gone") is newest


@pytest.mark.parametrize(("join", "has_join"), [(None, False), (0, False), (1, True), (-1, True)])
def test_a_join_of_none_is_no_join(join: int | None, has_join: bool) -> None:
    """`join: 0` waits for nothing."""
    assert Task("t", join=join).has_join == has_join
