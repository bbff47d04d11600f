"""What happened: everything that the machine is told. An event that waits in the store is called a message."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from dalsegno.workflow.changes import (
    ContextEdited,
    EnvironmentChanged,
    ExecutionCreated,
    RepeatedBy,
    Signature,
    Timer,
)
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import Value


class TaskOutcome(StrEnum):
    """What is reported of an attempt. The last three do not end it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELEGATED = "delegated"
    PAUSED = "paused"
    RUNNING = "running"


class Choice(StrEnum):
    """What is to be done with a task of a resume or rerun."""

    RUN = "run"
    """Run it again."""
    SKIP = "skip"
    """Go on after it with a given output."""
    LEAVE = "leave"
    """Leave it as it is."""


class ChildChoice(StrEnum):
    """What is to be done with the sub-workflow of a task that runs again."""

    FRESH = ""
    """A new child takes its place."""
    RERUN_FAILED = "rerun_failed"
    """The failed tasks inside the existing child run again."""


class ForcedEnd(StrEnum):
    """The state in which a cancel ends an execution at once, by force."""

    NONE = ""
    """It does not: running actions come to their end."""
    CANCELLED = "CANCELLED"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"


class Verdict(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """It was stepped before: nothing changes."""
    SUPERSEDED = "superseded"
    """It came too late: nothing changes."""
    REFUSED = "refused"
    """A refusal was raised: nothing changes. (Executors get this verdict; other callers get the refusal itself.)"""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """An event: when it happened (seconds since 1970), who caused it, and why."""

    at_s: float = 0.0
    actor: str = ""
    comment: str = ""
    parent_revision: int = 0
    """With an order of the parent: the revision of the parent when it gave it. Orders may overtake each other."""


class ContextUpdated(Event, frozen=True, kw_only=True):
    """An operator edits what later tasks will see (decision 14)."""

    task: str = ""
    """The ended task whose published values are edited; empty: those of the whole execution."""
    number: int = 0
    """Which of its task executions; 0: the newest."""
    values: Mapping[str, Value] = {}
    """The new values."""
    removed: tuple[str, ...] = ()
    """The variables to remove."""


class ForkRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state with which a fork begins, and what it edits first (decision 21)."""

    consolidated: Consolidated
    edits: tuple[ContextEdited | EnvironmentChanged, ...] = ()
    """What was edited in the other execution while it stood at the entry."""
    input: tuple[str, ...] = ()
    """The inputs that the request sets."""
    environment: Value | None = None
    """What is merged over the environment."""
    edit: ContextUpdated | None = None
    stay: bool = False
    """It stands at the entry until it is resumed."""


class StartRequested(Event, frozen=True, kw_only=True):
    """An execution begins. `creation` is absent when the step of its parent has created it already."""

    creation: ExecutionCreated | None = None
    fork: ForkRequest | None = None
    """It begins with the state of an entry of another execution."""


class TaskDone(Event, frozen=True, kw_only=True):
    """An executor, or a third party that completes a delegate, reports on an attempt (P5).

    `delivery` is the delivery that is answered; None when the attempt is completed by its id or token.
    """

    key: AttemptKey
    outcome: TaskOutcome
    delivery: int | None = None
    result: Value | None = None
    error: str = ""
    alias: str = ""
    """With delegated: another name by which it may be completed."""
    completion_timeout_s: float | None = None
    """With delegated: it fails unless it is completed within this time; None: it waits for ever."""
    heartbeat_timeout_s: float | None = None
    """With delegated: it fails when the third party is not heard for this time; None: it need not be heard."""
    signature: Signature = Signature.NONE
    """With delegated: how the third party signs its callbacks."""


class HeartbeatDue(Event, frozen=True, kw_only=True):
    """The time has come when the third party of a delegate must have been heard again."""

    key: AttemptKey
    delivery: int
    since_s: float
    """When it had been heard last, or when it was asked, as was known when this was sent."""


class TimerFired(Event, frozen=True, kw_only=True):
    """The time has come that a task (task 0: the execution) waited for."""

    task: int
    timer: Timer
    due_s: float


class SliceDue(Event, frozen=True, kw_only=True):
    """The next slice of a wide fan-out may be created."""

    task: int
    attempt: int
    begun: int | None = None
    """How many items of the round had begun when it was sent; it counts only while that is so. None: it always counts,
    unless another one is to come."""


class PauseRequested(Event, frozen=True, kw_only=True):
    """An operator or the parent pauses the execution (O1-O6)."""

    waits_for_delegates: bool = False
    """Whether PAUSING lasts until the outstanding delegates have been completed (decision 6)."""


class TaskChoice(msgspec.Struct, frozen=True, kw_only=True, rename={"choice": "way"}):
    """What is to be done with one task of a resume or rerun (decision 1)."""

    task: str
    """The task's name."""
    number: int = 0
    """Which of its task executions; 0: the newest (a resume), all of the newest ones, one per route (a rerun)."""
    choice: Choice = Choice.RUN
    input: Value | None = None
    """The new input of the task, for all its items; None: as before (a rerun that resets evaluates it again)."""
    items: Mapping[int, Value | None] = {}
    """Only these items, by index, each with its new input or None: as it was. Empty: the whole task."""
    reset: bool | None = None
    """With items: True evaluates the list again and runs all of it; False runs the failed items and keeps the list and
    what succeeded. None: True for a rerun of a whole task; without effect for named items."""
    output: Value | None = None
    """With skip: the output in place of a result."""
    child: ChildChoice = ChildChoice.FRESH
    """What to do with the child of a task that runs a sub-workflow."""


class ResumeRequested(Event, frozen=True, kw_only=True):
    """An operator or the parent resumes the execution (R1, R2, O5, O7), perhaps with choices for failed tasks
    (R6-R27)."""

    cascaded: bool = False
    """Whether a parent passed it down: then a child that is not paused stays as it is."""
    choices: tuple[TaskChoice, ...] = ()
    environment: Value | None = None
    """Variables that are merged over the execution's environment from now on; None: none."""
    stop_at: tuple[str, ...] = ()
    """The checkpoints at which it is to stop."""


class RerunRequested(Event, frozen=True, kw_only=True):
    """An operator has a completed execution repeat tasks (O18-O36). A repetition from the beginning is a start."""

    choices: tuple[TaskChoice, ...] = ()
    """The tasks to repeat; none: all that failed."""
    environment: Value | None = None
    cascaded: bool = False
    """Whether the parent passed it down: then a child that has nothing to repeat reports its state to the parent."""
    stop_at: tuple[str, ...] = ()
    """The checkpoints at which it is to stop."""


class GoToRequested(Event, frozen=True, kw_only=True):
    """A user or a program orders the execution to an entry of a checkpoint (C14, decision 20)."""

    name: str = ""
    """The checkpoint: its newest entry that stands; else the next time that it is reached."""
    sequence: int = 0
    """The sequence of the entry, in place of a name."""
    next: bool = False
    """With a name: the next time that it is reached, even if an entry of it stands."""
    resumes: bool = False
    """On arrival it goes on; else it stops there."""
    waits_for_delegates: bool = False
    """Whether the outstanding delegates are waited for."""
    edit: ContextUpdated | None = None
    """An edit that is made on arrival."""
    cascaded: bool = False
    """Whether the parent reverts it: then it ends as REVERTED."""


class DiscardRequested(Event, frozen=True, kw_only=True):
    """An operator orders that what came before an entry is discarded (C8, decision 24)."""

    name: str = ""
    """The checkpoint: its newest entry that stands."""
    sequence: int = 0
    """The sequence of the entry, in place of a name."""


class CancelRequested(Event, frozen=True, kw_only=True):
    """An operator or the parent cancels the execution (O13-O15), or ends it by force (decision 7)."""

    waits_for_delegates: bool = False
    """Whether CANCELLING lasts until the outstanding delegates have been completed; else they are cancelled."""
    terminate: ForcedEnd = ForcedEnd.NONE
    message: str = ""
    """With terminate: the reason that the execution shows; empty: the comment."""
    output: Value | None = None
    """With terminate: the output."""


class ChildMoved(Event, frozen=True, kw_only=True):
    """A child reports its state to its parent: RUNNING, PAUSED, or its end with the output."""

    key: AttemptKey
    child_id: str
    state: ExecutionState
    state_info: str = ""
    revision: int = 0
    """The child's revision at that state."""
    again: bool = False
    """Whether it had ended before, and was resumed or rerun."""
    by: RepeatedBy = RepeatedBy.RERUN
    """With `again`: by which operation."""
    output: Value | None = None
    reported: bool = False
    """With PAUSED: whether reports of its own actions caused it."""
    errors: Value | None = None
    """With ERROR: its list of errors, where it keeps one."""
    is_delayed: bool = False
    """With REVERTED: the delay before a fresh child is over."""
    again_at: int = 0
    """The child's revision when it last left an end by itself: the report of that may come later than this one."""
    order: int = 0
    """The parent's revision when it gave the newest of its orders that the child has obeyed."""


class HandedOut(Event, frozen=True, kw_only=True):
    """The dispatcher gives an attempt to a session of an executor, in the same transaction that sends it."""

    key: AttemptKey
    session_id: str
    executor_id: str
    engine: int = 0
    """The number of the engine that hands it out."""


class DeliveryLost(Event, frozen=True, kw_only=True):
    """The session that held a delivery has ended without an answer."""

    key: AttemptKey
    delivery: int
    executor_id: str
    received: bool = True
    """False when the executor says that it never got the delivery: then it is safe to run the action again."""


class Poisoned(Event, frozen=True, kw_only=True):
    """An event of this execution could not be stepped or stored; the execution ends with the reason."""

    reason: str


class NoticeDue(Event, frozen=True, kw_only=True):
    """A notice is to be posted to a web address. Never stepped: a message to the engine, kept with its execution."""

    id: str
    url: str
    headers: Mapping[str, str]
    payload: Value
    failures: int = 0
    """How many attempts to post it have failed."""


class RemovalDue(Event, frozen=True, kw_only=True):
    """The next slice of what the execution has discarded is to be removed. Never stepped: a message to the engine, kept
    with its execution."""


AnyEvent = (
    StartRequested
    | TaskDone
    | HeartbeatDue
    | TimerFired
    | SliceDue
    | PauseRequested
    | ResumeRequested
    | RerunRequested
    | ContextUpdated
    | GoToRequested
    | DiscardRequested
    | CancelRequested
    | ChildMoved
    | HandedOut
    | DeliveryLost
    | Poisoned
    | NoticeDue
    | RemovalDue
)
