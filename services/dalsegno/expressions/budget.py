"""The budget of one evaluation. Time is counted in steps and memory in elements and characters, so that the same
expression over the same data always ends in the same way, also on a busy machine.

Each operation is counted before it runs, by the size of its values. In the engine an evaluation has a small budget; one
that needs more runs again in the pool, with the limits that authors see.
"""

from __future__ import annotations

from dalsegno.workflow.scope import EvaluationError

STEPS_HERE = 50_000
"""Steps of one evaluation in the engine: 2 to 15 ms."""
SIZE_HERE = 1024 * 1024
"""Elements and characters that one evaluation builds in the engine."""
STEPS = 1_000_000
"""Steps that one evaluation may take."""
SIZE = 8 * 1024 * 1024
"""Elements and characters that one evaluation may build, with intermediate results."""
TEXT_LENGTH = 64 * 1024
"""Characters of one expression."""
CHARACTERS_PER_STEP = 64
"""Characters that are read in the time of one step."""


class NeedsPool(Exception):
    """The evaluation exceeds its budget in the engine: the pool must evaluate it.

    Nothing on its way may take it for a fault of the expression.
    """


class Budget:
    """The remaining budget of one evaluation. Hot loops decrement `steps` and `size` themselves and call `exhaust`."""

    __slots__ = ("asked", "place", "size", "steps", "unproven")

    is_here = False
    """Whether this is the engine, where the budget is small and nothing without a bound runs."""

    def __init__(self, place: str = "", steps: int = STEPS, size: int = SIZE) -> None:
        self.place = place
        """The place of the expression in its definition."""
        self.steps = steps
        self.size = size
        self.asked = 0
        """The number of random values that it has used."""
        self.unproven = False
        """Whether plain lists and dicts may contain values that JSON does not have: from Jinja, from YAQL's library, or
        from what the expression has read."""

    def step(self, count: int) -> None:
        """Count visiting `count` items. Raises EvaluationError and NeedsPool."""
        left = self.steps - count
        if left < 0:
            self.exhaust()
        self.steps = left

    def build(self, count: int) -> None:
        """Count `count` new elements or characters. Raises EvaluationError and NeedsPool."""
        left = self.size - count
        if left < 0:
            self.exhaust_size()
        self.size = left

    def read(self, text: str) -> None:
        """Count reading a text from end to end. Raises EvaluationError and NeedsPool."""
        if len(text) >= CHARACTERS_PER_STEP:
            self.step(len(text) // CHARACTERS_PER_STEP)

    def leave(self) -> None:
        """Declare that the next operation has no bound. Raises NeedsPool in the engine."""
        if self.is_here:
            raise NeedsPool

    def exhaust(self) -> None:
        self.leave()
        raise EvaluationError(f"it takes more than {STEPS:,} steps")

    def exhaust_size(self) -> None:
        self.leave()
        raise EvaluationError(f"it builds more than {SIZE:,} elements or characters")


class BudgetHere(Budget):
    """The remaining budget of one evaluation in the engine."""

    __slots__ = ()

    is_here = True

    def __init__(self, place: str = "", steps: int = STEPS_HERE) -> None:
        self.place = place
        self.steps = steps
        self.size = SIZE_HERE
        self.asked = 0
        self.unproven = False
