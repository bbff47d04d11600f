"""The table of functions that compiled YAQL knows. Each module of functions adds its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import signature
from typing import Any, TypeVar

from dalsegno.expressions.yaql.frame import Frame
from dalsegno.workflow.scope import EvaluationError

Implementation = TypeVar("Implementation", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Builtin:
    """One function: how it may be called and what it does.

    The implementation takes the frame and the evaluated arguments, the receiver of a method first. An argument
    listed in `lambdas` is not evaluated but handed over as a function of that many values.
    """

    name: str
    implementation: Callable[..., object]
    least: int
    most: int
    lambdas: Mapping[int, int] = field(default_factory=dict)
    named: bool = False
    """Whether arguments may be given by name. A function that is called `apart` takes them anyway."""
    apart: bool = False
    """Whether its cost is unknown, so that only evaluation processes may call it."""

    def call(self, frame: Frame, values: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Return the function's value. Raises EvaluationError for invalid arguments, and its own exceptions."""
        if not self.least <= len(values) + len(named) <= self.most:
            raise EvaluationError(f"{self.name}() does not take {len(values) + len(named)} arguments")
        if not named:
            return self.implementation(frame, *values)
        try:
            taken = _signature(self.implementation)
            by_name = {_spelled(name, taken.parameters): value for name, value in named.items()}
            arguments = taken.bind(frame, *values, **by_name)
        except TypeError as error:
            raise EvaluationError(f"{self.name}(): {error}") from None
        return self.implementation(*arguments.args, **arguments.kwargs)


_signature = lru_cache(maxsize=None)(signature)


def _spelled(name: str, parameters: Container[str]) -> str:
    """YAQL's authors write parameters in camel case, Jinja's as they are called; both spellings are taken. A name that
    is no parameter's own is left as it is."""
    snake = re.sub(r"(?<=[a-z0-9])[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    return snake if snake in parameters else name


FUNCTIONS: dict[str, Builtin] = {}
METHODS: dict[str, Builtin] = {}
ANY = 1_000


def builtin(
    *names: str,
    least: int = 1,
    most: int | None = None,
    method: bool = False,
    function: bool = False,
    lambdas: Mapping[int, int] | None = None,
    table: dict[str, Builtin] | None = None,
    named: bool = False,
    apart: bool = False,
) -> Callable[[Implementation], Implementation]:
    """Register an implementation under these names. `least` and `most` count the receiver.

    A function of one language only goes into that language's own `table`.
    """

    def register(implementation: Implementation) -> Implementation:
        limit = least if most is None else most
        for name in names:
            entry = Builtin(name, implementation, least, limit, lambdas or {}, named, apart)
            if function:
                (FUNCTIONS if table is None else table)[name] = entry
            if method:
                METHODS[name] = entry
        return implementation

    return register
