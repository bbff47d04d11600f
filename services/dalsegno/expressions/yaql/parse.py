"""From text to the library's own syntax tree."""

from __future__ import annotations

import collections.abc  # noqa: F401  (yaql uses it without importing it, so it must be imported before yaql)
import threading
from functools import lru_cache
from typing import Any

from yaql.language.exceptions import YaqlGrammarException, YaqlLexicalException, YaqlParsingException
from yaql.language.factory import YaqlEngine, YaqlFactory

OPTIONS = {
    "yaql.limitIterators": 1_000_000,
    "yaql.memoryQuota": 64 * 1024 * 1024,
    "yaql.convertTuplesToLists": True,
    "yaql.convertSetsToLists": False,
}

_parsing = threading.Lock()
"""The library's lexer keeps its position in itself, so one text is parsed at a time."""


class SyntaxProblem(Exception):
    """The text is not an expression. The message says what is wrong and where."""


@lru_cache(maxsize=1)
def engine() -> YaqlEngine:
    """Return the library's engine, built at the first expression, because its parser takes a tenth of a second."""
    return YaqlFactory().create(OPTIONS)


@lru_cache(maxsize=256)
def parse(text: str) -> Any:
    """Return the library's statement for this text. Raises SyntaxProblem."""
    if not text.strip():
        raise SyntaxProblem("the expression is empty")
    with _parsing:
        try:
            statement = engine()(text)
        except YaqlGrammarException as error:
            raise SyntaxProblem(_explain(error)) from None
        except YaqlLexicalException as error:
            message = f"illegal character {error.value!r} at position {error.position}"
            raise SyntaxProblem(message) from None
        except (YaqlParsingException, ValueError, ArithmeticError, RecursionError) as error:
            raise SyntaxProblem(str(error)) from None
    return statement


def _explain(error: YaqlGrammarException) -> str:
    if error.position is None:
        return "unexpected end of the expression"
    return f"unexpected {error.value!r} at position {error.position}"
