"""The values that one work has had evaluated in the pool, kept until the work is done.

A value counts only while all inputs that its expression read from the scope are unchanged; otherwise the expression is
evaluated again. So no value is stale, and other events of the execution can be stepped meanwhile.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from typing import Any

from dalsegno.expressions.pool.jobs import Evaluation, JobOutcome, Nothing, Question, SchemaCheck, Ticket, Unknown
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.replies import Replies, ScopeAnswers
from dalsegno.expressions.pool_client import Moment, Overrun
from dalsegno.workflow.scope import EvaluationError, Scope, Suspended

Key = tuple[str, ...]
"""What is evaluated: notation, language, place and text, or a schema and an answer."""

LASTING = frozenset({"variable", "variables", "item", "environment", "global_variable"})
"""The questions that another thread may ask a scope: nobody changes the data of the answers in place."""


STALE_MAX = 3
"""After this many passes with stale values, other works of the execution wait, and events of other executions make no
value stale."""
STALE_LIMIT = 20
"""After this many passes with stale values an expression fails, because it might never finish."""
OF_OTHERS = frozenset({"tasks", "executions", "stored"})
"""The questions whose answers events of other executions may change: the store answers them, not the execution."""

Digests = tuple[str, ...]


class KnownValues:
    """The values of one expression, by the inputs they were made from."""

    def __init__(self) -> None:
        self.needed: dict[str, Question] = {}
        """Questions of jobs that only the conductor's thread can answer. They are answered in advance the next time."""
        self.outcomes: dict[tuple[str, ...], dict[Digests, list[JobOutcome]]] = {}
        """By the questions that were asked, then by the digests of the answers. Equal outcomes are in order."""
        self.questions: dict[tuple[str, ...], tuple[Question, ...]] = {}

    def keep(self, outcome: JobOutcome) -> None:
        """Add an outcome."""
        if outcome.needed:
            self.needed.update((_name(question), question) for question in outcome.needed)
            return
        names = tuple(_name(each.question) for each in outcome.asked)
        self.questions[names] = tuple(each.question for each in outcome.asked)
        digests = tuple(each.digest for each in outcome.asked)
        self.outcomes.setdefault(names, {}).setdefault(digests, []).append(outcome)

    def nearest(self, names: tuple[str, ...], digests: Digests) -> Digests:
        """Return the newest inputs that differ only in what other executions may change. If there are none, return
        `digests`."""
        own = [number for number, question in enumerate(self.questions[names]) if question.name not in OF_OTHERS]
        for kept in reversed(self.outcomes[names]):
            if all(kept[number] == digests[number] for number in own):
                return kept
        return digests

    def keep_only(self, used: Collection[tuple[tuple[str, ...], Digests]]) -> None:
        """Remove the values that are not used any more."""
        for names, table in self.outcomes.items():
            for digests in [each for each in table if (names, each) not in used]:
                del table[digests]


_UNKNOWN = Unknown()


