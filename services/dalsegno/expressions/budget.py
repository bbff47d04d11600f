"""What one evaluation may spend. Time is counted in steps and memory in elements and characters, so that the same
expression over the same data always ends in the same way, whatever else the machine is doing."""

from __future__ import annotations

from dalsegno.workflow.scope import EvaluationError

STEPS = 1_000_000
"""Items visited and functions called by one evaluation."""
SIZE = 8 * 1024 * 1024
"""Elements and characters that one evaluation may build, passing results included."""
TEXT_LENGTH = 64 * 1024
"""Characters of one expression."""
NUMBER_BITS = 65_536
"""Bits of an integer: beyond it, arithmetic itself takes long."""
CHARACTERS_PER_STEP = 64
"""Characters that are read, and bits that are reckoned with, in the time of one step."""


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

    def read(self, text: str) -> None:
        """Pay for reading a text from end to end. Raises EvaluationError."""
        if len(text) >= CHARACTERS_PER_STEP:
            self.step(len(text) // CHARACTERS_PER_STEP)

    def reckon(self, number: int | float) -> int | float:
        """The number itself, paid for by its length. Raises EvaluationError when it is beyond reason."""
        if isinstance(number, int) and number.bit_length() > CHARACTERS_PER_STEP:
            if number.bit_length() > NUMBER_BITS:
                raise EvaluationError(f"an integer grows beyond {NUMBER_BITS:,} bits")
            self.step(number.bit_length() // CHARACTERS_PER_STEP)
        return number

    def exhausted(self) -> None:
        raise EvaluationError(f"it takes more than {STEPS:,} steps")
