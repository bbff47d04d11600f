"""Jobs and answers for the tests of the pool."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.pool.jobs import Evaluation, JobOutcome, Unknown
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.replies import ScopeAnswers

SCOPE = PlainScope({"s": "abc", "l": [3, 1, 2], "big": list(range(100_000))})


def yaql(text: str, place: str = "", language: str = "mistral") -> Evaluation:
    """A YAQL expression to evaluate."""
    return Evaluation("yaql", text, language, place, SCOPE.at_s, SCOPE.seed)


@dataclass
class Known:
    """Answers that know some variables and, of everything else, what a scope says or nothing."""

    variables: dict[str, object] = field(default_factory=dict)
    scope: PlainScope | None = None

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """The variable, or what the scope says. Raises Unknown."""
        if question == "variable" and arguments[0] in self.variables:
            return self.variables[arguments[0]]
        if self.scope is None:
            raise Unknown
        return ScopeAnswers(self.scope).answer(question, arguments, named)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many of the spans, each from a begin to an end, overlap at one moment at most."""
    return max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)


def outcome_of(pool: Pool, job: Evaluation, answers: Known | None = None, owner: str = "") -> JobOutcome:
    """What a job comes to that is submitted without waiting."""
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    pool.submit(job, answers or Known(), owner, outcomes.put)
    return outcomes.get(timeout=60)
