"""The parts of an execution: its task executions and their attempts, as `apply` keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import immutables
import msgspec

from dalsegno.workflow.changes import ErrorNoted, RevertBegun, RevertState, RoundPlanned, Signature, Timer
from dalsegno.workflow.contexts.context import Context
from dalsegno.workflow.contexts.layers import Layers
from dalsegno.workflow.contexts.nothing import NOTHING
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_TASK, AttemptState, TaskState
from dalsegno.workflow.value import Value, byte_length

# A lookup of a member in its class costs as much as the rest of these properties.
_RUNNING, _PAUSED = AttemptState.RUNNING, AttemptState.PAUSED


class Publication(msgspec.Struct):
    """What a task published in one of its editions."""

    values: dict[str, Value] = {}
    """All of it, by any branch."""
    branches: dict[int, tuple[int, Mapping[str, Value]]] = NOTHING
    """What each branch published, and the revision that did."""
    edits: Sequence[tuple[int, Mapping[str, Value]]] = ()
    """What was edited in it, and at which revision: each edit is one more publish."""
    unedited: dict[str, Value] | None = None
    """The values before they were edited, without what was removed; None: nothing was edited."""

    @property
    def before_edits(self) -> dict[str, Value]:
        """The values without the edits."""
        return self.values if self.unedited is None else self.unedited

    def copy(self) -> Publication:
        """Return a copy that keeps its values before the edits and the edits."""
        return Publication(dict(self.before_edits), dict(self.branches), list(self.edits))


class Attempt(msgspec.Struct):
    """One action execution, or one child execution as the parent sees it."""

    key: AttemptKey
    action: str
    input: Value
    state: AttemptState
    child_id: str = ""
    child_revision: int = 0
    """The newest revision at which the child has reported."""
    safe: bool = False
    adhoc: str = ""
    target: str = ""
    digest: str = ""
    """The digest of the action's description that the input was made by; empty: none is known."""
    timeout_s: float | None = None
    comment: str = ""
    actor: str = ""
    stands_in: bool = False
    """It holds the output that was given for a skipped task, and is never run."""
    reverts: int = 0
    """The sequence of the end that it reverts; 0: it belongs to a round of the task."""
    is_retried: bool = False
    """It has ended, and another one has been tried in its place: it is no end to revert (decision 17)."""
    is_undone: bool = False
    """The execution has gone back to before it."""
    copied: bool = False
    """A fork has it from the execution that it came from: nobody has run it for the fork."""
    was_workflow: bool = False
    """It is a copy of an attempt that was a sub-workflow, which stays with the other execution."""
    child_is_reverted: bool = False
    """Its sub-workflow failed and was ordered to be reverted, so that a fresh one can try again."""
    accepted: bool = False
    """Whether its result counts: it has ended, and no later attempt replaces it."""
    result: Value | None = None
    error: str = ""
    delivery: int = 0
    session_id: str = ""
    executor_id: str = ""
    engine: int = 0
    """The number of the engine that handed it out last. 0: an older version did."""
    deadline_s: float | None = None
    """When the executor that got it last stops it."""
    delegated: bool = False
    alias: str = ""
    """Another name by which a third party may complete it; kept after its end, to recognize a repeat."""
    heartbeat_timeout_s: float | None = None
    """Once delegated: it fails when the third party is not heard for this time; None: it need not be heard."""
    signature: Signature = Signature.NONE
    """Once delegated: how the third party signs its callbacks."""
    reported: bool = False
    """Whether it is PAUSED by its own report."""
    created_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None

    @property
    def runs_workflow(self) -> bool:
        """Whether it is a sub-workflow, or a copy of one."""
        return bool(self.child_id) or self.was_workflow

    @property
    def is_active(self) -> bool:
        """Whether an executor works on it now. A delegate is waited for, not worked on (decision 6)."""
        return self.state is _RUNNING and not self.delegated

    @property
    def is_quiet(self) -> bool:
        """Whether it has not ended and, by its own report, no executor works on it."""
        return self.state is _PAUSED or (self.delegated and self.state is _RUNNING)


class Arrivals(msgspec.Struct):
    """How the task was reached."""

    sources: list[int] = []
    """The tasks whose outbound contexts make the context of this one; for a join in order of arrival."""
    by_branches: list[int] = []
    """The branch of each source that leads here; -1: its clauses."""
    arrived: set[str] = set()
    """The names of the sources of a join."""
    awaits: tuple[str, ...] = ()
    """The tasks that may lead to the join."""
    editions: dict[int, int] = NOTHING
    """The edition in which each source led here, where that is not the first one."""
    late: dict[int, tuple[int, ...]] = NOTHING
    """The sources that reached a join after it had begun or failed, in order of arrival, each with its branches. The
    join does not depend on them until an operation fills it again (decision 3)."""


