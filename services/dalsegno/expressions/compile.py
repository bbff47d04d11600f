"""Compile a value of a definition to a Template: find its expressions, and compile each of them once.

A string that is exactly one expression keeps the value's type; with other text, even a space, the values are
inserted into the text as Python shows them. Marks are on one line. A value of an expression is not evaluated again. The
language defines the functions of expressions, and whether keys of dicts are expressions, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dalsegno.expressions import secrecy
from dalsegno.expressions.budget import Budget, NeedsPool
from dalsegno.expressions.evaluation import ELSEWHERE, Source, explain, follow, shorten
from dalsegno.expressions.jinja import compile_jinja_expression, compile_jinja_text
from dalsegno.expressions.language import LANGUAGES, MISTRAL, Language
from dalsegno.expressions.marks import find_marked, has_marked
from dalsegno.expressions.pool_client import POOL
from dalsegno.expressions.values import check_nesting, finish_key, show
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.parse import SyntaxProblem
from dalsegno.workflow.scope import Constant, EvaluationError, Scope, Suspended, Template
from dalsegno.workflow.secrets import SecretFound, is_secret

Path = tuple[str | int, ...]
"""The place of a value in its document: keys and indexes from the root."""


@dataclass(frozen=True, slots=True)
class ExpressionProblem:
    """One problem of one expression."""

    path: Path
    message: str


Report = Callable[[ExpressionProblem], None]

JINJA_ALONE = re.compile(r"\{\{(?:(?!\{\{|\}\}).)*\}\}")
"""A string that is one Jinja expression."""


class Expression:
    """A string that is one expression, or one Jinja text: its value is unchanged."""

    __slots__ = ("expression", "place")

    def __init__(self, expression: Source, place: str) -> None:
        self.expression = expression
        self.place = place

    def evaluate(self, scope: Scope) -> object:
        cipher = scope.secrets
        if cipher is None:
            try:
                return self.expression.evaluate(scope, self.place)
            except SecretFound as found:
                cipher = found.cipher
        return secrecy.evaluate(self.expression, scope, self.place, cipher)


class Member(Expression):
    """An expression in a list or a dict: the value may be nested deeper by each evaluation."""

    __slots__ = ()

    def evaluate(self, scope: Scope) -> object:
        found = super().evaluate(scope)
        if type(found) is dict or type(found) is list:
            try:
                scope.spend(check_nesting(found))
            except EvaluationError as error:
                raise self.expression.failure(error) from None
        return found


class Interpolation(Source):
    """A text with expressions: each is replaced by its value as Python shows it."""

    __slots__ = ("parts",)

    notation = "text"

    def __init__(self, text: str, parts: tuple[str | Source, ...], language: Language) -> None:
        sources = [part for part in parts if isinstance(part, Source)]
        super().__init__(
            text,
            language,
            cost=sum(part.cost for part in sources),
            is_bounded=all(part.is_bounded for part in sources),
            path=None,
        )
        self.parts = parts

    def value(self, scope: Scope, budget: Budget) -> object:
        """Return the text. Each expression has a place of its own."""
        place = budget.place
        texts = []
        for number, part in enumerate(self.parts):
            if isinstance(part, str):
                texts.append(part)
                continue
            found = ELSEWHERE if part.path is None else follow(scope, part.path)
            if found is ELSEWHERE:
                budget.place, budget.asked = f"{place}#{number}", 0
                found = self._part(part, scope, budget)
            texts.append(show(found, budget))
        return "".join(texts)

    def _part(self, part: Source, scope: Scope, budget: Budget) -> object:
        try:
            return part.value(scope, budget)
        except (NeedsPool, RecursionError, MemoryError):
            raise
        except Exception as error:
            raise part.failure(error) from None

    def failure(self, error: Exception) -> EvaluationError:
        """Return the description of the expression for errors."""
        return error if isinstance(error, EvaluationError) else explain(shorten(self.text, 200), error)


class ListTemplate:
    """A list in which something is an expression."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Template, ...]) -> None:
        self.items = items

    def evaluate(self, scope: Scope) -> object:
        found: list[object] = []
        is_suspended = False
        for item in self.items:
            try:
                found.append(item.evaluate(scope))
            except Suspended:
                is_suspended = True
        return _unless(is_suspended, found)


class DictTemplate:
    """A dict in which some value is an expression."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[tuple[str, Template], ...]) -> None:
        self.items = items

    def evaluate(self, scope: Scope) -> object:
        found: dict[str, object] = {}
        is_suspended = False
        for key, value in self.items:
            try:
                found[key] = value.evaluate(scope)
            except Suspended:
                is_suspended = True
        return _unless(is_suspended, found)


class KeyedTemplate:
    """A dict in which some key is an expression."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[tuple[Template, Template], ...]) -> None:
        self.items = items

    def evaluate(self, scope: Scope) -> object:
        found: dict[str, object] = {}
        is_suspended = False
        for key, value in self.items:
            try:
                found[finish_key(_plain(key.evaluate(scope)), Budget())] = value.evaluate(scope)
            except Suspended:
                is_suspended = True
        return _unless(is_suspended, found)


def _plain(key: object) -> object:
    """Return the key. Raises EvaluationError for a secret, which would be shown as the name of its value."""
    if is_secret(key):
        raise EvaluationError("a secret cannot be the key of a dict")
    return key


