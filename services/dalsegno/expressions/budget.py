"""What one evaluation may spend. Time is counted in steps and memory in elements and characters, so that the same
expression over the same data always ends in the same way, whatever else the machine is doing."""

from __future__ import annotations

from dalsegno.workflow.scope import EvaluationError

STEPS = 1_000_000
"""Items visited and functions called by one evaluation."""
SIZE = 4 * 1024 * 1024
"""Elements and characters that one evaluation may build."""
TEXT_LENGTH = 64 * 1024
"""Characters of one expression."""
NUMBER_BITS = 65_536
"""Bits of an integer: beyond it, arithmetic itself takes long."""


class Budget:
    """What is left to one evaluation. Hot loops count `steps` down themselves and call `exhausted`."""

    __slots__ = ("asked", "place", "size", "steps")

    def __init__(self, place: str = "") -> None:
        self.steps = STEPS
        self.size = SIZE
        self.place = place
        """Where the expression stands in its definition."""
        self.asked = 0
        """How often it has asked for something random."""

    def step(self, count: int) -> None:
        """Pay for visiting `count` items. Raises EvaluationError."""
        self.steps -= count
        if self.steps < 0:
            self.exhausted()

    def build(self, count: int) -> None:
        """Pay for `count` new elements or characters, before they are made. Raises EvaluationError."""
        self.size -= count
        if self.size < 0:
            raise EvaluationError(f"it builds more than {SIZE:,} elements or characters")

    def exhausted(self) -> None:
        raise EvaluationError(f"it takes more than {STEPS:,} steps")


def check_number(number: int | float) -> int | float:
    """The number itself, unless it has grown beyond reason. Raises EvaluationError."""
    if isinstance(number, int) and number.bit_length() > NUMBER_BITS:
        raise EvaluationError(f"an integer grows beyond {NUMBER_BITS:,} bits")
    return number
