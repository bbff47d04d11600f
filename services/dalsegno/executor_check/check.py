"""A check, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dalsegno.executor_check.scene import Scene


class Step(Protocol):
    """Something that the engine sends, or that must come."""

    async def play(self, scene: Scene) -> None:
        """Do it. Raises Unmet, or Skipped if the check does not apply."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """What an executor must do in one situation."""

    name: str
    rule: str
    """The sentence of the contract, and where it stands."""
    steps: tuple[Step, ...]
