"""What inspection asks of an expression: whether it can be read, and which variables of the context it names.

Only references that stand there literally are known: `ctx(x)`, `ctx('x')` and `ctx().x`. `ctx().get(x)` and
`ctx()[x]` ask when they are evaluated, so they escape the inspection, as they do in Orquesta. In Jinja the parts in
`{{ }}` are looked at and the blocks are not, because `{% if ctx().x is defined %}` is how an author asks.
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
    """What one text says: what is wrong with its expressions, and the variables they name."""

    problems: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


NO_FINDINGS = InspectedText()


def has_expression(text: str) -> bool:
    """Whether a text has an expression of either language in it."""
    return has_marked(text, "<%", "%>") or has_marked(text, "{{", "}}") or has_marked(text, "{%", "%}")


def inspect_text(text: str) -> InspectedText:
    """Reads all expressions of a text."""
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
    """Drop what was found of single texts."""
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
        if _reads(text[start:stop]):  # else it only looks like an expression, as in a raw block
            variables.update(dict.fromkeys(compile_jinja_expression(text[start:stop], ORQUESTA).variables))
    return InspectedText(variables=tuple(variables))


def _reads(marked: str) -> bool:
    """Whether this is one expression with its marks."""
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
    """The variable that is named by exactly this call or this dot."""
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
