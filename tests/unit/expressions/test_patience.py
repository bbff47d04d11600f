"""Evaluations that take their time, asked for by callers who have others to serve."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions import patience
from dalsegno.expressions.patience import Patience, Suspended
from dalsegno.workflow.scope import EvaluationError

RUNAWAY = "regex('(a+)+$').matches('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')"
ASKS_LATE = "[regex('(a+)+$').matches('aaaaaaaaaaaaaaaaaaa!'), $.word]"


@pytest.fixture
def patient() -> Iterator[Patience]:
    """Processes of this test's own."""
    made = Patience()
    yield made
    made.close()


def evaluate(patient: Patience, text: str, done: Callable[[str], None]) -> object:
    """The value of a YAQL expression."""
    return patient.evaluate("yaql", text, PlainScope({"word": "late"}), "place", "mistral", done)


def test_what_is_quick_is_there_at_once(patient: Patience) -> None:
    """Most expressions that run apart are: their value comes as if there were no patience."""
    assert evaluate(patient, "regex('a+').matches('aaa')", lambda key: None) is True


def test_what_takes_its_time_is_suspended_and_then_at_hand(patient: Patience) -> None:
    """The caller is free meanwhile, other expressions too; asked again, the error is there without another wait."""
    done: queue.Queue[str] = queue.Queue()
    with pytest.raises(Suspended) as suspended:
        evaluate(patient, RUNAWAY, done.put)
    assert not patient.is_finished(suspended.value.key)
    assert evaluate(patient, "regex('b').matches('b')", done.put) is True
    assert done.get(timeout=30) == suspended.value.key
    assert patient.is_finished(suspended.value.key)
    with pytest.raises(EvaluationError, match="takes more than 1 s"):
        evaluate(patient, RUNAWAY, done.put)
    assert done.empty()


def test_what_asks_late_is_waited_for(patient: Patience) -> None:
    """Beside the caller nobody can answer questions about the scope; asked again, the caller waits and answers."""
    done: queue.Queue[str] = queue.Queue()
    try:
        value = evaluate(patient, ASKS_LATE, done.put)
    except Suspended:
        done.get(timeout=30)
        value = evaluate(patient, ASKS_LATE, done.put)
    assert value == [False, "late"]


def test_only_threads_that_serve_others_are_suspended() -> None:
    """Everybody else waits for the value or the error."""
    found: list[Suspended] = []

    def serve() -> None:
        patience.serve_others(lambda key: None)
        try:
            patience.evaluate_apart("yaql", RUNAWAY, PlainScope({}), "elsewhere", "mistral")
        except Suspended as suspended:
            found.append(suspended)
            patience.wait(suspended.key)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert len(found) == 1
    with pytest.raises(EvaluationError, match="takes more than 1 s"):
        patience.evaluate_apart("yaql", RUNAWAY, PlainScope({}), "here", "mistral")
