"""What one work has evaluated in the pool, kept while the work is stepped again and again until it is done.

A value belongs to the work and to what it was made from: it counts only while all that its expression asked of the
scope is unchanged, else the expression is evaluated again. So nothing is stale, and as values are found by what they
were made from, other events of the execution may be stepped meanwhile.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from typing import Any

from dalsegno.expressions.pool.jobs import Evaluation, Nothing, Outcome, Question, SchemaCheck, Ticket, Unknown
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.replies import Replies, ScopeAnswers
from dalsegno.workflow.running.view import View
from dalsegno.workflow.scope import EvaluationError, Scope, Suspended

Key = tuple[str, ...]
"""What is evaluated: notation, language, place and text, or a schema and an answer."""

LASTING = frozenset({"variable", "variables", "item", "environment", "global_variable"})
"""What a scope can be asked from another thread: it comes from data that nobody changes in place."""


STALE_MAX = 3
"""After so many passes with values that did not count any more, other works of the execution wait, and what other
executions do makes no value stale."""
STALE_LIMIT = 20
"""After so many an expression fails: it would never come to an end."""
OF_OTHERS = frozenset({"tasks", "executions", "stored"})
"""What may change with every event of other executions: asked of the store, and not of the execution itself."""

Digests = tuple[str, ...]


class KnownValues:
    """The values of one expression, by what they were made from."""

    def __init__(self) -> None:
        self.needed: dict[str, Question] = {}
        """What jobs asked that only the conductor's thread can answer: answered beforehand the next time."""
        self.outcomes: dict[tuple[str, ...], dict[Digests, list[Outcome]]] = {}
        """By the questions that were asked and then by the digests of the answers; equal ones in order."""
        self.questions: dict[tuple[str, ...], tuple[Question, ...]] = {}

    def keep(self, outcome: Outcome) -> None:
        """One more."""
        if outcome.needed:
            self.needed.update((_name(question), question) for question in outcome.needed)
            return
        names = tuple(_name(each.question) for each in outcome.asked)
        self.questions[names] = tuple(each.question for each in outcome.asked)
        digests = tuple(each.digest for each in outcome.asked)
        self.outcomes.setdefault(names, {}).setdefault(digests, []).append(outcome)

    def nearest(self, names: tuple[str, ...], digests: Digests) -> Digests:
        """The newest values that were made from the same but for what others do; else the digests as they are."""
        own = [number for number, question in enumerate(self.questions[names]) if question.name not in OF_OTHERS]
        for kept in reversed(self.outcomes[names]):
            if all(kept[number] == digests[number] for number in own):
                return kept
        return digests

    def keep_only(self, used: Collection[tuple[tuple[str, ...], Digests]]) -> None:
        """Forget what does not count any more."""
        for names, table in self.outcomes.items():
            for digests in [each for each in table if (names, each) not in used]:
                del table[digests]


_UNKNOWN = Unknown()


class PreparedAnswers:
    """The answers for a job: what lasts comes from the scope, the rest was asked before."""

    __slots__ = ("_known", "_scope")

    def __init__(self, scope: Scope, needed: Mapping[str, Question]) -> None:
        self._scope = ScopeAnswers(scope.lasting() if isinstance(scope, View) else scope)
        answers = ScopeAnswers(scope)
        self._known = {name: _attempt(answers, question) for name, question in needed.items()}

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """What the scope says, or said. Raises Unknown for what was not asked before."""
        if question in LASTING:
            return self._scope.answer(question, arguments, named)
        found = self._known.get(_name(Question(question, arguments, named)), _UNKNOWN)
        if isinstance(found, Exception):
            raise copy(found)  # the kept one would refer to every frame that it is raised through
        return found


def _attempt(answers: ScopeAnswers, question: Question) -> object:
    """The answer, or the exception in its place."""
    try:
        return answers.answer(question.name, question.arguments, question.named)
    except (KeyError, EvaluationError) as refusal:
        return refusal.with_traceback(None)  # it is kept, and its frames refer to large data


def _name(question: Question) -> str:
    return json.dumps([question.name, list(question.arguments), dict(question.named)], sort_keys=True)


class Evaluations:
    """The evaluations of one work. `value` is called in the conductor's thread, outcomes come from the pool's."""

    def __init__(self, pool: Pool, owner: str, on_ready: Callable[[], None]) -> None:
        """`owner`: the pool is fair over owners. `on_ready` is called, from any thread, when all is there that the work
        has asked for."""
        self.stale_count = 0
        """In how many passes values were there that did not count any more."""
        self._pool = pool
        self._owner = owner
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._pending: dict[int, Ticket] = {}
        self._others: set[int] = set()
        """What it waits for besides."""
        self._arrived: list[tuple[Key, Outcome]] = []
        self._known: dict[Key, KnownValues] = {}
        self._used: dict[tuple[Key, tuple[str, ...], Digests], int] = {}
        self._replies = Replies()
        self._number = 0
        self._is_open = False
        """Whether a pass over the work goes on: it may ask for more."""
        self._is_stale = False
        """Whether a value was there in this pass that does not count any more."""

    def begin(self) -> None:
        """The work is stepped, from its beginning."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
            self._is_open = True
        for key, outcome in arrived:
            self._known.setdefault(key, KnownValues()).keep(outcome)
        self._used.clear()
        self._replies.clear()
        self._is_stale = False

    def end(self) -> bool:
        """The work cannot be done yet. True when all that it has asked for has come already."""
        self.stale_count += self._is_stale
        if self._is_stale:
            for key, known in self._known.items():
                known.keep_only({(names, digests) for used, names, digests in self._used if used == key})
        with self._lock:
            self._is_open = False
            return not (self._pending or self._others)

    def withdraw(self) -> None:
        """Nobody wants the work any more."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for ticket in pending.values():
            self._pool.withdraw(ticket)

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """The value if it is known. Raises EvaluationError, and Suspended once it has been asked for."""
        key = _key(job)
        known = self._known.get(key)
        if known is not None:
            outcome = self._find(key, known, scope)
            if outcome is not None:
                if outcome.error:
                    raise EvaluationError(outcome.error)
                return outcome.value
        if self.stale_count >= STALE_LIMIT:
            raise EvaluationError(f"{job.shown}: what it is made from has changed {STALE_LIMIT} times meanwhile")
        self._submit(key, job, scope, known)
        raise Suspended

    def wait(self, future: Future[Any]) -> None:
        """Make the work wait for a future as well as for its values."""
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

    def _find(self, key: Key, known: KnownValues, scope: Scope | None) -> Outcome | None:
        """An outcome that was made from what the scope says now; of equal ones the next."""
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

            def done(outcome: Outcome) -> None:
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
