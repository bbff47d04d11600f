"""What was decided: the only things that alter an execution. They are numbered, stored in the journal and streamed.

Fields are only added, with defaults, so that every journal stays readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import EMPTY, Value


class Timer(StrEnum):
    """What a task waits for, or has waited for before a pause made it IDLE."""

    NONE = ""
    WAIT_BEFORE = "wait_before"
    WAIT_AFTER = "wait_after"
    RETRY = "retry"
    PAUSE_BEFORE = "pause_before"
    """While IDLE: its pause-before policy has paused the execution."""
    ITEMS_LEFT = "items"
    """While IDLE: the execution ended before all its items had begun."""
    TIMEOUT = "timeout"
    """Of an event: the time of the present attempt is up."""
    DEADLINE = "deadline"
    """Of an event: the time of the whole execution is up."""
    REVERT = "revert"
    """Of an event: the time has come for the next attempt of a revert of the task, or the time of one is up."""
    GO_ON = "go_on"
    """Of an event: the execution goes on after the delay of a strategy."""


class RepeatedBy(StrEnum):
    """The operation that reopens tasks which had ended."""

    RESUME = "workflow-resume"
    RERUN = "workflow-rerun"


class Change(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """One decision."""


class Link(msgspec.Struct, frozen=True):
    """The place of a child: the attempt of its parent that it is."""

    execution_id: str
    key: AttemptKey


class Fork(msgspec.Struct, frozen=True):
    """Where an execution was forked from another: the entry of a checkpoint."""

    execution_id: str
    sequence: int
    checkpoint: str


class ExecutionCreated(Change, frozen=True, kw_only=True):
    """An execution exists, IDLE."""

    execution_id: str
    definition_id: str
    workflow: str
    namespace: str = ""
    version: int = 0
    language: str = "mistral"
    input: Value = EMPTY
    params: Value = EMPTY
    """What the start has beside the input: `task_name`, `env`, `notify` ..."""
    environment: Value = EMPTY
    """The value of `env()`: read when the root execution was created, kept with each of its descendants."""
    labels: Mapping[str, str] = {}
    description: str = ""
    root_id: str = ""
    """Empty for a root execution."""
    parent: Link | None = None
    depth: int = 0
    """How many executions are above it."""
    deadline_s: float | None = None
    at_s: float = 0.0
    actor: str = ""
    comment: str = ""
    safe_rerun: bool | None = None
    stop_at: tuple[str, ...] = ()
    """The checkpoints at which it is to stop (C4)."""
    sequence: int = 1
    """The sequence of this change. A fork goes on from the numbers of the execution that it came from."""
    forked_from: Fork | None = None


class ExecutionMoved(Change, frozen=True, kw_only=True):
    """The execution is in another state."""

    state: ExecutionState
    info: str = ""
    output: Value | None = None
    errors: Value | None = None
    """Once it has ended: the list of errors, where its rules keep one."""
    reported: bool = False
    """With PAUSING and PAUSED: whether reports of its own actions caused it; their next reports may undo it."""
    waits_for_delegates: bool = False
    """With PAUSING and CANCELLING: whether it waits for the outstanding delegates (decision 6)."""
    paused_at: int = 0
    """The sequence of the entry at which it stands; 0: it stands at none."""
    not_reached: str = ""
    """Once it has ended: the checkpoints at which it was to stop and did not."""
    goes_on_s: float | None = None
    """With PAUSED: when it goes on by itself."""
    parent_revision: int = 0
    """If the parent has ordered it: the revision of the parent then."""
    at_s: float = 0.0


class GlobalsPublished(Change, frozen=True, kw_only=True):
    """Variables of the whole execution have new values: vars at the start, global publishes later."""

    values: Mapping[str, Value]
    task: int = 0
    """The task that published; 0 at the start."""


class TaskAdded(Change, frozen=True, kw_only=True):
    """A task execution exists."""

    task: int
    name: str
    state: TaskState
    sources: tuple[int, ...] = ()
    """The tasks whose outbound contexts make the context of this one; none: it starts without published variables."""
    generation: int = 0
    branch: int = -1
    """The branch of the first source by which it was reached; -1: the source's clauses."""
    route: int = 0
    """The route that it is on: an index into the execution's routes."""
    opens: str = ""
    """The transition that opened this new route (`source__t0`); empty: the route was there."""
    awaits: tuple[str, ...] = ()
    """Of a join: the tasks that may lead to it."""
    tags: tuple[str, ...] = ()
    """The author's tags of the task."""
    at_s: float = 0.0


