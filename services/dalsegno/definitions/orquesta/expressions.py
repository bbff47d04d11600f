"""Inspect expressions: whether they can be parsed, and which variables of the context they reference.

Only literal references are found: `ctx(x)`, `ctx('x')` and `ctx().x`. `ctx().get(x)` and `ctx()[x]` name the variable
at run time, so the inspection does not find them, as in Orquesta. In Jinja the parts in `{{ }}` are inspected, but not
the blocks, because an author checks for a variable with `{% if ctx().x is defined %}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from yaql.language import expressions as tree

from dalsegno.expressions.compile import JINJA_ALONE
from dalsegno.expressions.jinja import compile_jinja_expression, compile_jinja_text
from dalsegno.expressions.jinja_names import CONTEXT_FUNCTION
from dalsegno.expressions.language import ORQUESTA
from dalsegno.expressions.marks import find_marked, has_marked
from dalsegno.expressions.yaql.parse import SyntaxProblem, parse


@dataclass(frozen=True, slots=True)
class InspectedText:
    """The problems of the expressions in one text, and the variables that they reference."""

    problems: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


NO_FINDINGS = InspectedText()


def has_expression(text: str) -> bool:
    """Return whether a text contains an expression of either language."""
    return has_marked(text, "<%", "%>") or has_marked(text, "{{", "}}") or has_marked(text, "{%", "%}")


def inspect_text(text: str) -> InspectedText:
    """Inspect all expressions of a text."""
    if "<%" not in text and "{" not in text:
        return NO_FINDINGS
    return _inspect(text)


@lru_cache(maxsize=4096)
def _inspect(text: str) -> InspectedText:
    is_yaql = has_marked(text, "<%", "%>")
    is_jinja = has_marked(text, "{{", "}}") or has_marked(text, "{%", "%}")
    if is_yaql and is_jinja:
        return InspectedText(problems=("YAQL and Jinja expressions in one string",))
    if is_yaql:
        return _inspect_yaql(text)
    return _inspect_jinja(text) if is_jinja else NO_FINDINGS


def forget_inspected() -> None:
    """Clear the cache of inspected texts."""
    _inspect.cache_clear()


def _inspect_yaql(text: str) -> InspectedText:
    problems: list[str] = []
    variables: dict[str, None] = {}
    for start, stop in find_marked(text, "<%", "%>"):
        try:
            statement = parse(text[start + 2 : stop - 2].strip())
        except SyntaxProblem as problem:
            problems.append(f"{_shown(text[start:stop])}: {problem}")
        else:
            variables.update(dict.fromkeys(_yaql_variables(statement.expression)))
    return InspectedText(tuple(problems), tuple(variables))


def _inspect_jinja(text: str) -> InspectedText:
    variables: dict[str, None] = {}
    if not JINJA_ALONE.fullmatch(text) or not _reads(text):
        try:
            compile_jinja_text(text, ORQUESTA)
        except SyntaxProblem as problem:
            return InspectedText(problems=(f"{_shown(text)}: {problem}",))
    for start, stop in find_marked(text, "{{", "}}"):
        if _reads(text[start:stop]):  # otherwise it only looks like an expression, as in a raw block
            variables.update(dict.fromkeys(compile_jinja_expression(text[start:stop], ORQUESTA).variables))
    return InspectedText(variables=tuple(variables))


def _reads(marked: str) -> bool:
    """Return whether this is one expression with its marks."""
    try:
        compile_jinja_expression(marked, ORQUESTA)
    except SyntaxProblem:
        return False
    return True


def _yaql_variables(root: Any) -> Iterator[str]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tree.MappingRuleExpression):
            waiting += (node.destination, node.source)
        elif isinstance(node, tree.Wrap):
            waiting.append(node.expr)
        elif isinstance(node, tree.Function):
            name = _yaql_variable(node)
            if name is not None:
                yield name
            waiting += reversed(node.args)


def _yaql_variable(node: Any) -> str | None:
    """Return the variable that this call or this dot references."""
    if _is_yaql_context(node) and len(node.args) == 1 and isinstance(node.args[0], tree.Constant):
        value = node.args[0].value
        return value if isinstance(value, str) else None
    if isinstance(node, tree.BinaryOperator) and node.operator == ".":
        left, right = node.args
        if _is_yaql_context(left) and not left.args and type(right) is tree.KeywordConstant:
            return str(right.value)
    return None


def _is_yaql_context(node: Any) -> bool:
    return type(node) is tree.Function and node.name == CONTEXT_FUNCTION


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
