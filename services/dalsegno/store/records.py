"""The records that the store takes and returns. They are frozen; the names of their fields are those of the columns.

JSON is text, as it was given. A JSON field of a listed row is None if the list was read without values. Times are
seconds since 1970 by the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_EXECUTION, COMPLETED_TASK, ExecutionState

Row = TypeVar("Row")

DefinitionKind = Literal["workflow", "action"]
"""What a definition defines. An action is an ad-hoc action."""

ResourceKind = Literal["execution", "environment", "workflow", "ad-hoc action"]
"""What can be deleted, with the names of refusals."""


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """The current state of an execution."""

    id: str
    namespace: str
    workflow: str
    version: int
    definition_id: str
    language: str
    input: str | None
    params: str | None
    labels: str
    """JSON text of an object."""
    description: str
    root_id: str
    parent_id: str
    """Empty if it has no parent. The next three numbers are the parent's attempt."""
    parent_task: int
    parent_item: int
    parent_attempt: int
    deadline_s: float | None
    created_s: float
    actor: str
    comment: str
    forked_from: str
    """The id of the execution that it was forked from; empty: it is no fork."""
    forked_from_sequence: int
    """The sequence number of the entry at which it was forked; 0: it is no fork."""
    forked_from_checkpoint: str
    """The name of that checkpoint."""
    state: str
    info: str
    output: str | None
    errors: str | None
    """JSON text of a list, for workflows whose language has one."""
    revision: int
    active_count: int
    waits_for_delegates: bool
    """Whether an execution that comes to rest waits for its delegates."""
    started_s: float | None
    ended_s: float | None
    moved_s: float
    """When it reached its state."""
    updated_s: float
    """When its last change was made."""
    paused_at: str = ""
    """The name of the checkpoint at which it stands."""
    paused_at_sequence: int = 0
    """The sequence number of that entry; 0: it stands at none."""
    not_reached: str = ""
    """The checkpoints that it was to stop at and did not reach before it ended, separated by commas."""
    stop_at: str = "[]"
    """JSON text of a list: the names of the checkpoints at which it is to stop."""
    reverting_to: str = ""
    """The name of the checkpoint to which it goes back."""
    reverting_to_sequence: int = 0
    """The sequence number of that entry; 0: it does not go back."""
    goes_on_s: float | None = None
    """When it continues by itself. None: while it is PAUSED, only when it is resumed."""
    first_sequence: int = 1
    """The sequence number of the first change of its journal: what was before is discarded."""
    deaths: int = 0
    """How many engines died in its steps since the last step that was stored."""

    @property
    def is_standalone_action(self) -> bool:
        """Whether it only carries a standalone action. Such an execution has no workflow."""
        return not self.workflow


@dataclass(frozen=True, slots=True)
class ExecutionFacts:
    """What an action execution shows of its execution, as the row of the execution has it."""

    namespace: str
    workflow: str
    labels: str
    actor: str
    comment: str

    @property
    def is_standalone_action(self) -> bool:
        """Whether it only carries a standalone action. Such an execution has no workflow."""
        return not self.workflow


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What an action execution shows of its task, as the row of the task has it."""

    name: str
    item_count: int | None
    timeout_due_s: float | None


class DefinitionPlace(NamedTuple):
    """Where a definition is looked up."""

    kind: DefinitionKind
    name: str
    namespace: str
    version: int = 0
    """0: the newest."""


class Claimed(NamedTuple):
    """What a claim returns about an execution."""

    revision: int
    deaths: int
    """How many engines died in its steps since the last step that was stored."""
    first_sequence: int = 1
    """The sequence number of the first change of its journal."""


class Begun(NamedTuple):
    """What the beginning of an engine's batch returns."""

    shift_s: float | None
    """What engines add to the store's time now, in seconds; None: the engine has ended."""
    claimed: dict[str, Claimed]
    definition_ids: list[str | None]
    """For each place: the id of the definition that is found there."""


class Keepers(NamedTuple):
    """The numbers of engines. 0 stands for no engine."""

    keeping: frozenset[int]
    """Those that keep READY attempts or messages, whether they have rows or not."""
    living: frozenset[int]
    """Those that have not ended."""


class Standing(NamedTuple):
    """The revision of an execution, and whether clients that wait for its end must read it."""

    revision: int
    resting: bool
    """It is PAUSED, or at rest: completed, with nothing active."""


RESTING_STATES = frozenset({*(state.value for state in COMPLETED_EXECUTION), ExecutionState.PAUSED.value})