Found = TypeVar("Found")


def _unless(is_suspended: bool, found: Found) -> Found:
    """Return the parts, or raise Suspended if one is missing; all parts have been requested before."""
    if is_suspended:
        raise Suspended
    return found


def compile_template(value: object, report: Report, path: Path = (), language: Language = MISTRAL) -> Template:
    """Return the template of a JSON value. All problems go to `report`; nothing is raised.

    A template is given in any case; with a problem reported it is not meant to be evaluated.
    """
    if isinstance(value, str):
        return _compile_string(value, report, path, language)
    if isinstance(value, dict):
        return _compile_dict(value, report, path, language)
    if isinstance(value, (list, tuple)):
        parts = tuple(_compile_member(item, report, (*path, place), language) for place, item in enumerate(value))
        return Constant(value) if all(isinstance(part, Constant) for part in parts) else ListTemplate(parts)
    return Constant(value)


def _compile_member(value: object, report: Report, path: Path, language: Language) -> Template:
    template = compile_template(value, report, path, language)
    return Member(template.expression, template.place) if isinstance(template, Expression) else template


def warm_up() -> None:
    """Prepare the parsers, and start the evaluation processes without waiting for them."""
    POOL.start()
    for language in LANGUAGES.values():
        compile_template(["<% 1 %>", "{{ 1 }}", "1 {{ 1 }}"], lambda problem: None, (), language)


def has_expression(value: object) -> bool:
    """Return whether a string has marks of an expression in it."""
    return isinstance(value, str) and (has_marked(value, "<%", "%>") or has_jinja(value))


def has_jinja(text: str) -> bool:
    """Return whether a string has marks of Jinja in it."""
    return has_marked(text, "{{", "}}") or has_marked(text, "{%", "%}")


def _compile_dict(value: dict[str, object], report: Report, path: Path, language: Language) -> Template:
    items = tuple((key, _compile_member(item, report, (*path, key), language)) for key, item in value.items())
    if language.evaluates_keys and any(has_expression(key) for key in value):
        keys = (_compile_string(key, report, (*path, key), language) for key in value)
        return KeyedTemplate(tuple((key, item) for key, (_, item) in zip(keys, items, strict=True)))
    return Constant(value) if all(isinstance(item, Constant) for _, item in items) else DictTemplate(items)


def _compile_string(text: str, report: Report, path: Path, language: Language) -> Template:
    if "<%" not in text and "{" not in text:
        return Constant(text)
    has_yaql = has_marked(text, "<%", "%>")
    is_jinja = has_jinja(text)
    if has_yaql and is_jinja:
        report(ExpressionProblem(path, "YAQL and Jinja expressions in one string"))
        return Constant(text)
    if has_yaql:
        return _compile_yaql_string(text, report, path, language)
    if is_jinja:
        return _compile_jinja_string(text, report, path, language)
    return Constant(text)


def _compile_yaql_string(text: str, report: Report, path: Path, language: Language) -> Template:
    def compile_part(marked: str) -> Source:
        return compile_yaql(marked[2:-2].strip(), language)

    return _compile_parts(text, ("<%", "%>"), compile_part, report, path, language)


def _compile_parts(
    text: str,
    marks: tuple[str, str],
    compile_part: Callable[[str], Source],
    report: Report,
    path: Path,
    language: Language,
) -> Template:
    """Compile each marked part; the text between them is unchanged."""
    place = "/".join(map(str, path))
    parts: list[str | Source] = []
    end = 0
    for start, stop in find_marked(text, *marks):
        if start > end:
            parts.append(text[end:start])
        end = stop
        try:
            parts.append(compile_part(text[start:stop]))
        except SyntaxProblem as problem:
            report(ExpressionProblem(path, f"{_shown(text[start:stop])}: {problem}"))
    if end < len(text):
        parts.append(text[end:])
    if len(parts) == 1 and not isinstance(parts[0], str):
        return Expression(parts[0], place)
    return Expression(Interpolation(text, tuple(parts), language), place)


def _compile_jinja_string(text: str, report: Report, path: Path, language: Language) -> Template:
    place = "/".join(map(str, path))
    try:
        if JINJA_ALONE.fullmatch(text):
            return Expression(compile_jinja_expression(text, language), place)
        whole = Expression(compile_jinja_text(text, language), place)
    except SyntaxProblem as problem:
        report(ExpressionProblem(path, f"{_shown(text)}: {problem}"))
        return Constant(text)
    if language.renders_texts or has_marked(text, "{%", "%}"):
        return whole
    return _compile_parts(
        text, ("{{", "}}"), lambda marked: compile_jinja_expression(marked, language), report, path, language
    )


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def forget_compiled() -> None:
    """Clear the cache of expressions by their texts; templates keep their own."""
    for kept in (compile_yaql, compile_jinja_expression, compile_jinja_text):
        kept.cache_clear()


def compile_text(text: str, language: Language = MISTRAL) -> Source:
    """Return a text with expressions of which one needs the pool. Raises SyntaxProblem."""
    problems: list[ExpressionProblem] = []
    template = _compile_string(text, problems.append, (), language)
    if problems or not isinstance(template, Expression):
        raise SyntaxProblem("; ".join(problem.message for problem in problems) or "there is no expression in it")
    return template.expression
