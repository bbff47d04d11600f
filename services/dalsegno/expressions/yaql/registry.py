"""The table of functions that compiled YAQL knows. Each module of functions adds its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

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
) -> Callable[[Implementation], Implementation]:
    """Register an implementation under these names. `least` and `most` count the receiver."""

    def register(implementation: Implementation) -> Implementation:
        limit = least if most is None else most
        for name in names:
            entry = Builtin(name, implementation, least, limit, lambdas or {})
            if function:
                FUNCTIONS[name] = entry
            if method:
                METHODS[name] = entry
        return implementation

    return register
