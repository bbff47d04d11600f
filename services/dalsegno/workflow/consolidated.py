"""What a journal begins with after a discard: the execution as it was at an entry, as far as its future can see it
(decision 24).

The records are part of the journal's format: fields are only added, with defaults, so that every journal stays
readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from dalsegno.workflow.changes import Arrival, Change, ErrorNoted, ExecutionCreated
from dalsegno.workflow.contexts.portable import Portable
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import Arrivals, Attempt, Progress, Publication, Timing
from dalsegno.workflow.states import ExecutionState, TaskState
from dalsegno.workflow.value import EMPTY, Value


class KeptTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task execution that is kept. The fields are those of TaskExecution."""

    number: int
    name: str
    state: TaskState
    tags: tuple[str, ...] = ()
    arrivals: Arrivals
    timing: Timing
    progress: Progress
    generation: int = 0
    edition: int = 0
    former: Mapping[int, Publication] = {}
    superseded_by: str = ""
    route: int = 0
    added_at: int = 0
    info: str = ""
    publication: Publication
    routed: bool = False
    next: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    handled: bool = False
    created_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    ended_at: int = 0
    entry: int = 0
    last_round: int = 0
    last_attempt: int = 0
    last_item: int = 0
    is_consolidated: bool = False
    led_to: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    base: int = -1
    """Which of the contexts it sees; -1: what its sources pass on."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The small parts of an execution. The fields are those of Execution."""

    state: ExecutionState
    info: str = ""
    revision: int
    moved_s: float
    latest_s: float
    started_s: float | None = None
    paused_since_s: float | None = None
    paused_s: float = 0.0
    is_paused_by_report: bool = False
    waits_for_delegates: bool = False
    stop_at: tuple[str, ...] = ()
    arrival: Arrival | None = None
    input: Value = EMPTY
    environment: Value = EMPTY
    edit_count: int = 0
    generation: int = 0
    task_count: int = 0
    route_count: int = 1
    parent_revision: int = 0
    again_at: int = 0
    holds_secrets: bool = False
    reported_errors: Value | None = None


class Indexes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The indexes of an execution whose order matters. The fields are those of Execution."""

    incomplete: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    unhandled: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    unrouted: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    ready: tuple[AttemptKey, ...] = ()
    children: tuple[AttemptKey, ...] = ()
    delegates: tuple[AttemptKey, ...] = ()


class KeptWrites(msgspec.Struct, frozen=True, array_like=True):
    """The writes of a variable of the whole execution that are kept. The fields are those of Writes."""

    dropped: int
    made: tuple[tuple[int, Value | None], ...]


class KeptEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The entry at which the journal begins. The fields are those of Entry."""

    sequence: int
    name: str
    task: int = 0
    route: int = 0
    data: Value | None = None
    at_s: float = 0.0


class Consolidated(Change, frozen=True, kw_only=True):
    """An execution as it was at an entry, as far as its future can see it. It takes the place of all changes up to and
    with the one that reached the entry, and has its sequence."""

    entry: KeptEntry
    created: ExecutionCreated | None = None
    """None: it follows ExecutionCreated, at the beginning of a fork."""
    standing: Standing
    tasks: tuple[KeptTask, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    contexts: Portable
    end_context: int = -1
    """Which of the contexts the branches had that have ended and are discarded; -1: there are none."""
    globals: Mapping[str, KeptWrites] = {}
    """The writes of the variables of the whole execution."""
    routes: Mapping[int, tuple[str, ...]] = {}
    branch_ends: tuple[tuple[int, int, int], ...] = ()
    """Task, branch and revision."""
    errors: tuple[ErrorNoted, ...] = ()
    names: tuple[str, ...] = ()
    """The names of all tasks that have been executed."""
    indexes: Indexes
    lost: tuple[str, ...] = ()
    """The names of the checkpoints of which entries are discarded."""
    at_s: float = 0.0

    @property
    def size(self) -> int:
        """How many task executions and attempts it holds."""
        return len(self.tasks) + len(self.attempts)


@dataclass(frozen=True, slots=True)
class Discarded:
    """What a discard leaves, and what goes: every task execution with a number up to `task_count` that is not in
    `kept`, with its attempts and their children."""

    consolidated: Consolidated
    task_count: int
    kept: frozenset[int]
    reduced: frozenset[int]
    """Those of the kept ones whose records the discard has altered."""

    @property
    def sequence(self) -> int:
        """The sequence of the entry."""
        return self.consolidated.entry.sequence

    def following(self, earlier: Discarded | None) -> Discarded:
        """Return what this discard and an earlier one leave together: records that the earlier one has altered are no
        longer altered by this one."""
        if earlier is None:
            return self
        return replace(self, reduced=self.reduced | (earlier.reduced & self.kept))
