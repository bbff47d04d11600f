"""What hostile expressions work on: ordinary data, and data that somebody has chosen to do harm."""

from __future__ import annotations

from tests.unit.expressions.scopes import PlainScope
from tests.unit.expressions.yaql_texts import VALUES as YAQL_VALUES

PRIME = 2**61 - 1
"""Python's hash of its multiples is 0."""


def _nested(levels: int) -> object:
    nested: object = 1
    for _ in range(levels):
        nested = [nested]
    return nested


ORDINARY: dict[str, object] = {
    **YAQL_VALUES,
    "j": '{"x": [1, 2.5, null, "b"]}',
    "version": "1.2.3",
}
CHOSEN: dict[str, object] = {
    "big": int("7" * 4_000),
    "wide_number": 10**30,
    "collide": [PRIME * number for number in range(3_000)],
    "long": list(range(30_000)),
    "text": "ab " * 10_000,
    "unlike": "a" * 600 + "b" + "a" * 599,
    "odd": "\u00df\u0130\u01c4\U0001f600 " * 200,
    "words": [f"word {number % 700}" for number in range(5_000)],
    "rows": [{"x": number % 50, "y": f"y{number}"} for number in range(3_000)],
    "deep": _nested(150),
    "table": {f"k{number}": number for number in range(5_000)},
}
VALUES = {**ORDINARY, **CHOSEN}
SHORTER: dict[str, object] = {
    **VALUES,
    "long": list(range(5_000)),
    "words": [f"word {number % 700}" for number in range(1_000)],
    "rows": [{"x": number % 50, "y": f"y{number}"} for number in range(500)],
    "table": {f"k{number}": number for number in range(1_000)},
}
"""The same for services, which have many of it at once."""


def scope() -> PlainScope:
    """All of it, which nobody changes."""
    return PlainScope(
        dict(VALUES),
        items=[{"x": 1, "k": "v"}],
        keys={"user a": 1},
        states={"current": "SUCCESS", "t1": "ERROR", "each": "SUCCESS"},
    )
