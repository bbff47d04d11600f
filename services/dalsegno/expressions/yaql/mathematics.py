"""YAQL's functions on numbers and booleans."""

from __future__ import annotations

from typing import Any

from dalsegno.expressions import integers
from dalsegno.expressions.functions import draw
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.values import describe, quote
from dalsegno.expressions.yaql.collections import need_integer
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import greater, is_number
from dalsegno.expressions.yaql.registry import builtin
from dalsegno.workflow.scope import EvaluationError

PLACES = 400
"""Decimal places that `round()` goes to."""


def need_number(value: Any, what: str) -> Any:
    if is_number(value):
        return value
    raise EvaluationError(f"{what} needs a number, not {describe(value)}")


@builtin("int", function=True)
def integer(frame: Frame, value: Any) -> object:
    if value is None:
        return 0
    try:
        if isinstance(value, str):
            return integers.read_integer(frame.budget, value)
        return int(bounded(frame.budget, value))
    except (TypeError, ValueError, OverflowError):
        raise EvaluationError(f"int() cannot read {describe(value)}{_shown(value)}") from None


@builtin("float", function=True)
def real(frame: Frame, value: Any) -> object:
    if value is None:
        return 0.0
    if isinstance(value, str):
        frame.budget.read(value)
    try:
        return float(bounded(frame.budget, value))
    except (TypeError, ValueError, OverflowError):
        raise EvaluationError(f"float() cannot read {describe(value)}{_shown(value)}") from None


def _shown(value: Any) -> str:
    return f" {value[:40]!r}" if isinstance(value, str) else ""


@builtin("bool", function=True)
def boolean(frame: Frame, value: Any) -> object:
    return bool(value)


@builtin("isBoolean", function=True)
def is_boolean(frame: Frame, value: Any) -> object:
    return isinstance(value, bool)


@builtin("isInteger", function=True)
def is_integer(frame: Frame, value: Any) -> object:
    return isinstance(value, int) and not isinstance(value, bool)


@builtin("isNumber", function=True)
def is_number_value(frame: Frame, value: Any) -> object:
    return is_number(value)


@builtin("abs", function=True)
def absolute(frame: Frame, value: Any) -> object:
    return abs(bounded(frame.budget, need_number(value, "abs()")))


@builtin("sign", function=True)
def sign(frame: Frame, value: Any) -> object:
    number = need_number(value, "sign()")
    return (number > 0) - (number < 0)


@builtin("round", least=1, most=2, function=True)
def rounded(frame: Frame, value: Any, digits: Any = 0) -> object:
    places = need_integer(digits, "round()")
    if abs(places) > PLACES:
        raise EvaluationError(f"round() goes to at most {PLACES} digits")
    number = need_number(value, "round()")
    bounded(frame.budget, number)
    return bounded(frame.budget, round(number, places))


@builtin("pow", least=2, most=3, function=True)
def power(frame: Frame, base: Any, exponent: Any, modulus: Any = None) -> object:
    left, right = need_number(base, "pow()"), need_number(exponent, "pow()")
    if modulus is not None:
        return integers.power_modulo(frame.budget, left, right, need_number(modulus, "pow()"))
    return integers.power(frame.budget, left, right)


def larger(frame: Frame, left: Any, right: Any) -> Any:
    return right if greater(frame, right, left) else left


def smaller(frame: Frame, left: Any, right: Any) -> Any:
    return left if greater(frame, right, left) else right


@builtin("bitwiseAnd", least=2, function=True)
def bitwise_and(frame: Frame, left: Any, right: Any) -> object:
    first, second = need_integer(left, "bitwiseAnd()"), need_integer(right, "bitwiseAnd()")
    return bounded(frame.budget, bounded(frame.budget, first) & second)


@builtin("bitwiseOr", least=2, function=True)
def bitwise_or(frame: Frame, left: Any, right: Any) -> object:
    first, second = need_integer(left, "bitwiseOr()"), need_integer(right, "bitwiseOr()")
    return bounded(frame.budget, first | second)


@builtin("bitwiseXor", least=2, function=True)
def bitwise_xor(frame: Frame, left: Any, right: Any) -> object:
    first, second = need_integer(left, "bitwiseXor()"), need_integer(right, "bitwiseXor()")
    return bounded(frame.budget, bounded(frame.budget, first) ^ second)


@builtin("bitwiseNot", function=True)
def bitwise_not(frame: Frame, value: Any) -> object:
    return bounded(frame.budget, ~need_integer(value, "bitwiseNot()"))


@builtin("shiftBitsRight", least=2, function=True)
def shift_right(frame: Frame, value: Any, bits: Any) -> object:
    return _shift(frame, value, bits, "shiftBitsRight()", left=False)


@builtin("shiftBitsLeft", least=2, function=True)
def shift_left(frame: Frame, value: Any, bits: Any) -> object:
    return _shift(frame, value, bits, "shiftBitsLeft()", left=True)


def _shift(frame: Frame, value: Any, bits: Any, what: str, left: bool) -> object:
    number, places = need_integer(value, what), need_integer(bits, what)
    if places < 0:
        raise EvaluationError(f"{what} by a negative number of bits")
    return integers.shift(frame.budget, bounded(frame.budget, number), places if left else -places)


@builtin("random", least=0, most=2, function=True)
def random(frame: Frame, *bounds: Any) -> object:
    """From the event's seed, so that stepping an event again gives the same."""
    if len(bounds) == 1:
        raise EvaluationError("random() takes no bounds or two")
    if not bounds:
        return draw(frame.scope, frame.budget).random()
    low, high = need_integer(bounds[0], "random()"), need_integer(bounds[1], "random()")
    if low > high:
        raise EvaluationError(f"random() between {quote(low)} and {quote(high)}")
    chance = draw(frame.scope, frame.budget)
    return chance.randint(bounded(frame.budget, low), bounded(frame.budget, high))