class TaskMoved(Change, frozen=True, kw_only=True):
    """A task execution moves to another state, or keeps its state with another reason or due time."""

    task: int
    state: TaskState
    info: str = ""
    timer: Timer = Timer.NONE
    """While RUNNING_DELAYED or IDLE: what it waits for."""
    due_s: float | None = None
    """While RUNNING_DELAYED: when it goes on."""
    verdict: TaskState | None = None
    """With WAIT_AFTER: how it will end."""
    generation: int = 0
    """Not 0: an operation reopens it, as one of this generation; what it had led to is taken back."""
    at_s: float = 0.0


class TaskSuperseded(Change, frozen=True, kw_only=True):
    """A task execution no longer counts, for joins, contexts, output, `task()` or the end (decision 3)."""

    task: int
    by: RepeatedBy
    at_s: float = 0.0


class TaskTimed(Change, frozen=True, kw_only=True):
    """The present attempt has time until `due_s`; None: any time, unlike the attempt before."""

    task: int
    due_s: float | None


class JoinReached(Change, frozen=True, kw_only=True):
    """A task selected a join: the context of the join includes what that task passes on."""

    task: int
    source: int
    branch: int = -1
    edition: int = 0
    """The edition of the source that arrives; journals that are older than this field have 0."""
    late: bool = False
    """The join has begun or failed: the arrival is recorded, and counts when an operation fills the join again."""


class TaskRouted(Change, frozen=True, kw_only=True):
    """The transitions of an ended task have been evaluated."""

    task: int
    next: tuple[int, ...] = ()
    """The task executions that it started or, for joins, contributed to."""
    handled: bool = False
    """Whether an on-error transition was taken for its failure."""
    ends: tuple[int, ...] = ()
    """The branches that end here, in an engine command or at a join that they reach too late: what they publish reaches
    the output. -1: the clauses."""


class RouteOpened(Change, frozen=True, kw_only=True):
    """A transition to an engine command has opened a route, as one to a task does; nothing runs on it."""

    task: int
    """The task that the transition leaves."""
    transition: str
    """`source__t0`."""


class RoundPlanned(Change, frozen=True, kw_only=True):
    """An operation has decided how the next round of attempts of the task will be."""

    task: int
    only: tuple[int, ...] | None = None
    """Only these items run again, all others keep their results; None: the whole task."""
    keeps_items: bool = False
    """The whole task runs again, over the present list."""
    repeats: bool = False
    """Each attempt repeats the attempt before it, with the same input (R7)."""
    given: Value | None = None
    """The input of every attempt (R8)."""
    inputs: Mapping[int, Value] = {}
    """The inputs of single items (R11, R12)."""
    reruns_failed: bool = False
    """With sub-workflows: the failed tasks inside the existing child run again; there is no fresh child."""
    environment: Value | None = None
    """With reruns_failed: what was merged over the environment; the existing child gets it as well."""
    comment: str = ""
    """The comment of each attempt of the round (R22)."""
    actor: str = ""


class AttemptsBegun(Change, frozen=True, kw_only=True):
    """The task begins its next round of attempts; with items, over this list."""

    task: int
    attempt: int
    items: Value | None = None
    """For a with-items task: the list of items, each a list with one value per name."""
    only: tuple[int, ...] | None = None
    """Only these items of the present list begin again; None: all."""
    concurrency: int | None = None
    retries: int = 0
    """How many retries have been used with this round."""
    stands_in: bool = False
    """It runs nothing: its only attempt holds the output that was given for a skipped task."""
    after_revert: bool = False
    """It follows sub-workflows that failed and were reverted to be tried again (decision 22)."""
    at_s: float = 0.0


