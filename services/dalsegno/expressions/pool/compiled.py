"""The cache of the expressions that a process has compiled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from dalsegno.expressions.compile import compile_text
from dalsegno.expressions.jinja import compile_jinja_expression, compile_jinja_text
from dalsegno.expressions.language import LANGUAGES, Language
from dalsegno.expressions.pool.jobs import Evaluation
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.parse import SyntaxProblem
from dalsegno.workflow.scope import EvaluationError, Scope

CHARACTERS_MAX = 256 * 1024
"""Characters of all cached texts; the compiled forms take some hundred times as many bytes."""


class Evaluable(Protocol):
    """An expression of any kind."""

    def evaluate_here(self, scope: Scope, place: str) -> object: ...


# Without the caches of the languages, which limit the number and not the size.
COMPILERS: dict[str, Callable[[str, Language], Evaluable]] = {
    "yaql": compile_yaql.__wrapped__,
    "jinja": compile_jinja_expression.__wrapped__,
    "jinja text": compile_jinja_text.__wrapped__,
    "text": compile_text,
}


class Compiled:
    """The most recently used expressions."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], Evaluable] = OrderedDict()
        self._characters = 0

    def get(self, job: Evaluation) -> Evaluable:
        """Return the job's expression. Raises EvaluationError if it is invalid."""
        key = job.notation, job.language, job.text
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        try:
            found = COMPILERS[job.notation](job.text, LANGUAGES[job.language])
        except SyntaxProblem as problem:
            raise EvaluationError(f"{job.shown}: {problem}") from None
        self._kept[key] = found
        self._characters += len(job.text)
        while self._characters > CHARACTERS_MAX:
            (_, _, text), _ = self._kept.popitem(last=False)
            self._characters -= len(text)
        return found
