"""One YAQL expression, ready to evaluate."""

from __future__ import annotations

from functools import lru_cache

from yaql.language.exceptions import YaqlException

from dalsegno.expressions.apart import evaluate_apart
from dalsegno.expressions.budget import TEXT_LENGTH, Budget
from dalsegno.expressions.language import MISTRAL, Language
from dalsegno.expressions.unknown import Unknown
from dalsegno.expressions.values import finish
from dalsegno.expressions.yaql.compile import compile_statement
from dalsegno.expressions.yaql.frame import Closure, Frame, NotCompiled, TooDeep
from dalsegno.expressions.yaql.library import evaluate_by_library
from dalsegno.expressions.yaql.names import find_unknown
from dalsegno.expressions.yaql.parse import SyntaxProblem, parse
from dalsegno.workflow.scope import EvaluationError, Scope

NO_NAMES: dict[str, object] = {}


class YaqlExpression:
    """A parsed expression: its closure, or None when the library has to evaluate it."""

    __slots__ = ("closure", "language", "text", "unknown")

    def __init__(self, text: str, closure: Closure | None, language: Language, unknown: tuple[Unknown, ...]) -> None:
        self.text = text
        self.closure = closure
        self.language = language
        self.unknown = unknown
        """What it calls that there is not."""

    def evaluate(self, scope: Scope, place: str = "") -> object:
        """The value as plain JSON data. `place` keeps `uuid()` of two places apart. Raises EvaluationError."""
        if self.closure is None:
            return evaluate_apart("yaql", self.text, scope, place, self.language.name)
        return self.evaluate_here(scope, place)

    def evaluate_here(self, scope: Scope, place: str) -> object:
        """The same in this process, whatever it takes; what is not compiled by the library. Raises EvaluationError."""
        budget = Budget(place)
        frame = Frame(scope, budget, NO_NAMES)
        try:
            if self.closure is None:
                return evaluate_by_library(self.text, frame, self.language)
            return finish(self.closure(frame, None), budget)
        except MemoryError:
            raise
        except Exception as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> EvaluationError:
        """Python's functions and the library raise whatever they like, and all of it is the expression's fault."""
        cause = f"{type(error).__name__}: {error}"
        if isinstance(error, EvaluationError):
            cause = str(error)
        elif isinstance(error, RecursionError):
            cause = "it nests too deeply"
        elif isinstance(error, KeyError):
            cause = f"there is no key {error}"
        elif isinstance(error, YaqlException):
            cause = str(error) or cause
        return EvaluationError(f"<% {shorten(self.text, 200)} %>: {shorten(cause, 1_000)}")


@lru_cache(maxsize=16_384)
def compile_yaql(text: str, language: Language = MISTRAL) -> YaqlExpression:
    """The expression of this text, without its marks. Raises SyntaxProblem."""
    if len(text) > TEXT_LENGTH:
        raise SyntaxProblem(f"the expression is longer than {TEXT_LENGTH:,} characters")
    statement = parse(text)
    closure: Closure | None = None
    try:
        closure = compile_statement(statement, language)
    except NotCompiled:
        pass
    except (TooDeep, RecursionError):
        raise SyntaxProblem("the expression nests too deeply") from None
    except EvaluationError as error:
        raise SyntaxProblem(str(error)) from None
    return YaqlExpression(text, closure, language, find_unknown(statement.expression, language))


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