class AttemptAdded(Change, frozen=True, kw_only=True):
    """An attempt exists: READY for an executor, or RUNNING as a child execution."""

    key: AttemptKey
    action: str
    """The name of the action that executors know, or of the sub-workflow."""
    input: Value
    state: AttemptState
    child_id: str = ""
    child_revision: int = 0
    """What the child has reported up to this revision of its own belongs to an earlier attempt."""
    safe: bool = False
    """Whether it may be handed out again when its executor is lost."""
    adhoc: str = ""
    """The ad-hoc action that led to `action`; its output template is applied to the result."""
    target: str = ""
    """The label of the executors that may run it; empty: any."""
    digest: str = ""
    """The digest of the description that the input was made by; empty: not known, and any executor may run it."""
    timeout_s: float | None = None
    """How long it may take: from now on, if a policy of its task says so; for a standalone action, from the first
    hand-out; None: any time."""
    comment: str = ""
    actor: str = ""
    stands_in: bool = False
    """It runs nothing: it holds the output that was given for a skipped task."""
    reverts: int = 0
    """The sequence of the end that it reverts; 0: it belongs to a round of the task."""
    more: bool = False
    """The last one of a slice: only a SliceDue begins the items after it."""
    at_s: float = 0.0


class Signature(StrEnum):
    """How a third party signs its callbacks about a delegate."""

    NONE = ""
    """It does not."""
    STANDARD_WEBHOOKS = "standard_webhooks"
    GITHUB = "github"


class AttemptMoved(Change, frozen=True, kw_only=True):
    """An attempt moves to another state, is handed out, or becomes a delegate."""

    key: AttemptKey
    state: AttemptState
    result: Value | None = None
    """The result, or what the failure came with."""
    error: str = ""
    delivery: int = 0
    """The current delivery; 0 leaves it as it was."""
    session_id: str = ""
    executor_id: str = ""
    engine: int = 0
    """With a delivery: the number of the engine that handed it out; it belongs to the stream of the session to it."""
    deadline_s: float | None = None
    """With a delivery: when the executor stops it; None: never. Without one: when it fails unless somebody completes
    it; None: unchanged."""
    delegated: bool = False
    child_revision: int = 0
    """The revision of the child that reported it; a second report of the same revision has no effect."""
    alias: str = ""
    """With delegated: another name by which a third party may complete it."""
    heartbeat_timeout_s: float | None = None
    """With delegated: it fails when the third party is not heard for this time; None: unchanged."""
    signature: Signature = Signature.NONE
    """With delegated: how the third party signs its callbacks; NONE: unchanged."""
    reported: bool = False
    """With PAUSED: the action itself, or its sub-workflow, reported it; nobody asked for it."""
    discarded: bool = False
    """It was ended by force: its result does not count."""
    at_s: float = 0.0


class Published(Change, frozen=True, kw_only=True):
    """A task publishes these variables to what follows it, in place of what it had published before."""

    task: int
    values: Mapping[str, Value]
    branch: int = -1
    """The branch that publishes; -1: the clauses, for all that follows."""


class ErrorNoted(Change, frozen=True, kw_only=True):
    """An error for the list of errors (FailureRules.notes_errors)."""

    message: str
    task: int = 0
    """The task execution it happened to; 0: none."""
    name: str = ""
    """The name of the task or engine command; empty: the workflow itself."""
    result: Value | None = None
    route: int | None = None
    """The route of the task, where the list shows it."""
    transition: str = ""
    """The transition of the task that could not be evaluated (`target__t0`)."""
    is_output: bool = False
    """A member of the output could not be evaluated: removed when the execution runs again and has a new output."""
    at_s: float = 0.0


class ContextEdited(Change, frozen=True, kw_only=True):
    """An operator has edited what tasks see: what a task published, or the variables of the whole execution."""

    task: int = 0
    """The task whose published values are edited; 0: globals, vars and input."""
    values: Mapping[str, Value] = {}
    removed: tuple[str, ...] = ()
    entry: int = 0
    """The sequence of the entry at which the execution stands: the edit belongs to it (decision 19); 0: none."""


class EnvironmentChanged(Change, frozen=True, kw_only=True):
    """The execution has this environment from now on."""

    environment: Value
    entry: int = 0
    """The sequence of the entry at which the execution stands: the environment belongs to it; 0: none."""


class ResultDropped(Change, frozen=True, kw_only=True):
    """The task's results are not kept (`keep-result: false`)."""

    task: int


class CheckpointReached(Change, frozen=True, kw_only=True):
    """The flow has reached a checkpoint. The sequence of this change identifies the entry (decision 16)."""

    name: str
    task: int
    """The task that the checkpoint belongs to."""
    data: Value | None = None
    route: int = 0
    at_s: float = 0.0


