"""One YAQL expression, ready to evaluate."""

from __future__ import annotations

from functools import lru_cache

from yaql.language.exceptions import YaqlException

from dalsegno.expressions.budget import TEXT_LENGTH, Budget
from dalsegno.expressions.evaluation import COMPILED_MAX, Source, explain, shorten
from dalsegno.expressions.language import MISTRAL, Language
from dalsegno.expressions.unknown import Unknown
from dalsegno.expressions.values import PROVEN, finish
from dalsegno.expressions.yaql.compile import NODES_PER_STEP, Compiled, compile_statement
from dalsegno.expressions.yaql.frame import Closure, Frame, NotCompiled, TooDeep
from dalsegno.expressions.yaql.library import evaluate_by_library
from dalsegno.expressions.yaql.names import find_unknown
from dalsegno.expressions.yaql.parse import SyntaxProblem, parse
from dalsegno.workflow.scope import EvaluationError, Scope

NO_NAMES: dict[str, object] = {}
COMPILE_COST = 10
"""Steps of compiling a character in the engine: some microseconds."""


class YaqlExpression(Source):
    """A parsed expression: its closure, or None if it is not compiled yet or the library must evaluate it."""

    __slots__ = ("closure", "unknown")

    notation = "yaql"
    made = ("closure",)

    def __init__(self, text: str, compiled: Compiled | None, language: Language, unknown: tuple[Unknown, ...]) -> None:
        super().__init__(
            text,
            language,
            cost=1 if compiled is None else 1 + compiled.nodes // NODES_PER_STEP,
            is_bounded=compiled is not None,
            path=None if compiled is None else compiled.path,
        )
        self.closure: Closure | None = None if compiled is None else compiled.closure
        self.unknown = unknown
        """Return the unknown names that it calls."""

    def value(self, scope: Scope, budget: Budget) -> object:
        """Return the closure's value, or else the library's."""
        if self.closure is None:
            if not self.is_bounded:
                return evaluate_by_library(self.text, Frame(scope, budget, NO_NAMES), self.language)
            if budget.is_here:  # elsewhere it delays no one
                budget.step(COMPILE_COST * len(self.text))
            self.closure = compile_yaql(self.text, self.language).closure
            assert self.closure is not None
        found = self.closure(Frame(scope, budget, NO_NAMES), None)
        return found if type(found) in PROVEN and not budget.unproven else finish(found, budget)

    def failure(self, error: Exception) -> EvaluationError:
        """Return the error with YAQL's own message."""
        if isinstance(error, KeyError):
            error = EvaluationError(f"there is no key {error}")
        elif isinstance(error, YaqlException) and str(error):
            error = EvaluationError(str(error))
        return explain(f"<% {shorten(self.text, 200)} %>", error)


@lru_cache(maxsize=COMPILED_MAX)
def compile_yaql(text: str, language: Language = MISTRAL) -> YaqlExpression:
    """Return the expression of this text, without its marks. Raises SyntaxProblem."""
    if len(text) > TEXT_LENGTH:
        raise SyntaxProblem(f"the expression is longer than {TEXT_LENGTH:,} characters")
    statement = parse(text)
    compiled: Compiled | None = None
    try:
        compiled = compile_statement(statement, language)
    except NotCompiled:
        pass
    except (TooDeep, RecursionError):
        raise SyntaxProblem("the expression nests too deeply") from None
    except EvaluationError as error:
        raise SyntaxProblem(str(error)) from None
    return YaqlExpression(text, compiled, language, find_unknown(statement.expression, language))
