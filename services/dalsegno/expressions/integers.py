"""Arithmetic with integers up to a limit, counted in the budget before it runs: some of it takes time that grows
with the square of the length, and a power much more. Where nothing else is said, lengths are in bits.
"""

from __future__ import annotations

from typing import Any

from dalsegno.expressions.budget import Budget
from dalsegno.workflow.scope import EvaluationError

DIGITS = 4_300
"""Decimal digits of an integer: what Python reads and writes."""
TOO_LONG: int = 10**DIGITS
BITS = TOO_LONG.bit_length()
SHORT: int = 1 << 62
"""Integers below it cost nothing beside the operation itself."""
BITS_PER_STEP = 64
"""Bits that are processed in the time of one step."""


def bounded(budget: Budget, number: Any) -> Any:
    """Return the number, after counting the length of an integer. Raises EvaluationError if it is too long."""
    if isinstance(number, int) and not -SHORT < number < SHORT:
        budget.step(number.bit_length() // BITS_PER_STEP)
        if not -TOO_LONG < number < TOO_LONG:
            raise too_long()
    return number


def too_long() -> EvaluationError:
    return EvaluationError(f"an integer grows beyond {DIGITS:,} digits")


def multiply(budget: Budget, left: Any, right: Any) -> Any:
    """Return the product of two numbers. Raises EvaluationError."""
    if isinstance(left, int) and isinstance(right, int):
        first, second = left.bit_length(), right.bit_length()
        if first + second - 2 >= BITS:
            raise too_long()
        budget.step(first * second >> 17)
    return bounded(budget, left * right)


def pay_division(budget: Budget, left: Any, right: Any) -> None:
    """Count `left / right` or `left % right` of numbers."""
    if isinstance(left, int) and isinstance(right, int):
        first, second = left.bit_length(), right.bit_length()
        budget.step((first * second >> 17) + (first + second) // (2 * BITS_PER_STEP))


def power(budget: Budget, base: Any, exponent: Any) -> Any:
    """Return `base ** exponent` of numbers. Raises EvaluationError, and the exceptions of Python."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        length = base.bit_length()
        if length > 1:
            if (length - 1) * exponent >= BITS:
                raise too_long()
            budget.step((length * exponent) ** 2 >> 18)
    return bounded(budget, base**exponent)


def power_modulo(budget: Budget, base: Any, exponent: Any, modulus: Any) -> Any:
    """Return `base ** exponent % modulus`: each bit of the exponent is a multiplication and a division. Raises the
    exceptions of Python for other numbers than integers."""
    if isinstance(base, int) and isinstance(exponent, int) and isinstance(modulus, int):
        length = modulus.bit_length()
        pay_division(budget, base, modulus)
        budget.step(exponent.bit_length() * (2 + (length * length >> 16)))
        if exponent < 0:
            budget.step(length // 2)
    return pow(base, exponent, modulus)


def shift(budget: Budget, number: int, places: int) -> int:
    """Return the number shifted to the left, or by negative places to the right. Raises EvaluationError."""
    if number and places > 0 and number.bit_length() + places > BITS:
        raise too_long()
    result: int = bounded(budget, number << places if places >= 0 else number >> -places)
    return result


def read_integer(budget: Budget, text: str) -> int:
    """Return what `int(text)` gives. Raises ValueError."""
    budget.read(text)
    budget.step(min(len(text), DIGITS) ** 2 >> 15)
    return int(text)


def pay_for_digits(budget: Budget, number: Any) -> None:
    """Count the decimal digits of a number. Raises EvaluationError for an integer that is too long."""
    if isinstance(number, int) and not -SHORT < number < SHORT:
        budget.step(bounded(budget, number).bit_length() ** 2 >> 18)


def write_integer(budget: Budget, number: int) -> str:
    """Return what `str(number)` gives. Raises EvaluationError."""
    pay_for_digits(budget, number)
    text = str(number)
    budget.build(len(text))
    return text