class Edit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An edit of the context, to be made at a checkpoint (decision 20)."""

    task: str = ""
    """The task whose published values are edited; empty: those of the whole execution."""
    number: int = 0
    """Which of its task executions; 0: the newest."""
    values: Mapping[str, Value] = {}
    removed: tuple[str, ...] = ()


class Arrival(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens when a go-to arrives at its checkpoint."""

    resumes: bool = False
    """The execution goes on; else it stops there."""
    waits_for_delegates: bool = False
    edit: Edit | None = None


class StopsSet(Change, frozen=True, kw_only=True):
    """The execution stops at these checkpoints from now on, and at no others."""

    names: tuple[str, ...] = ()
    arrival: Arrival | None = None
    """A go-to asked for it: what happens there; None: it stops."""
    at_s: float = 0.0


class AfterRevert(StrEnum):
    """What follows when an execution has been reverted."""

    PAUSE = "pause"
    """It stands at the entry."""
    GO_ON = "go_on"
    END = "end"
    """It ends there, as REVERTED."""


class RevertBegun(Change, frozen=True, kw_only=True):
    """The execution goes back to an entry (decision 19); or another entry becomes the target of the revert that is
    under way."""

    sequence: int
    """The entry."""
    then: AfterRevert = AfterRevert.PAUSE
    next: str = ""
    """With GO_ON: the checkpoint that it then goes on to."""
    arrival: Arrival | None = None
    """What happens on arrival: at `next`, else at the entry."""
    delay_s: float = 0.0
    """With GO_ON: how long it waits before."""
    failure: str = ""
    """The failure that set it off; empty: a user or a program ordered it."""
    waits_for_delegates: bool = False
    at_s: float = 0.0


class RevertState(StrEnum):
    """Where the revert of one end is."""

    CHILD = "child"
    """The sub-workflow of it is being reverted."""
    RUNNING = "running"
    DELAYED = "delayed"
    """Another attempt follows."""
    DONE = "done"
    FAILED = "failed"


class RevertMoved(Change, frozen=True, kw_only=True):
    """The revert of one end of a task is in another state. (An attempt that `reverts` it makes it RUNNING.)"""

    end: int
    """The sequence of the end."""
    state: RevertState
    info: str = ""
    due_s: float | None = None
    """With DELAYED: when the next attempt begins."""
    retries: int = 0
    published: Mapping[str, Value] = {}
    """With DONE: what the revert publishes at the entry."""
    child: AttemptKey | None = None
    """With CHILD: the attempt that created the sub-workflow, which has reported up to `child_revision`."""
    child_revision: int = 0
    at_s: float = 0.0


class Restored(Change, frozen=True, kw_only=True):
    """The state is as it was at the entry, but no number goes back (decision 19)."""

    sequence: int
    tasks: tuple[int, ...] = ()
    """The task executions whose records this alters."""
    attempts: tuple[AttemptKey, ...] = ()
    """The attempts whose records this alters."""
    at_s: float = 0.0


class SubflowReverted(Change, frozen=True, kw_only=True):
    """The failed sub-workflow of an attempt is reverted, so that a fresh one can try again (decision 22)."""

    key: AttemptKey
    failed: bool = False
    """It could not be reverted: the failure of the attempt takes its course."""
    done: bool = False
    """It has been reverted, and the fresh one begins after a delay."""
    at_s: float = 0.0


class HistoryDiscarded(Change, frozen=True, kw_only=True):
    """What came before an entry is discarded: the journal begins with a Consolidated that has its sequence (decision
    24)."""

    sequence: int
    at_s: float = 0.0


AnyChange = (
    ExecutionCreated
    | ExecutionMoved
    | GlobalsPublished
    | TaskAdded
    | TaskMoved
    | TaskSuperseded
    | TaskTimed
    | JoinReached
    | TaskRouted
    | RouteOpened
    | RoundPlanned
    | AttemptsBegun
    | AttemptAdded
    | AttemptMoved
    | Published
    | ErrorNoted
    | ContextEdited
    | EnvironmentChanged
    | ResultDropped
    | CheckpointReached
    | StopsSet
    | RevertBegun
    | RevertMoved
    | Restored
    | SubflowReverted
    | HistoryDiscarded
)
