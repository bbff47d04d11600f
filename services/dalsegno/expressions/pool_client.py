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
class Overrun:
    """An evaluation in this process that exceeded its budget, so that the value comes from the pool."""

    steps: int
    is_moved: bool
    """Whether it had the whole budget of one evaluation, and not only what the event had left."""


Moment = tuple[str, str, int]
"""An evaluation of an event: the text, its place in the definition, and the steps that the event had left. These are
the same each time that the event is stepped."""


class Evaluator(Protocol):
    """Runs jobs for a thread."""

    overruns: Mapping[Moment, Overrun]
    """Those of the event when it was stepped before."""

    def keep_overrun(self, moment: Moment, overrun: Overrun) -> None:
        """Keep an overrun for when the event is stepped again."""
        ...

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """Return the value of the job; the scope answers its questions. Raises EvaluationError, perhaps Suspended."""
        ...

    def wait(self, future: Future[Any]) -> None:
        """Return when the future is done; may raise Suspended."""
        ...


class Waiting:
    """An evaluator that waits for each value."""

    overruns: Mapping[Moment, Overrun] = MappingProxyType({})

    def keep_overrun(self, moment: Moment, overrun: Overrun) -> None:
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


def overrun_before(text: str, place: str, steps_left: int) -> Overrun | None:
    """Return the overrun of the same evaluation when its event was stepped before; None: there was none."""
    overruns = _evaluator().overruns
    return overruns.get((text, place, steps_left)) if overruns else None


def keep_overrun(text: str, place: str, steps_left: int, overrun: Overrun) -> None:
    """Keep an overrun, so that the pool is asked at once when the event is stepped again."""
    _evaluator().keep_overrun((text, place, steps_left), overrun)


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