class Timing(msgspec.Struct):
    """What the task waits for, and until when."""

    timer: Timer = Timer.NONE
    due_s: float | None = None
    verdict: TaskState | None = None
    timeout_due_s: float | None = None
    timeout_paused_s: float = 0.0
    """How long the execution had been paused when the timeout was armed, so that a pause is not counted twice."""


class Progress(msgspec.Struct):
    """How far the rounds of attempts of the task are."""

    attempt: int = 0
    """The present round of attempts; 0 before the first."""
    base: int = 0
    """The round in which the whole task began; later ones ran some of its items again."""
    rounds: dict[int, int] = NOTHING
    """The round of each item that was run again since."""
    pending: Sequence[int] = ()
    """The items that the present round is to run, in order."""
    begun_count: int = 0
    """How many of those have begun."""
    slice_due: bool = False
    """Whether a SliceDue begins the next ones."""
    failed_items: dict[int, None] = {}
    """The items whose present attempts failed or were cancelled."""
    plan: RoundPlanned | None = None
    """How an operation wants the next round to be."""
    round: RoundPlanned | None = None
    """How an operation wanted the present round to be; its retries follow it too."""
    edits_seen: int = 0
    """How often the execution's context had been edited when the present round began."""
    retries: int = 0
    items: Value | None = None
    concurrency: int | None = None
    item_count: int | None = None
    """How many items there are; None for a task without with-items."""
    added_count: int = 0
    ended_count: int = 0
    failed_count: int = 0
    cancelled_count: int = 0
    quiet_items: dict[int, None] = {}
    """The items whose present attempt is paused or delegated."""
    result_dropped: bool = False
    awaiting: dict[int, bool] = {}
    """The items whose failed sub-workflows are reverted, to be tried again; True: they have been reverted."""

    @property
    def settled_count(self) -> int:
        """Return how many attempts of the round have ended and are not tried again."""
        return self.ended_count - len(self.awaiting)

    def round_of(self, item: int) -> int:
        """Return the round of the item's present attempt."""
        return self.rounds.get(item, self.base)


@dataclass(slots=True)
class Entry:
    """One reaching of a checkpoint (decision 16)."""

    sequence: int
    """The revision at which it was reached."""
    name: str
    task: int = 0
    """The task execution that reached it; 0: `start`."""
    route: int = 0
    data: Value | None = None
    at_s: float = 0.0
    is_undone: bool = False
    """The execution has gone back to an entry before it."""
    retries: int = 0
    """How often failures have gone back to it since a user or a program last did (decision 22)."""
    kept: Kept | None = field(default=None, compare=False, repr=False)
    """What the execution was at the entry, as far as it has been altered since; None: it is undone."""


UNDONE_BY = "workflow-revert"
"""Of a task execution that did not exist at the entry to which the execution went back: what superseded it."""


class End(msgspec.Struct, frozen=True, gc=False):
    """One end of a task, or of an item of it: what a revert undoes (decision 17)."""

    sequence: int
    """The revision at which it ended."""
    task: int
    item: int
    """-1: the task as a whole."""
    attempt: int
    """The round that ended."""
    state: TaskState
    edition: int
    """The edition of the task that ended."""


@dataclass(slots=True)
class Undoing:
    """The revert of one end."""

    end: End
    state: RevertState
    key: AttemptKey | None = None
    """Its newest attempt."""
    retries: int = 0
    due_s: float | None = None
    info: str = ""
    ordered_at: int = 0
    """With CHILD: the revision at which its sub-workflow was told to go back."""


@dataclass(slots=True)
class Reverting:
    """An execution on its way back to an entry."""

    aim: RevertBegun
    since: int
    """The revision of the aim."""
    open: dict[int, Undoing] = field(default_factory=dict)
    """The reverts that have begun and are not done, by the sequence of the end."""
    failed: dict[int, None] = field(default_factory=dict)
    """Those of them that have failed."""
    delayed: dict[int, None] = field(default_factory=dict)
    """Those of them whose next attempt has to wait."""
    lowest: int = 0
    """The sequence of the oldest end whose revert has begun; 0: none has. Newer ones are done or open."""
    published: dict[str, Value] = field(default_factory=dict)
    """What the reverts publish at the entry."""

    @property
    def to(self) -> int:
        """The sequence of the entry."""
        return self.aim.sequence


@dataclass(slots=True)
class Writes:
    """The writes of one variable of the whole execution, in order: who wrote which value. 0: the start or an edit;
    None: it was removed."""

    made: list[tuple[int, Value | None]] = field(default_factory=list)
    dropped: int = 0
    """How many older ones are discarded. The first one that is left stands for them."""

    def __len__(self) -> int:
        return self.dropped + len(self.made)

    def first(self, count: int) -> list[tuple[int, Value | None]]:
        """Return the oldest ones: of `count` those that are left."""
        return self.made[: max(0, count - self.dropped)]

    def drop(self, count: int) -> None:
        """Discard the oldest ones of those that are left."""
        del self.made[:count]
        self.dropped += count


