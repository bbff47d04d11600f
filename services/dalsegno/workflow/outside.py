"""What a step gets from outside of its execution: the values that it is stepped with, and a port for lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import ActionDescription, AdHocAction, Workflow
from dalsegno.workflow.secrets import Cipher


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
    """The executions on the path to it: first a child of the execution that was asked about, last the descendant
    itself."""
    failed: tuple[str, ...]
    """The names of its tasks that have failed without a handler: a resume does not continue past them (R3)."""


class Given:
    """The values that an event is stepped with. They stay the same when the event is stepped again before it is
    stored."""

    __slots__ = ("careful", "name", "now_s")

    def __init__(self, now_s: float, name: tuple[object, ...], careful: bool = False) -> None:
        """`now_s`: the value of `now()` in expressions, in seconds since 1970; ids of children are derived from it too.
        `name`: a name that no other event has. `careful`: an engine died in a step of this execution, so every
        expression is evaluated outside of the engine."""
        self.now_s = now_s
        self.name = name
        self.careful = careful

    @property
    def seed(self) -> str:
        """A text that no other event has; random values are derived from it. (Few events need it.)"""
        return ".".join(map(str, self.name))


class Surroundings(Protocol):
    """The port for lookups, answered within the transaction of the batch: the same answer for the whole batch."""

    def find_workflow(self, name: str, namespace: str) -> FoundWorkflow | None:
        """Return the newest version of the workflow in this namespace, else in the default one (''), else None."""
        ...

    def find_action(self, name: str, namespace: str) -> ActionDescription | AdHocAction | None:
        """Return the description of the action; an ad-hoc action of this namespace, else of the default one. None:
        unknown."""
        ...

    def cipher(self, namespace: str) -> Cipher:
        """Return what encrypts and decrypts the secrets of the namespace. Raise Refused when the engine has no key."""
        ...

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        """Return when the third party of a delegate was heard last in its present delivery, or could be heard at last,
        if that was later: 0.0 when neither is known."""
        ...

    def paused_below(self, execution_id: str) -> Sequence[PausedBelow]:
        """Return the descendants of the execution that the store knows as PAUSED or PAUSING, at most 1,000."""
        ...

    def changes(self, execution_id: str, up_to: int) -> Sequence[AnyChange | Consolidated]:
        """Return the journal of the execution up to this sequence number, as far as it is not discarded. The changes of
        the step that asks are not in it."""
        ...

    def discarded_below(self, execution_ids: Sequence[str]) -> Sequence[str]:
        """Return those of the executions and of their descendants that have discarded their beginning, at most 100."""
        ...

    def environment(self, name: str, namespace: str) -> Mapping[str, object]:
        """Return the present variables of a stored environment of the namespace; empty when there is no such
        environment."""
        ...

    def tasks(
        self, execution_id: str | None, namespace: str, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Return the records that `tasks(...)` shows of other executions of the namespace, at most 1,000."""
        ...

    def executions(self, namespace: str, criteria: dict[str, object]) -> list[dict[str, object]]:
        """Return the records that `executions(...)` shows, at most 1,000."""
        ...
