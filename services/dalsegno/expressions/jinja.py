"""Jinja, sandboxed and compiled once. The context is `_` or `ctx()`; the functions are globals and filters alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from jinja2 import TemplateError, nodes
from jinja2.environment import Template
from jinja2.exceptions import TemplateSyntaxError
from jinja2.runtime import Undefined

from dalsegno.expressions.budget import TEXT_LENGTH, Budget
from dalsegno.expressions.evaluation import COMPILED_MAX, Path, Source, explain, shorten
from dalsegno.expressions.jinja_cost import is_bounded, nodes_of
from dalsegno.expressions.jinja_environment import Variables, environment, start_context
from dalsegno.expressions.jinja_names import find_unknown, variables
from dalsegno.expressions.jinja_reading import read_expression, read_text
from dalsegno.expressions.language import MISTRAL, Language
from dalsegno.expressions.values import finish, finish_text
from dalsegno.expressions.yaql.parse import SyntaxProblem
from dalsegno.workflow.scope import EvaluationError, Scope

VALUE = "result"
"""The name of the value of a template that is one expression, as in Jinja itself."""
TEMPLATE_COST = 50
"""Steps of evaluating any template, beside its nodes."""
NODE_COST = 3
"""Steps of a node."""
COMPILE_COST = 3_000
"""Steps of compiling any template in the engine, beside its nodes."""
COMPILE_NODE_COST = 100
"""Steps of compiling a node: some 20 microseconds."""


class JinjaExpression(Source):
    """A single `{{ … }}`: its value keeps its type. Compiled at the first evaluation, unless it is only a path."""

    __slots__ = ("compiled", "unknown", "variables")

    notation = "jinja"
    made = ("compiled",)

    def __init__(
        self, text: str, language: Language, found: list[nodes.Node], path: Path | None, variables: tuple[str, ...]
    ) -> None:
        super().__init__(
            text,
            language,
            cost=TEMPLATE_COST + NODE_COST * len(found),
            is_bounded=is_bounded(found, language.quick_functions),
            path=path,
        )
        self.unknown = find_unknown(found, environment(language)) if found else ()
        """Return the unknown names that it calls."""
        self.variables = variables
        """Return the variables of the context in literal references."""
        self.compiled: Template | None = None

    def value(self, scope: Scope, budget: Budget) -> object:
        """Return the value as plain JSON data."""
        if self.compiled is None:
            _pay_for_compiling(self, budget)
            value = nodes.Assign(
                nodes.Name(VALUE, "store"), _parse_expression(_inner(self.text), self.language), lineno=1
            )
            self.compiled = environment(self.language).from_string(nodes.Template([value], lineno=1))
        context = start_context(self.compiled, Variables(scope, self.language, budget))
        for _ in self.compiled.root_render_func(context):
            pass
        found = context.vars[VALUE]
        if isinstance(found, Undefined):
            found._fail_with_undefined_error()
        if isinstance(found, Variables):
            return found._everything()
        return finish(found, budget)

    def failure(self, error: Exception) -> EvaluationError:
        """Return the error with the expression."""
        return _failure(self.text, error)


class JinjaText(Source):
    """A text with expressions and blocks: its value is text. Compiled at the first rendering."""

    __slots__ = ("compiled", "unknown")

    notation = "jinja text"
    made = ("compiled",)

    def __init__(self, text: str, language: Language, found: list[nodes.Node]) -> None:
        super().__init__(
            text,
            language,
            cost=TEMPLATE_COST + NODE_COST * len(found),
            is_bounded=is_bounded(found, language.quick_functions),
            path=None,
        )
        self.unknown = find_unknown(found, environment(language)) if found else ()
        """Return the unknown names that it calls."""
        self.compiled: Template | None = None

    def value(self, scope: Scope, budget: Budget) -> object:
        """Return the text."""
        if self.compiled is None:
            _pay_for_compiling(self, budget)
            self.compiled = environment(self.language).from_string(self.text)
        context = start_context(self.compiled, Variables(scope, self.language, budget))
        parts = []
        for part in self.compiled.root_render_func(context):
            budget.build(len(part))
            parts.append(part)
        return finish_text("".join(parts), budget)

    def failure(self, error: Exception) -> EvaluationError:
        """Return the error with the text."""
        return _failure(self.text, error)


def _failure(text: str, error: Exception) -> EvaluationError:
    if isinstance(error, TemplateError):
        error = EvaluationError(error.message or type(error).__name__)
    return explain(shorten(text, 200), error)


def _pay_for_compiling(source: Source, budget: Budget) -> None:
    """Count the compilation, but only in the engine, where others wait; elsewhere it depends on the caches."""
    if budget.is_here:
        budget.step(COMPILE_COST + COMPILE_NODE_COST * ((source.cost - TEMPLATE_COST) // NODE_COST))


_KEY = r"\.[^\W\d_]\w*"
_DOLLAR_PATH = re.compile(rf"_((?:{_KEY})+)", re.ASCII)
_CONTEXT_PATH = re.compile(rf"""ctx\(\s*(?:'(\w+)'|"(\w+)")?\s*\)(?:\[(?:'(\w+)'|"(\w+)")\])?((?:{_KEY})*)""", re.ASCII)
"""`ctx().a.b`, `ctx('a').b` and `ctx()['a'].b`."""


def _find_path(source: str, language: Language) -> Path | None:
    """Return the variable and the keys that the expression reads, if it does nothing else."""
    found = (_DOLLAR_PATH if language.dollar_is_context else _CONTEXT_PATH).fullmatch(source)
    if found is None:
        return None
    path = tuple(part for group in found.groups() if group for part in group.strip(".").split("."))
    return path if path and not language.hides(path[0]) else None


def _inner(text: str) -> str:
    """Return the expression without its marks: `{{-`, `{{+` and `-}}` are such too."""
    inner = text[2:-2]
    if inner[:1] in ("-", "+"):
        inner = inner[1:]
    return inner.removesuffix("-").strip(" \t")


@lru_cache(maxsize=COMPILED_MAX)
def compile_jinja_expression(text: str, language: Language = MISTRAL) -> JinjaExpression:
    """Return the expression of this text, with its marks. Raises SyntaxProblem."""
    _check_length(text)
    source = _inner(text)
    path = _find_path(source, language)
    if path:
        named = () if "[" in source else path[:1]  # a key that may be absent
        return JinjaExpression(text, language, [], path, named)
    root = _parse(lambda: _parse_expression(source, language))
    return JinjaExpression(text, language, nodes_of(root), None, tuple(dict.fromkeys(variables(root))))


@lru_cache(maxsize=COMPILED_MAX)
def compile_jinja_text(text: str, language: Language = MISTRAL) -> JinjaText:
    """Return the template of this text. Raises SyntaxProblem."""
    _check_length(text)
    return JinjaText(text, language, nodes_of(_parse(lambda: read_text(text, environment(language)))))


def _parse_expression(source: str, language: Language) -> nodes.Expr:
    expression = read_expression(source, environment(language))
    expression.set_environment(environment(language))
    return expression


def _parse(parse: Callable[[], nodes.Node]) -> nodes.Node:
    try:
        return parse()
    except (TemplateError, RecursionError, ValueError, ArithmeticError) as error:
        raise SyntaxProblem(_explain(error)) from None


def _check_length(text: str) -> None:
    if len(text) > TEXT_LENGTH:
        raise SyntaxProblem(f"the expression is longer than {TEXT_LENGTH:,} characters")


def _explain(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        line = f" (line {error.lineno} of the text)" if error.lineno > 1 else ""
        return f"{error.message}{line}"
    return str(error) or type(error).__name__
