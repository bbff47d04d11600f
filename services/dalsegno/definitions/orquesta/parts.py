"""The parts of a parsed definition, for inspection and compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dalsegno.definitions.checkpoints import WrittenCheckpoint
from dalsegno.definitions.problems import Path
from dalsegno.definitions.reverts import FAILS, OnFailure
from dalsegno.workflow.model import RevertWhen

COMMANDS = ("noop", "continue", "fail", "retry")
"""The engine commands that `do` may name; no task may have such a name."""

CONTINUE = "continue"
RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference to a variable of the context."""

    variable: str
    path: Path


@dataclass(frozen=True, slots=True)
class Assignment:
    """One item of `input`, `vars`, `output` or `publish`: a name and its value; "" if the item has no name."""

    name: str
    value: Any
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A task or an engine command that `do` names."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Transition:
    """One item of `next`."""

    targets: tuple[Target, ...]
    path: Path = ()
    publish: tuple[Assignment, ...] = ()
    when: str | None = None
    references: tuple[Reference, ...] = ()
    """The references of `when`."""

    @property
    def published(self) -> tuple[str, ...]:
        """Return the names of all published variables."""
        return tuple(assignment.name for assignment in self.publish)


@dataclass(frozen=True, slots=True)
class ActionCall:
    """The action of a task and its input, with parsed inline parameters."""

    action: str = ""
    input: dict[str, Any] | str | None = None
    action_path: Path = ()
    input_path: Path = ()
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class ItemSource:
    """`with`: the list, the names for the members of its items, and how many may run at once."""

    names: tuple[str, ...]
    """Empty for `with: <% list %>`."""
    text: str
    path: Path
    concurrency: Any = None


@dataclass(frozen=True, slots=True)
class Retries:
    """`retry` with its values as written; None for a missing one."""

    path: Path
    count: Any
    when: str | None = None
    delay: Any = None


@dataclass(frozen=True, slots=True)
class ReadRevert:
    """What undoes a task."""

    call: ActionCall
    retry: Retries | None
    keys: Mapping[str, Any]
    """The keys as written."""
    path: Path
    when: RevertWhen


@dataclass(frozen=True, slots=True)
class ReadTask:
    """One task."""

    name: str
    path: Path
    call: ActionCall = field(default_factory=ActionCall)
    join: int | str | None = None
    has_items: bool = False
    items: ItemSource | None = None
    """None also if `with` is invalid."""
    delay: Any = None
    retry: Retries | None = None
    safe_rerun: Any = None
    target: Any = None
    checkpoint: WrittenCheckpoint | None = None
    revert: ReadRevert | None = None
    secret: bool = False
    references: tuple[Reference, ...] = ()
    """The references that are evaluated when the task begins."""
    transitions: tuple[Transition, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    """The task as written."""

    @property
    def retry_path(self) -> Path | None:
        """Return the place of what runs the task again: `retry` or the command; None if nothing does."""
        commands = (each.path for each in self.transitions for target in each.targets if target.name == RETRY)
        return (*self.path, "retry") if self.retry is not None else next(commands, None)

    @property
    def is_join(self) -> bool:
        return self.join is not None


@dataclass(frozen=True, slots=True)
class ReadWorkflow:
    """A whole definition."""

    tasks: dict[str, ReadTask]
    input: tuple[Assignment, ...] = ()
    vars: tuple[Assignment, ...] = ()
    output: tuple[Assignment, ...] = ()
    on_failure: OnFailure = FAILS
    strategy_references: tuple[Reference, ...] = ()
    secrets: frozenset[str] = frozenset()
    reveal: frozenset[str] = frozenset()
