"""Evaluate what is not compiled with the library itself, over data converted to its frozen types."""

from __future__ import annotations

import collections.abc  # noqa: F401  (the library uses it without importing it)
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import yaql
from yaql.language import specs, utils, yaqltypes
from yaql.language.contexts import ContextBase

from dalsegno.expressions.language import Language
from dalsegno.expressions.values import finish
from dalsegno.expressions.yaql.context import variable_at_closure
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.parse import engine, parse
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS, Builtin


@specs.name("#finalize")  # type: ignore[untyped-decorator]
def _hand_over(value: Any) -> Any:
    """Replace the library's conversion of results: `finish` converts the results of both kinds of evaluation."""
    return value


_running: ContextVar[Frame] = ContextVar("_running")
"""The frame of the current evaluation, for the functions below."""


@lru_cache(maxsize=4)
def standard_context(language: Language) -> ContextBase:
    """Return the library's functions with ours over them: made once per process, in some milliseconds."""
    context = yaql.create_context(finalizer=_hand_over).create_child_context()
    for name, entry in (*language.functions.items(), ("random", FUNCTIONS["random"])):
        if name != "ctx":
            context.register_function(_bind(entry), name=name)
    context.register_function(_bind_to_text(METHODS["format"]), name="format", method=True, function=True)
    if language.context_is_called:
        context.register_function(lambda key=None: _context(language, key), name="ctx")
    context.register_function(lambda: datetime.fromtimestamp(_running.get().scope.at_s, UTC), name="now")
    return context


def _context(language: Language, key: object) -> Any:
    """Return Orquesta's `ctx()`, which converts only the values that are read."""
    frame = _running.get()
    if key is None:
        return Variables(frame, language)
    found = variable_at_closure(lambda frame, dollar: key, language)(frame, None)
    return utils.convert_input_data(found)


def _bind(entry: Builtin) -> Callable[..., object]:
    def call(*values: Any, **named: Any) -> Any:
        return utils.convert_input_data(entry.call(_running.get(), values, named))

    return call


def _bind_to_text(entry: Builtin) -> Callable[..., object]:
    """Define the method only for texts: the library has one of this name for other receivers. No parameter of an author
    has the name `__text`."""

    def call(__text: str, *values: Any, **named: Any) -> object:
        return entry.call(_running.get(), (__text, *values), named)

    specs.parameter("__text", yaqltypes.String())(call)
    return call


def evaluate_by_library(text: str, frame: Frame, language: Language) -> object:
    """Return the library's value of the expression as plain JSON data. Raises the exceptions of the library."""
    context = standard_context(language).create_child_context()
    if language.dollar_is_context:
        context["$"] = Variables(frame, language)
    if language.dollar_is_context and "$__" in text:
        context["__env"] = utils.convert_input_data(frame.scope.environment())
        context["__execution"] = utils.convert_input_data(frame.scope.execution())
    frame.budget.unproven = True
    running = _running.set(frame)
    try:
        return finish(parse(text)(utils.NO_VALUE, context, engine()), frame.budget)
    finally:
        _running.reset(running)


class Variables(utils.FrozenDict):  # type: ignore[misc]
    """The variables of a scope, each converted when it is read."""

    def __init__(self, frame: Frame, language: Language) -> None:
        super().__init__()
        self._frame = frame
        self._language = language
        self._all: Mapping[str, Any] | None = None

    def _everything(self) -> Mapping[str, Any]:
        if self._all is None:
            self._all = utils.convert_input_data(self._language.shown(self._frame.scope))
        return self._all

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str) or self._language.hides(name):
            raise KeyError(name)
        return utils.convert_input_data(self._frame.scope.variable(name))

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Any:
        return iter(self._everything())

    def __repr__(self) -> str:
        return repr(self._everything())

    def __len__(self) -> int:
        return len(self._everything())
