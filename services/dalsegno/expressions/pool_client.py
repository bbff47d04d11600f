"""Expressions that have no known bound: the pool of evaluation processes evaluates them.

Most callers wait for the value. A thread that serves others has an evaluator of its own (`use`), which never waits:
it gives what is known already, or raises Suspended (workflow/scope.py), and has the event stepped again later.
"""

from __future__ import annotations

import atexit
import threading
from concurrent.futures import Future, wait
from typing import Any, Protocol

from dalsegno.expressions.pool.jobs import Evaluation, Problem, SchemaCheck
from dalsegno.expressions.pool.pool import Pool
from dalsegno.workflow.scope import Scope


class Evaluator(Protocol):
    """Whoever has jobs done for a thread."""

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """The value of the job, whose questions the scope answers. Raises EvaluationError; may raise Suspended."""
        ...

    def wait(self, future: Future[Any]) -> None:
        """Return when the future is done; may raise Suspended."""
        ...


class Waiting:
    """Waits for each value."""

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """The value, when it is there."""
        return POOL.evaluate(job, scope)

    def wait(self, future: Future[Any]) -> None:
        """Return when it is done, whatever it came to."""
        wait([future])


POOL = Pool()
"""The processes of this process. They start with the first job, or with `POOL.start()`."""
atexit.register(POOL.close)

_waiting = Waiting()
_thread = threading.local()


def use(evaluator: Evaluator | None) -> None:
    """Have this evaluator do what is asked in this thread from here on; None: the thread waits for each value."""
    _thread.evaluator = evaluator


def _evaluator() -> Evaluator:
    found: Evaluator | None = getattr(_thread, "evaluator", None)
    return found or _waiting


def wait_for(future: Future[Any]) -> None:
    """Return when the future is done. Raises Suspended in a thread that does not wait."""
    if not future.done():
        _evaluator().wait(future)


def evaluate_in_pool(notation: str, text: str, scope: Scope, place: str, language: str) -> object:
    """The value of an expression ("yaql", "jinja") or a text ("jinja text") of a workflow language. Raises
    EvaluationError, and Suspended in a thread that does not wait."""
    return _evaluator().value(Evaluation(notation, text, language, place, scope.at_s, scope.seed), scope)


def check_in_pool(schema: object, answer: object) -> list[Problem]:
    """What is wrong with an answer, by the schema that it must fit: where, as `.approved`, and what.

    Raises EvaluationError when the schema is none, or takes too much, and Suspended in a thread that does not wait.
    """
    found: Any = _evaluator().value(SchemaCheck(schema, answer), None)
    return [(place, told) for place, told in found]