class PreparedAnswers:
    """The answers for a job. The lasting ones come from the scope; the others were asked in advance."""

    __slots__ = ("_known", "_scope")

    def __init__(self, scope: Scope, needed: Mapping[str, Question]) -> None:
        self._scope = ScopeAnswers(scope.lasting())
        answers = ScopeAnswers(scope)
        self._known = {name: _attempt(answers, question) for name, question in needed.items()}

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Return the answer of the scope. Raises Unknown for a question that was not asked in advance."""
        if question in LASTING:
            return self._scope.answer(question, arguments, named)
        found = self._known.get(_name(Question(question, arguments, named)), _UNKNOWN)
        if isinstance(found, Exception):
            raise copy(found)  # the kept one would refer to every frame that it is raised through
        return found


def _attempt(answers: ScopeAnswers, question: Question) -> object:
    """Return the answer, or the exception in its place."""
    try:
        return answers.answer(question.name, question.arguments, question.named)
    except (KeyError, EvaluationError) as refusal:
        return refusal.with_traceback(None)  # it is kept, and its frames refer to large data


def _name(question: Question) -> str:
    return json.dumps([question.name, list(question.arguments), dict(question.named)], sort_keys=True)


class Evaluations:
    """The evaluations of one work. `value` is called in the conductor's thread; outcomes come from threads of the
    pool."""

    def __init__(self, pool: Pool, owner: str, on_ready: Callable[[], None]) -> None:
        """`owner`: the pool is fair over owners. `on_ready` is called, from any thread, when all values that the work
        asked for exist."""
        self.stale_count = 0
        """The number of passes in which there were stale values."""
        self.overruns: dict[Moment, Overrun] = {}
        """The evaluations that were too much for the engine."""
        self._pool = pool
        self._owner = owner
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._pending: dict[int, Ticket] = {}
        self._others: set[int] = set()
        """The futures that it waits for."""
        self._arrived: list[tuple[Key, JobOutcome]] = []
        self._known: dict[Key, KnownValues] = {}
        self._used: dict[tuple[Key, tuple[str, ...], Digests], int] = {}
        self._replies = Replies()
        self._number = 0
        self._is_open = False
        """Whether a pass over the work goes on, which may ask for more values."""
        self._is_stale = False
        """Whether this pass has met a stale value."""

    def begin(self) -> None:
        """Begin a pass over the work."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
            self._is_open = True
        for key, outcome in arrived:
            self._known.setdefault(key, KnownValues()).keep(outcome)
        self._used.clear()
        self._replies.clear()
        self._is_stale = False

    def end(self) -> bool:
        """End a pass in which the work could not be done. Return whether all values that it asked for exist by now."""
        self.stale_count += self._is_stale
        if self._is_stale:
            for key, known in self._known.items():
                known.keep_only({(names, digests) for used, names, digests in self._used if used == key})
        with self._lock:
            self._is_open = False
            return not (self._pending or self._others)

    def withdraw(self) -> None:
        """Cancel the evaluations: nobody wants the work any more."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for ticket in pending.values():
            self._pool.withdraw(ticket)

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """Return the value if it is known. Raises EvaluationError, and Suspended after it has asked for the value."""
        key = _key(job)
        known = self._known.get(key)
        if known is not None:
            outcome = self._find(key, known, scope)
            if outcome is not None:
                if outcome.error:
                    raise EvaluationError(outcome.error)
                return outcome.value
        if self.stale_count >= STALE_LIMIT:
            raise EvaluationError(f"{job.shown}: its inputs have changed {STALE_LIMIT} times meanwhile")
        self._submit(key, job, scope, known)
        raise Suspended

    def wait(self, future: Future[object]) -> None:
        """Make the work wait for a future as well."""
        with self._lock:
            self._number += 1
            number = self._number
            self._others.add(number)
        future.add_done_callback(lambda done: self._is_there(number))

    def _is_there(self, number: int) -> None:
        with self._lock:
            self._others.discard(number)
            is_ready = not (self._pending or self._others or self._is_open)
        if is_ready:
            self._on_ready()

    def _find(self, key: Key, known: KnownValues, scope: Scope | None) -> JobOutcome | None:
        """Return an outcome that was made from the current inputs. Of equal outcomes return the next one."""
        for names, table in known.outcomes.items():
            digests = self._digests(known.questions[names], scope)
            if self.stale_count >= STALE_MAX and digests not in table:
                digests = known.nearest(names, digests)
            outcomes = table.get(digests, [])
            place = (key, names, digests)
            number = self._used.get(place, 0)
            if number < len(outcomes):
                self._used[place] = number + 1
                return outcomes[number]
            self._is_stale = self._is_stale or not outcomes
        return None

    def _digests(self, questions: Sequence[Question], scope: Scope | None) -> Digests:
        if scope is None:
            return ()
        answers = ScopeAnswers(scope)
        return tuple(self._replies.look_up(answers, question).digest for question in questions)

    def _submit(self, key: Key, job: Evaluation | SchemaCheck, scope: Scope | None, known: KnownValues | None) -> None:
        answers = Nothing() if scope is None else PreparedAnswers(scope, known.needed if known is not None else {})
        with self._lock:
            self._number += 1
            number = self._number

            def done(outcome: JobOutcome) -> None:
                with self._lock:
                    self._pending.pop(number, None)
                    self._arrived.append((key, outcome))
                    is_ready = not (self._pending or self._others or self._is_open)
                if is_ready:
                    self._on_ready()

            self._pending[number] = self._pool.submit(job, answers, self._owner, done)


def _key(job: Evaluation | SchemaCheck) -> Key:
    if isinstance(job, Evaluation):
        return (job.notation, job.language, job.place, job.text)
    return (json.dumps(job.schema, sort_keys=True), json.dumps(job.answer, sort_keys=True))
