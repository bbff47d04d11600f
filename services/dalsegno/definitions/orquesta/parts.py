"""What a definition says, once its forms are read: what inspection walks over, and what compilation starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dalsegno.definitions.problems import Path

COMMANDS = ("noop", "continue", "fail", "retry")
"""What `do` may name besides tasks: no task may be called so."""

CONTINUE = "continue"
RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Reference:
    """One place that names a variable of the context."""

    variable: str
    path: Path


@dataclass(frozen=True, slots=True)
class Assignment:
    """One item of `input`, `vars`, `output` or `publish`: a name and its value; "" when the item has no name."""

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
    """Those of `when`."""

    @property
    def published(self) -> tuple[str, ...]:
        """The names of all that it publishes."""
        return tuple(assignment.name for assignment in self.publish)


@dataclass(frozen=True, slots=True)
class ActionCall:
    """The action of a task and its input, inline parameters taken apart."""

    action: str = ""
    input: dict[str, Any] | str | None = None
    action_path: Path = ()
    input_path: Path = ()
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class ItemSource:
    """`with`: the list, the names that the members of its items get, how many may be under way at once."""

    names: tuple[str, ...]
    """None of them for `with: <% list %>`."""
    text: str
    path: Path
    concurrency: Any = None


@dataclass(frozen=True, slots=True)
class Retries:
    """`retry`, its values as written; None for what is absent."""

    path: Path
    count: Any
    when: str | None = None
    delay: Any = None


@dataclass(frozen=True, slots=True)
class ReadTask:
    """One task."""

    name: str
    path: Path
    call: ActionCall = field(default_factory=ActionCall)
    join: int | str | None = None
    has_items: bool = False
    items: ItemSource | None = None
    """None also where `with` cannot be read."""
    delay: Any = None
    retry: Retries | None = None
    safe_rerun: Any = None
    references: tuple[Reference, ...] = ()
    """Those that are evaluated when the task begins."""
    transitions: tuple[Transition, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    """The task as written."""

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