@dataclass(slots=True)
class Kept:
    """An execution as it was at an entry: its small parts, and each record that has been altered since (decision 19).

    A record that was altered first after a later entry is kept there. So an execution goes back by putting back what
    each entry has kept, from the newest one to the target.
    """

    at_s: float
    """When the execution was there last: its timers count from then."""
    task_count: int
    route_count: int
    globals: immutables.Map[str, Value]
    input: Value
    environment: Value
    edit_count: int
    generation: int
    errors: list[ErrorNoted]
    error_count: int
    """Errors are only added to the list, or it is replaced."""
    tasks: dict[int, TaskExecution] = field(default_factory=dict)
    attempts: dict[AttemptKey, Attempt | None] = field(default_factory=dict)
    """None: it was not there."""
    writes: dict[str, tuple[Writes, int]] = field(default_factory=dict)
    """The writes of each variable, and how many they were; like the errors, they are only added to or replaced."""
    by_route: dict[tuple[str, int], int | None] = field(default_factory=dict)
    branch_ends: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass(slots=True)
class Start:
    """The entry `start`: nothing is kept for it, as it is made again from this and the first tasks (decision 19)."""

    sequence: int
    task_count: int
    globals: immutables.Map[str, Value]
    input: Value
    environment: Value
    retries: int = 0


class TaskExecution(msgspec.Struct):
    """One running of a task of the graph."""

    number: int
    name: str
    state: TaskState
    tags: tuple[str, ...] = ()
    """The author's tags."""
    arrivals: Arrivals = msgspec.field(default_factory=Arrivals)
    timing: Timing = msgspec.field(default_factory=Timing)
    progress: Progress = msgspec.field(default_factory=Progress)
    generation: int = 0
    edition: int = 0
    """How often an operation has reopened it."""
    former: Mapping[int, Publication] = NOTHING
    """What it had published in earlier editions, by edition: tasks that have seen it keep seeing it."""
    superseded_by: str = ""
    """The operation that superseded it; empty: it counts."""
    route: int = 0
    added_at: int = 0
    """The revision that added it."""
    info: str = ""
    publication: Publication = msgspec.field(default_factory=Publication)
    """What it published in its present edition."""
    routed: bool = False
    next: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    """The branches that ended in an engine command, or at a join that they reached too late; -1: the clauses."""
    handled: bool = False
    created_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    led_to: tuple[str, ...] = ()
    """The names of those that it led to and that are discarded, in order: no hash decides what is stored."""
    after: tuple[int, ...] = ()
    """The nearest task executions before it that are not discarded, on the ways that lead through discarded ones."""
    ended_at: int = 0
    """The revision at which it last ended; 0: it has not."""
    entry: int = 0
    """The sequence of the entry that it has reached, so that it does not reach it again when it goes on from there."""
    last_round: int = 0
    """The newest round that it ever had: going back to an entry puts back `progress`, and no number."""
    last_attempt: int = 0
    """The highest number of its attempts, reverts included."""
    last_item: int = 0
    """The highest index of an item that it ever ran."""
    altered: int = 0
    """The revision of the last change to it since the execution has reached a checkpoint."""
    is_consolidated: bool = False
    """Only its state and its result are kept: it cannot run again, nor be reverted (decision 24)."""
    base: Context | Layers | None = None
    """What it sees, in place of its sources, which are discarded."""
    context_in: Context | Layers | None = None
    """What it sees, computed when first needed (see contexts/context.py). Not stored."""
    context_out: Context | Layers | None = None
    """What it passes on. Not stored."""
    branch_contexts: dict[int, Layers] = NOTHING
    """What it passes on by each branch. Not stored."""

    @property
    def is_completed(self) -> bool:
        return self.state in COMPLETED_TASK

    @property
    def next_attempt(self) -> int:
        """Return the number that its next round gets."""
        return self.last_attempt + 1

    @property
    def published(self) -> dict[str, Value]:
        """All that it published, by any branch."""
        return self.publication.values


def error_key(error: ErrorNoted) -> tuple[object, ...]:
    """Return the key by which two errors are the same."""
    result = "" if error.result is None else error.result.text
    return error.name, error.message, result, error.route, error.transition


ERROR_BYTES = 200
"""The most bytes that an error takes in the list beside its texts."""


def error_bytes(error: ErrorNoted) -> int:
    """Return the most bytes that the error takes in the list."""
    size = ERROR_BYTES + byte_length(Value(data=error.message).text) + byte_length(error.name + error.transition)
    return size if error.result is None else size + byte_length(error.result.text)
