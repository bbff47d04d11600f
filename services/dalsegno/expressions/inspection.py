"""Find unknown functions in the expressions of a text. Such a text can be parsed, but fails when it is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dalsegno.expressions.compile import JINJA_ALONE, has_jinja
from dalsegno.expressions.jinja import compile_jinja_expression, compile_jinja_text
from dalsegno.expressions.jinja_environment import environment
from dalsegno.expressions.language import Language
from dalsegno.expressions.marks import find_marked, has_marked
from dalsegno.expressions.unknown import FILTER, FUNCTION, METHOD, TEST, YAQL, Unknown
from dalsegno.expressions.yaql import names as yaql_names
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.parse import SyntaxProblem


def find_unknown(text: str, language: Language) -> tuple[Unknown, ...]:
    """Return the unknown functions, methods, filters and tests that a text calls, each once; none for an invalid
    text."""
    if "<%" not in text and "{" not in text:
        return ()
    try:
        return tuple(dict.fromkeys(_unknown(text, language)))
    except SyntaxProblem:
        return ()


def _unknown(text: str, language: Language) -> Iterator[Unknown]:
    if has_marked(text, "<%", "%>"):
        for start, stop in find_marked(text, "<%", "%>"):
            yield from compile_yaql(text[start + 2 : stop - 2].strip(), language).unknown
    elif JINJA_ALONE.fullmatch(text):
        yield from compile_jinja_expression(text, language).unknown
    elif has_jinja(text):
        yield from compile_jinja_text(text, language).unknown


def known_names(language: Language, notation: str) -> dict[str, Collection[str]]:
    """Return all names that an expression of this notation may call, by their kind."""
    if notation == YAQL:
        return {kind: yaql_names.known_names(language, kind) for kind in (FUNCTION, METHOD)}
    jinja = environment(language)
    return {FUNCTION: jinja.globals, FILTER: jinja.filters, TEST: jinja.tests}