def standing_of(state: str, active_count: int, revision: int) -> Standing:
    """Return the standing of an execution with these columns."""
    resting = state in RESTING_STATES and (not active_count or state == ExecutionState.PAUSED.value)
    return Standing(revision, resting)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """The current state of a task execution."""

    execution_id: str
    number: int
    name: str
    route: int
    created_s: float
    tags: str
    """JSON text of a list."""
    state: str
    generation: int
    """A rerun increases it: what continues after the execution had ended belongs to a later one."""
    info: str
    timer: str
    due_s: float | None
    timeout_due_s: float | None
    verdict: str
    attempt: int
    retries: int
    item_count: int | None
    added_count: int
    ended_count: int
    failed_count: int
    cancelled_count: int
    published: str | None
    """JSON text of an object."""
    source_count: int
    """How many tasks led to it. The journal contains which ones, because a join of thousands would be written as
    often."""
    next: str
    """JSON text of a list of task numbers."""
    routed: bool
    handled: bool
    result_dropped: bool
    superseded_by: str
    """The operation that superseded it; empty if it counts."""
    awaits: str
    """JSON text of a list of names: the first tasks that a WAITING join waits for."""
    awaits_count: int
    """How many tasks it waits for."""
    started_s: float | None
    ended_s: float | None
    ended_at: int = 0
    """The revision at which it ended last. 0: it has not ended, or the row is older than this column."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One entry of a checkpoint."""

    execution_id: str
    sequence: int
    """The revision at which it was reached."""
    name: str
    task: int
    route: int
    data: str | None
    """JSON text of an object. None: there is none."""
    at_s: float
    undone: bool
    """Whether the execution has gone back behind it."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """The current state of an attempt."""

    execution_id: str
    task: int
    item: int
    attempt: int
    action: str
    child_id: str
    safe: bool
    adhoc: str
    target: str
    digest: str
    """The digest of the description from which the input was made; empty: none is known."""
    timeout_s: float | None
    input: str | None
    comment: str
    actor: str
    created_s: float
    reverts: int
    """The revision of the end that it reverts; 0: it belongs to a round of its task."""
    copied: bool
    """Whether a fork has it from the execution that it came from. Nobody has run it for the fork."""
    was_workflow: bool
    """Whether it is a copy of a sub-workflow."""
    state: str
    undone: bool
    """Whether the execution has gone back to before it."""
    accepted: bool
    result: str | None
    error: str
    delivery: int
    session_id: str
    executor_id: str
    delegated: bool
    started_s: float | None
    ended_s: float | None
    alias: str = ""
    deadline_s: float | None = None
    """When its present executor stops it. None: never."""
    engine: int = 0
    """The number of the engine that handed it out last. 0: an older version did."""
    progress: str = ""
    """The latest progress, JSON text of a Progress; empty: none. The journal does not contain it."""
    heard_s: float = 0.0
    """When the third party that must be heard was heard last; 0: never. The journal does not contain it."""

    @property
    def key(self) -> AttemptKey:
        """Its key within the execution."""
        return (self.task, self.item, self.attempt)

    @property
    def runs_workflow(self) -> bool:
        """Whether it is a sub-workflow, or a copy of one."""
        return bool(self.child_id) or self.was_workflow


def phase_of(state: str, *, has_begun: bool, has_entry: bool) -> Phase:
    """Return how far a task execution with this state has come. `has_begun`: it has an attempt; `has_entry`: it has
    reached its checkpoint."""
    if has_entry or state in COMPLETED_TASK:
        return Phase.ENDED
    return Phase.BEGUN if has_begun else Phase.TO_BEGIN


class TaskResult(NamedTuple):
    """The result of a task. For a task with items, the list of their results."""

    text: str | None
    """JSON text. None: there is none yet, it is not kept, or it is too large."""
    is_too_large: bool = False


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of an action, as its executor or a third party has reported it."""

    text: str = ""
    fraction: float | None = None
    """From 0 to 1. None: unknown."""
    details: str = ""
    """JSON text; empty for none."""
    at_s: float = 0.0
    delivery: int = 0
    """Progress of an earlier delivery does not count."""


@dataclass(frozen=True, slots=True)
class NewProgress:
    """The progress of an attempt that is to be stored."""

    execution_id: str
    key: AttemptKey
    progress: Progress


class JournalEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step: its event, which made the next `count` changes, and when, by whom and why. A list in JSON."""

    event: str
    """The name of the event, such as `task_done`."""
    at_s: float
    actor: str
    comment: str
    count: int


class Saved(msgspec.Struct, frozen=True):
    """One execution to store: its state after the changes, the changes in order, and the steps that made them."""

    execution: Execution
    changes: Sequence[AnyChange | Consolidated]
    entries: Sequence[JournalEntry]
    deaths: int = 0
    """The deaths that still count after these steps."""
    discarded: Discarded | None = None
    """What the last of these steps that discards the beginning of the execution leaves of it."""


@dataclass(frozen=True, slots=True)
class JournalChange:
    """One change of a journal."""

    sequence: int
    """Counted from 1 without gaps."""
    at_s: float
    actor: str
    comment: str
    event: str
    change: AnyChange | Consolidated


@dataclass(frozen=True, slots=True)
class NewMessage:
    """An event to deliver to an execution."""

    id: str
    """Time-ordered text. Messages that are due at the same time are delivered in the order of their ids."""
    execution_id: str
    event: Event
    due_s: float


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message whose time has come."""

    id: str
    execution_id: str
    due_s: float


@dataclass(frozen=True, slots=True)
class ReadyAttempt:
    """An attempt that waits for an executor."""

    execution_id: str
    key: AttemptKey
    action: str
    target: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """An attempt that a session has: RUNNING and not delegated."""

    execution_id: str
    key: AttemptKey
    delivery: int
    session_id: str
    engine: int = 0
    """The number of the engine that handed it out. It belongs to the stream of the session to this engine."""


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine, from its start to its end."""

    number: int
    """Counted from 1. No number is used twice."""
    id: str
    """The id in its Welcomes."""
    process: str
    """Which process of which machine it is, as engine/processes.py writes it; empty: unknown."""
    beats: int = 0
    """How often it has renewed this row."""
    patience_s: float = 0.0
    """How long the others let it be silent, because its transactions take long."""
    ended: bool = False
    """Whether it has ended, or was ended by another engine. It writes nothing more."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session of an executor, with its lease."""

    session_id: str
    executor_id: str
    engine_id: str
    lease_until_s: float
    ended: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: int = 1
    peer: str = ""
    """The address of its last connection, as gRPC writes it."""
    actions: Mapping[str, str] = field(default_factory=dict)
    """The digest of the description of each action that it serves, by name."""
    connected_s: float = 0.0
    """When it first connected. 0: older sessions have no such time."""
    heard_s: float = 0.0
    """When it was last heard, at the last renewal of its lease."""
    principal: str = ""
    """The name of the caller that opened it. Empty: the engine asked for no token, or an older version stored it."""


@dataclass(frozen=True, slots=True)
class DescriptionRow:
    """The description of an action by an executor that serves it."""

    digest: str
    name: str
    description: str
    """JSON text."""
    described_s: float
    """When it was first received."""


class Resource(NamedTuple):
    """An execution, an environment or a version of a workflow. Its `life` differs from that of a later one with the
    same name."""

    kind: ResourceKind
    name: str
    namespace: str
    life: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """Something was deleted."""

    resource: Resource
    deleted_s: float


@dataclass(frozen=True, slots=True)
class ClockRow:
    """What engines need to count the time from the store's clock (dalsegno/README.md#durability)."""

    shift_s: float = 0.0
    """Added to the store's time. It is the opposite of all jumps of the store's clock."""
    latest_s: float = 0.0
    """The newest counted time that was stored."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request that has been answered."""

    body_hash: str
    answer: bytes
    about: tuple[Resource, ...] = ()
    """What the answer tells of. It may be deleted before the request is repeated."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A YAML text as it was sent."""

    text: str
    language: str
    namespace: str
    created_s: float
    actor: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class StoredMember:
    """One workflow or ad-hoc action that a document defines."""

    definition_id: str
    """A UUIDv7 in text form, which the caller chooses."""
    kind: DefinitionKind
    name: str
    tags: tuple[str, ...] = ()
    description: str = ""
    input: str = "[]"
    """Its parameters, JSON text that the definitions package writes."""


@dataclass(frozen=True, slots=True)
class DefinitionRow:
    """One version of one workflow or ad-hoc action."""

    definition_id: str
    document_id: str
    kind: DefinitionKind
    namespace: str
    name: str
    version: int
    """Counted from 1 for each kind and name in a namespace, including deleted ones."""
    language: str
    tags: str
    """JSON text of a list."""
    description: str
    input: str
    created_s: float
    actor: str
    comment: str
    deleted: bool
    text: str | None
    """The document."""


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """A named set of values."""

    namespace: str
    name: str
    description: str
    value: str | None
    """JSON text of an object."""
    revision: int
    """How often it was put, from 1."""
    created_s: float
    updated_s: float
    actor: str
    comment: str


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Part of a list."""

    rows: list[Row]
    next_token: str
    """Where the list continues; empty on the last page."""
    token_after: Callable[[Row], str]
    """Returns where the list continues after a row, if the caller does not show all of them."""
