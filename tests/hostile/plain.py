"""What the libraries themselves give for an expression, without limits: what ours must give too, or say why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import yaql.standard_library.strings
from jinja2 import StrictUndefined
from jinja2.compiler import CodeGenerator
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dalsegno.expressions import jinja_environment
from dalsegno.expressions.budget import Budget
from dalsegno.expressions.jinja_environment import RUNNING, Variables
from dalsegno.expressions.language import LANGUAGES, Language
from dalsegno.expressions.values import finish
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.library import evaluate_by_library
from dalsegno.workflow.scope import Scope

ENDLESS = 10**15
"""As good as no limit."""


class ShownOtherwise(Exception):
    """YAQL's library has put a list into a text as Python shows it: in square brackets, as `repeat(1, 3)`, as a
    generator with its address. Ours shows all lists alike, `(1, 2)`."""


class PlainEnvironment(jinja_environment.Environment):
    """Jinja as it is, but for the names after a dot, which are keys of a dict first, as in Mistral and Orquesta."""

    intercepted_binops = frozenset()
    code_generator_class = CodeGenerator  # type: ignore[assignment]
    call = ImmutableSandboxedEnvironment.call


@lru_cache(maxsize=4)
def environment(language: Language) -> PlainEnvironment:
    """The environment, with the functions of the language."""
    ours = jinja_environment.environment(language)
    made = PlainEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, optimized=False)
    names = [*language.functions, *(("ctx",) if language.context_is_called else ())]
    made.globals.update({name: ours.globals[name] for name in names})
    made.filters.update({name: ours.filters[name] for name in (*language.functions, "random")})
    return made


def evaluate_plainly(notation: str, text: str, language: str, scope: Scope, place: str = "") -> object:
    """The value as JSON data. Raises ShownOtherwise, and the errors of the libraries."""
    spoken, budget = LANGUAGES[language], Budget(place, ENDLESS, ENDLESS)
    budget.unproven = True
    if notation == "yaql":
        with _texts_looked_at():
            return evaluate_by_library(text, Frame(scope, budget, {}), spoken)
    variables = Variables(scope, spoken, budget)
    names: dict[str, Any] = {RUNNING: variables, **({"_": variables} if spoken.dollar_is_context else {})}
    if notation == "jinja text":
        return finish(environment(spoken).from_string(text).render(names), budget)
    found = environment(spoken).compile_expression(text[2:-2].strip(), undefined_to_none=False)(names)
    if isinstance(found, Undefined):
        found._fail_with_undefined_error()
    return finish(variables._everything() if found is variables else found, budget)


@contextmanager
def _texts_looked_at() -> Iterator[None]:
    """Look at each value that the library puts into a text, by its `str()` or by one of its functions that use it."""
    names = vars(yaql.standard_library.strings)
    names["str"] = _Text
    try:
        yield
    finally:
        del names["str"]


class _WatchedType(type):
    """The type of `_Text`: the library calls it to make a text, and asks whether a value is one."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, str)

    def __call__(cls, value: object) -> str:
        if not _is_shown_alike(value):
            raise ShownOtherwise
        return str(value)


class _Text(metaclass=_WatchedType):
    """Takes the place of `str` in the library."""


def _is_shown_alike(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_shown_alike, value))
    if isinstance(value, Mapping):
        return all(_is_shown_alike(each) for member in value.items() for each in member)
    return value is None or isinstance(value, str | int | float)
