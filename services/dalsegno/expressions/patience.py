"""Who waits for the evaluation processes, and how long.

Most callers wait for the value. The engine's conductor has others to serve: what is not there within QUICK_S goes on
beside it, and the conductor puts the event aside until the value is there (`Suspended`). When it then steps the event
again, the expression is asked for again, and its value or error is at hand.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Callable

from dalsegno.expressions.pool.jobs import Evaluation, Outcome, Problem, SchemaCheck
from dalsegno.expressions.pool.pool import Pool
from dalsegno.workflow.scope import EvaluationError, Scope

QUICK_S = 0.05
"""Seconds that a caller who has others to serve waits."""
KEPT_MAX = 256
"""So many values that came later are kept for those who ask again."""


class Suspended(BaseException):
    """The evaluation goes on beside. Whoever asked does it again when `on_done` has been told of the key.

    No Exception: nothing on the way may take it for a fault of the expression.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Patience:
    """What goes on beside. For any threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed = threading.Condition()
        self._finished: OrderedDict[str, Outcome] = OrderedDict()
        """An outcome that needs something asked it late, which only a caller who waits can answer."""
        self._beside: set[str] = set()

    def is_finished(self, key: str) -> bool:
        """Whether the evaluation has come to an end."""
        with self._changed:
            return key in self._finished

    def wait(self, key: str) -> None:
        """Return when the evaluation has come to an end."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._beside)

    def evaluate(self, job: Evaluation, scope: Scope, on_done: Callable[[str], None]) -> object:
        """The value if it is there, or there soon. Raises EvaluationError and Suspended."""
        key = "\n".join((job.seed, job.language, job.notation, job.place, job.text))
        with self._changed:
            known = self._finished.get(key)
            if key in self._beside:
                raise Suspended(key)
            if known is None:
                self._beside.add(key)
        if known is None:
            outcome = self._begin(key, job, scope, on_done)
        else:
            outcome = self._pool.wait(job, scope) if known.needed else known
        assert outcome is not None
        if outcome.error:
            raise EvaluationError(outcome.error)
        return outcome.value

    def _begin(self, key: str, job: Evaluation, scope: Scope, on_done: Callable[[str], None]) -> Outcome:
        """The outcome if it is there soon. Raises Suspended."""
        goes_on = False
        try:
            outcome = self._pool.wait(job, scope, QUICK_S, lambda late: self._finish(key, late, on_done))
            goes_on = outcome is None
        finally:
            if not goes_on:
                with self._changed:
                    self._beside.discard(key)
        if outcome is None:
            raise Suspended(key)
        return outcome

    def _finish(self, key: str, outcome: Outcome, on_done: Callable[[str], None]) -> None:
        """What goes on beside has come to its end."""
        with self._changed:
            self._finished[key] = outcome
            if len(self._finished) > KEPT_MAX:
                self._finished.popitem(last=False)
            self._beside.discard(key)
            self._changed.notify_all()
        on_done(key)


_pool = Pool()
_patience = Patience(_pool)
_thread = threading.local()
atexit.register(_pool.close)


def serve_others(on_done: Callable[[str], None]) -> None:
    """From now on this thread waits for no slow evaluation; `on_done` is called, from anywhere, when one has ended."""
    _thread.on_done = on_done


def is_finished(key: str) -> bool:
    """Whether the evaluation that was Suspended has come to an end."""
    return _patience.is_finished(key)


def wait(key: str) -> None:
    """Return when the evaluation that was Suspended has come to an end."""
    _patience.wait(key)


def evaluate_apart(notation: str, text: str, scope: Scope, place: str, language: str) -> object:
    """The value of an expression ("yaql", "jinja") or a text ("jinja text") of a workflow language. Raises
    EvaluationError; in a thread that serves others also Suspended."""
    job = Evaluation(notation, text, language, place, scope.at_s, scope.seed)
    on_done: Callable[[str], None] | None = getattr(_thread, "on_done", None)
    return _pool.evaluate(job, scope) if on_done is None else _patience.evaluate(job, scope, on_done)


def check_apart(schema: object, answer: object) -> list[Problem]:
    """What is wrong with an answer, by the schema that it is to fit: where, as `.approved`, and what.

    Raises EvaluationError when the schema is none, or takes too much.
    """
    return _pool.check(SchemaCheck(schema, answer))


def warm_up() -> None:
    """Start the processes without waiting for them, so that the first expression does not."""
    _pool.start()
