"""Evaluate expressions without a known bound in the pool of evaluation processes.

Most callers wait for the value. A thread that serves others has its own evaluator (`use`), which never waits: it
returns a known value, or raises Suspended (workflow/scope.py), and the event is stepped again later.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from dalsegno.expressions.pool.jobs import Evaluation, Problem, SchemaCheck
from dalsegno.expressions.pool.pool import Pool
from dalsegno.workflow.scope import Scope


@dataclass(frozen=True, slots=True)
class Attempt:
    """An evaluation in this process that exceeded its budget, so that the value comes from the pool."""

    steps: int
    is_moved: bool
    """Whether it had the whole budget of one evaluation, and not only what the event had left."""


Moment = tuple[str, str, int]
"""An evaluation of an event: the text, its place in the definition, and the steps that the event had left. These are
the same each time that the event is stepped."""


class Evaluator(Protocol):
    """Runs jobs for a thread."""

    attempts: Mapping[Moment, Attempt]
    """The attempts that were in vain when the event was stepped before."""

    def keep_attempt(self, moment: Moment, attempt: Attempt) -> None:
        """Keep an attempt for when the event is stepped again."""
        ...

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """Return the value of the job; the scope answers its questions. Raises EvaluationError, perhaps Suspended."""
        ...

    def wait(self, future: Future[Any]) -> None:
        """Return when the future is done; may raise Suspended."""
        ...


class Waiting:
    """An evaluator that waits for each value."""

    attempts: Mapping[Moment, Attempt] = MappingProxyType({})

    def keep_attempt(self, moment: Moment, attempt: Attempt) -> None:
        """Do nothing: nothing is evaluated twice."""

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """Wait for the value, and return it."""
        return POOL.evaluate(job, scope)

    def wait(self, future: Future[Any]) -> None:
        """Return when it is done, with or without a value."""
        wait([future])


POOL = Pool()
"""The pool of this process. It starts with the first job, or with `POOL.start()`."""
atexit.register(POOL.close)

_waiting = Waiting()
_thread = threading.local()


def use(evaluator: Evaluator | None) -> None:
    """Set the evaluator of this thread; None: the thread waits for each value."""
    _thread.evaluator = evaluator


def _evaluator() -> Evaluator:
    found: Evaluator | None = getattr(_thread, "evaluator", None)
    return found or _waiting


def wait_for(future: Future[Any]) -> None:
    """Return when the future is done. Raises Suspended in a thread that does not wait."""
    if not future.done():
        _evaluator().wait(future)


def attempt_before(text: str, place: str, steps_left: int) -> Attempt | None:
    """Return the attempt of the same evaluation when its event was stepped before, if it was in vain."""
    attempts = _evaluator().attempts
    return attempts.get((text, place, steps_left)) if attempts else None


def keep_attempt(text: str, place: str, steps_left: int, attempt: Attempt) -> None:
    """Keep an attempt that was in vain, so that it is not made again when the event is stepped again."""
    _evaluator().keep_attempt((text, place, steps_left), attempt)


def evaluate_in_pool(notation: str, text: str, scope: Scope, place: str, language: str) -> object:
    """Return the value of an expression ("yaql", "jinja") or a text ("jinja text") of a workflow language. Raises
    EvaluationError, and Suspended in a thread that does not wait."""
    return _evaluator().value(Evaluation(notation, text, language, place, scope.at_s, scope.seed), scope)


def check_in_pool(schema: object, answer: object) -> list[Problem]:
    """Return the errors of an answer by its schema: the place, such as `.approved`, and the error.

    Raises EvaluationError when the schema is none, or takes too much, and Suspended in a thread that does not wait.
    """
    found: Any = _evaluator().value(SchemaCheck(schema, answer), None)
    return [(place, told) for place, told in found]
