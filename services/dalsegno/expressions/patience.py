"""Who waits for the evaluation process, and how long.

Most callers wait for the value. The engine's conductor has others to serve: what is not there within QUICK_S goes on
beside it, watched by a thread of its own, and the conductor puts the event aside until the value is there
(`Suspended`). When it then steps the event again, the expression is asked for again, and its value or error is at hand.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dalsegno.expressions.isolation import Isolation, NoScope, Problem, StillRunning
from dalsegno.workflow.scope import EvaluationError, Scope

QUICK_S = 0.05
"""Seconds that a caller who has others to serve waits."""
KEPT_MAX = 256
"""So many values that came later are kept for those who ask again."""
BESIDE_MAX = 4
"""So many evaluations go on beside; what comes then is waited for."""


class Suspended(BaseException):
    """The evaluation goes on beside. Whoever asked does it again when `on_done` has been told of the key.

    No Exception: nothing on the way may take it for a fault of the expression.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation came to."""

    value: object = None
    error: str = ""
    must_wait: bool = False
    """It asked something late, which only a caller who waits can answer."""


class Patience:
    """The processes, and what goes on beside. For any threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._first = Isolation()
        self._first_lock = threading.Lock()
        """Held by whoever speaks with the first process."""
        self._finished: OrderedDict[str, Outcome] = OrderedDict()
        self._beside: dict[str, Isolation] = {}

    def start(self) -> None:
        """Start the process without waiting for it, so that the first expression does not."""
        with self._first_lock:
            self._first.start()

    def close(self) -> None:
        """End all processes."""
        self._first.close()
        with self._changed:
            for isolation in self._beside.values():
                isolation.close()

    @contextmanager
    def process(self) -> Iterator[Isolation]:
        """The process, for one conversation."""
        with self._first_lock:
            yield self._first

    def is_finished(self, key: str) -> bool:
        """Whether the evaluation has come to an end."""
        with self._changed:
            return key in self._finished

    def wait(self, key: str) -> None:
        """Return when the evaluation has come to an end."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._beside)

    def evaluate(
        self, notation: str, text: str, scope: Scope, place: str, language: str, on_done: Callable[[str], None]
    ) -> object:
        """The value if it is there, or there soon. Raises EvaluationError and Suspended."""
        key = "\n".join((scope.seed, language, notation, place, text))
        with self._changed:
            known = self._finished.get(key)
            is_full = len(self._beside) >= BESIDE_MAX
            if key in self._beside:
                raise Suspended(key)
        if known is not None and not known.must_wait:
            if known.error:
                raise EvaluationError(known.error)
            return known.value
        with self._first_lock:
            if known is not None or is_full:
                return self._first.evaluate(notation, text, scope, place, language)
            try:
                return self._first.evaluate(notation, text, scope, place, language, QUICK_S)
            except StillRunning:
                slow, self._first = self._first, Isolation(self._first.time_s, self._first.memory_mib)
                self._first.start()
        with self._changed:
            self._beside[key] = slow
        threading.Thread(target=self._watch, args=(key, slow, on_done), name="expression", daemon=True).start()
        raise Suspended(key)

    def _watch(self, key: str, isolation: Isolation, on_done: Callable[[str], None]) -> None:
        """Wait for the end of what goes on beside."""
        try:
            outcome = Outcome(value=isolation.go_on(None))
        except EvaluationError as error:
            outcome = Outcome(error=str(error))
        except NoScope:
            outcome = Outcome(must_wait=True)
        isolation.close()
        with self._changed:
            self._finished[key] = outcome
            if len(self._finished) > KEPT_MAX:
                self._finished.popitem(last=False)
            del self._beside[key]
            self._changed.notify_all()
        on_done(key)


_patience = Patience()
_thread = threading.local()
atexit.register(_patience.close)


def serve_others(on_done: Callable[[str], None]) -> None:
    """From now on this thread waits for no slow evaluation; `on_done` is called, from anywhere, when one has ended."""
    _thread.on_done = on_done


def is_finished(key: str) -> bool:
    """Whether the evaluation that was Suspended has come to an end."""
    return _patience.is_finished(key)


def wait(key: str) -> None:
    """Return when the evaluation that was Suspended has come to an end: at most isolation.TIME_S later."""
    _patience.wait(key)


def evaluate_apart(notation: str, text: str, scope: Scope, place: str, language: str) -> object:
    """The value of an expression ("yaql", "jinja") or a text ("jinja text") of a workflow language. Raises
    EvaluationError; in a thread that serves others also Suspended.

    One at a time: what is called here is rare and short, or else killed after isolation.TIME_S.
    """
    on_done: Callable[[str], None] | None = getattr(_thread, "on_done", None)
    if on_done is not None:
        return _patience.evaluate(notation, text, scope, place, language, on_done)
    with _patience.process() as process:
        return process.evaluate(notation, text, scope, place, language)


def check_apart(schema: object, answer: object) -> list[Problem]:
    """What is wrong with an answer, by the schema that it is to fit: where, as `.approved`, and what.

    Raises EvaluationError when the schema is none, or takes too much.
    """
    with _patience.process() as process:
        return process.check(schema, answer)


def warm_up() -> None:
    """Start the process without waiting for it, so that the first expression does not."""
    _patience.start()
