"""What a step has from outside of its execution: what it is stepped with, and what it may look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dalsegno.workflow.model import ActionDescription, AdHocAction, Workflow


@dataclass(frozen=True, slots=True)
class FoundWorkflow:
    """A stored workflow, compiled, in its newest version."""

    workflow: Workflow
    definition_id: str
    version: int
    namespace: str


@dataclass(frozen=True, slots=True)
class PausedBelow:
    """A descendant of an execution that is PAUSED or PAUSING."""

    execution_id: str
    workflow: str
    path: tuple[str, ...]
    """The executions that lead to it: a child of the one that was asked about first, itself last."""
    failed: tuple[str, ...]
    """The names of its tasks that have failed and that nothing handles: a resume does not run over them (R3)."""


class Given:
    """What an event is stepped with, each time the same when it is stepped again before it is stored."""

    __slots__ = ("careful", "name", "now_s")

    def __init__(self, now_s: float, name: tuple[object, ...], careful: bool = False) -> None:
        """`now_s`: what `now()` is in its expressions, in seconds since 1970; ids of children are made of it too.
        `name`: what no other event has. `careful`: an engine died in a step of the execution, so that every expression
        is evaluated outside of the engine."""
        self.now_s = now_s
        self.name = name
        self.careful = careful

    @property
    def seed(self) -> str:
        """A text that no other event has: what is random is made of it. (Few events need it.)"""
        return ".".join(map(str, self.name))


class Surroundings(Protocol):
    """Answered from within the batch's transaction: the same answer for the whole batch."""

    def find_workflow(self, name: str, namespace: str) -> FoundWorkflow | None:
        """The newest version of the workflow in this namespace, else in the default one (''), else None."""
        ...

    def find_action(self, name: str, namespace: str) -> ActionDescription | AdHocAction | None:
        """What is known of the action; an ad-hoc one of this namespace, else of the default one. None: unknown."""
        ...

    def paused_below(self, execution_id: str) -> Sequence[PausedBelow]:
        """The descendants of the execution that are PAUSED or PAUSING as the store knows them, at most 1,000."""
        ...

    def environment(self, name: str, namespace: str) -> Mapping[str, object]:
        """The variables of a stored environment of the namespace, as they are now; none when there is no such one."""
        ...

    def tasks(
        self, execution_id: str | None, namespace: str, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """The records that `tasks(...)` shows of other executions of the namespace, at most 1,000."""
        ...

    def executions(self, namespace: str, criteria: dict[str, object]) -> list[dict[str, object]]:
        """The records that `executions(...)` shows, at most 1,000."""
        ...
