"""One step in progress: what the functions of the machine read from and write to.

A function that decides something does not call the functions that continue from there. It puts a follow-up (see
follow_ups.py) on the list of the step, and the machine does the follow-ups in order. So neither a long chain of tasks
that end at once nor a wide fan-out makes the stack deeper, and imports have no cycles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from dalsegno.workflow.changes import AnyChange, Arrival, ErrorNoted, ExecutionMoved, RepeatedBy, StopsSet, TaskAdded
from dalsegno.workflow.commands import AnyCommand, Send
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.events import ChildMoved, Event, GoToRequested, PauseRequested, ResumeRequested, Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Keep, Task, Workflow
from dalsegno.workflow.outside import Given, PausedBelow, Surroundings
from dalsegno.workflow.records import TaskExecution, error_bytes, error_key
from dalsegno.workflow.running import notices
from dalsegno.workflow.running.follow_ups import FollowUp
from dalsegno.workflow.scope import EVENT_STEPS, Scope, Template
from dalsegno.workflow.secrets import Cipher, hide, is_secret, show
from dalsegno.workflow.states import COMPLETED_EXECUTION, ExecutionState, TaskState
from dalsegno.workflow.value import VALUE_BYTES_MAX, Value


class HardFailure(Exception):
    """A failure in processing a task that no handler of the task may catch: task and execution become ERROR.

    mistral/README.md#errors, grade 2: a bad expression in an input, a publish or a condition, an unknown action, ...
    """


ERRORS_MAX = 1000
"""The most errors in the list of an execution, as long as the list fits into a value. Further errors are kept with
their tasks only."""


def errors_of(execution: Execution) -> Value | None:
    """Return the list of errors as workflows and readers see it; None when it is empty."""
    if not execution.errors:
        return None
    return Value(
        data=[
            {"type": "error", "message": error.message}
            | ({"task_id": error.name} if error.name else {})
            | ({"route": error.route} if error.route is not None else {})
            | ({"task_transition_id": error.transition} if error.transition else {})
            | ({"result": error.result.data} if error.result is not None else {})
            for error in execution.errors
        ]
    )


_STANDING = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED, ExecutionState.REVERTED})
"""In these states an execution may stand at an entry of a checkpoint."""

TOLD_TO_PARENT = COMPLETED_EXECUTION | {ExecutionState.PAUSED, ExecutionState.RUNNING}


def _is_parents(event: Event) -> bool:
    """Return whether the parent has ordered it."""
    return isinstance(event, GoToRequested) and event.cascaded


def _operation(event: Event) -> RepeatedBy:
    """Return the operation that runs an execution again. A child reports to its parent the operation that it was
    given."""
    if isinstance(event, ChildMoved):
        return event.by
    return RepeatedBy.RESUME if isinstance(event, ResumeRequested) else RepeatedBy.RERUN


class Step:
    """The event, what the step may look at, and the changes and commands so far."""

    # Attributes that few steps change are class attributes, because a step is made for each event.
    verdict = Verdict.ACCEPTED
    subsumed: tuple[str, ...] = ()
    """The tasks of a request that follow another task of the request (O28)."""
    left_paused: tuple[PausedBelow, ...] = ()
    """The descendants that a resume leaves PAUSED, because tasks of theirs have failed (decision 15)."""
    last: TaskExecution | None = None
    """The last task that has taken its branches."""
    keeps: tuple[str, Keep] | None = None
    """The checkpoint that this step has reached last and that keeps only so much, by name."""
    discarded: Discarded | None = None
    """What this step leaves of the past."""
    is_forced = False
    """Whether this step ends the execution by force."""
    begun_items = 0
    """How many items this step has begun."""
    items_left = 0
    """How many items follow the one that is being begun."""
    is_slice_full = False
    """Whether the item that is being begun is the last one that fits into its slice."""
    has_moved = False
    """Whether an expression was too expensive for the engine, so that its value is evaluated elsewhere."""
    has_met_secret = False
    """Whether this step has met a secret that the execution does not hold yet."""
    _seeds = 0

    def __init__(
        self,
        workflow: Workflow,
        execution: Execution,
        event: Event,
        surroundings: Surroundings,
        given: Given | None = None,
    ) -> None:
        self.workflow = workflow
        self.execution = execution
        self.event = event
        self.surroundings = surroundings
        self.at_s = max(event.at_s, execution.latest_s)
        self.given = given or Given(self.at_s, (execution.id, execution.revision))
        self.changes: list[AnyChange | Consolidated] = []
        self.commands: list[AnyCommand] = []
        self.todo: deque[FollowUp] = deque()
        self.prepared: dict[tuple[int, int], tuple[str, bool, dict[str, object]]] = {}
        """What tasks and their items are about to run, evaluated in advance: the action or workflow, and its input."""
        self.checked: set[int] = set()
        """The tasks about to begin that were checked together."""
        self._receivers = notices.subscriptions(execution.created.params) if execution.is_watched else ()
        self.steps_left = 0 if self.given.careful else EVENT_STEPS
        """How many steps of evaluation the event has left. A careful step has none: everything is evaluated
        elsewhere."""

    @property
    def cipher(self) -> Cipher:
        """Return what encrypts and decrypts the secrets of the execution."""
        return self.surroundings.cipher(self.execution.created.namespace)

    @property
    def meets_secrets(self) -> bool:
        """Whether expressions may meet a secret from here on."""
        return self.has_met_secret or self.execution.holds_secrets

    def kept(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Return the values as they are kept under these names: as secrets, or in clear, where the workflow says so.
        Raise UnfitValue."""
        workflow = self.workflow
        if not (workflow.secrets or workflow.reveal):
            return values
        return {name: self.kept_as(name, value) for name, value in values.items()}

    def kept_as(self, name: str, value: object) -> object:
        """Return the value as it is kept under this name. Raise UnfitValue."""
        if name in self.workflow.secrets:
            self.has_met_secret = True
            return hide(value, self.cipher)
        return show(value, self.cipher) if name in self.workflow.reveal else value

    def decide(self, template: Template, scope: Scope) -> bool:
        """Return whether a condition holds, also one that reads secrets: what the execution does then shows no more of
        them. Raise EvaluationError."""
        value = template.evaluate(scope)
        return bool(show(value, self.cipher) if is_secret(value) else value)

    @property
    def is_spent(self) -> bool:
        """Whether the event has used all its steps of evaluation, so that a slice of items ends here.

        False when values come from elsewhere: they are requested together, and the rest would request them again.
        """
        return self.steps_left <= 0 and not (self.has_moved or self.given.careful)

    @property
    def ends_slice(self) -> bool:
        """Whether the item that is being begun is the last of its slice, so that a SliceDue begins the items after
        it."""
        return self.items_left > 0 and (self.is_slice_full or self.is_spent)

    def change(self, change: AnyChange) -> None:
        """Decide a change: apply it at once, so that all later decisions see it."""
        event = notices.event_of(self.execution, change) if self._receivers else ""
        self.execution.apply(change)
        self.changes.append(change)
        if event:
            self.commands.extend(notices.notices(self._receivers, self.execution, change, event, self.at_s))

    def add_task(
        self,
        name: str,
        state: TaskState,
        sources: tuple[int, ...] = (),
        *,
        generation: int = 0,
        branch: int = -1,
        route: int = 0,
        opens: str = "",
    ) -> TaskExecution:
        """Add a task execution, numbered in order of creation."""
        spec = self.workflow.tasks[name]
        number = self.execution.task_count + 1
        added = TaskAdded(
            task=number,
            name=name,
            state=state,
            sources=sources,
            generation=generation,
            branch=branch,
            route=route,
            opens=opens,
            awaits=spec.inbound if state is TaskState.WAITING else (),
            tags=spec.tags,
            at_s=self.at_s,
        )
        self.change(added)
        return self.execution.tasks[number]

    def command(self, command: AnyCommand) -> None:
        """Have something done after the changes are stored."""
        self.commands.append(command)

    def later(self, follow_up: FollowUp) -> None:
        """Add a follow-up to the end of the list of the step."""
        self.todo.append(follow_up)

    def spec(self, task: TaskExecution) -> Task:
        """Return the task of the graph that this is a running of."""
        return self.workflow.tasks[task.name]

    def next_seed(self) -> str:
        """Return a text that no other evaluation of any execution gets; the same text when the event is stepped
        again."""
        self._seeds += 1
        return f"{self.given.seed}:{self._seeds}"

    def note(
        self,
        message: str,
        task: TaskExecution | None,
        name: str = "",
        *,
        result: Value | None = None,
        tells_route: bool = False,
        transition: str = "",
        is_output: bool = False,
    ) -> None:
        """Add an error to the list of the execution, if its rules keep a list and the error is not in it yet."""
        if not self.workflow.rules.failures.notes_errors or len(self.execution.errors) >= ERRORS_MAX:
            return
        number, name = (0, name) if task is None else (task.number, name or task.name)
        route = task.route if task is not None and (tells_route or transition) else None
        error = ErrorNoted(
            message=message,
            task=number,
            name=name,
            result=result,
            route=route,
            transition=transition,
            is_output=is_output,
            at_s=self.at_s,
        )
        if error_key(error) in self.execution.error_keys:
            return
        left = VALUE_BYTES_MAX - self.execution.error_bytes
        if error_bytes(error) > left:
            error = msgspec.structs.replace(error, result=None)
        if error_bytes(error) <= left:
            self.change(error)

    def move_execution(
        self,
        state: ExecutionState,
        info: str = "",
        output: Value | None = None,
        *,
        reported: bool = False,
        waits_for_delegates: bool = False,
        paused_at: int = 0,
        goes_on_s: float | None = None,
    ) -> None:
        """Move the execution to a state, and report that to its parent where the parent needs it."""
        execution = self.execution
        errors = errors_of(execution) if state in COMPLETED_EXECUTION else None
        again = execution.is_completed and state not in COMPLETED_EXECUTION
        not_reached = "" if again else execution.not_reached
        if state in COMPLETED_EXECUTION and not execution.is_completed and not execution.paused_at:
            not_reached = ", ".join(execution.stop_at)
        moved = ExecutionMoved(
            state=state,
            info=info,
            output=output,
            errors=errors,
            reported=reported,
            waits_for_delegates=waits_for_delegates,
            paused_at=execution.paused_at or paused_at if state in _STANDING else 0,
            not_reached=not_reached,
            goes_on_s=goes_on_s,
            parent_revision=self.event.parent_revision,
            at_s=self.at_s,
        )
        self.change(moved)
        parent = execution.created.parent
        shown = state
        if state is ExecutionState.REVERTING and again and not _is_parents(self.event):
            shown = ExecutionState.RUNNING  # it had ended, and goes back by itself: its parent waits for it again
        if parent is not None and shown in TOLD_TO_PARENT:
            report = ChildMoved(
                at_s=self.at_s,
                actor=self.event.actor if again else "",  # who has the parent run again
                comment=self.event.comment if again else "",
                key=parent.key,
                child_id=execution.id,
                state=shown,
                state_info=info,
                revision=execution.revision,
                again=again,
                by=_operation(self.event),
                output=output if state in COMPLETED_EXECUTION else None,
                reported=reported,
                errors=errors if state is ExecutionState.ERROR else None,
                again_at=execution.again_at,
                order=execution.parent_revision,
            )
            self.command(Send(parent.execution_id, report))

    def note_order(self) -> None:
        """Note an order of the parent that has changed nothing, so that an older one that it has overtaken is not
        obeyed."""
        execution = self.execution
        self.change(
            ExecutionMoved(
                state=execution.state,
                info=execution.info,
                reported=execution.is_paused_by_report,
                waits_for_delegates=execution.waits_for_delegates,
                paused_at=execution.paused_at,
                not_reached=execution.not_reached,
                goes_on_s=execution.goes_on_s,
                parent_revision=self.event.parent_revision,
                at_s=execution.moved_s,
            )
        )

    def tell_child(self, child_id: str, event: Event) -> None:
        """Send the event to one child, with the revision of this execution: the child sees when a later order has
        overtaken it."""
        self.command(Send(child_id, msgspec.structs.replace(event, parent_revision=self.execution.revision)))

    def tell_children(self, event: Event, chosen: Callable[[str], bool] = lambda state: True) -> None:
        """Send the event to each child that has not ended and whose state, as this parent knows it, is chosen."""
        for key in self.execution.children:
            attempt = self.execution.attempts[key]
            if chosen(attempt.state):
                self.tell_child(attempt.child_id, event)

    def pause(
        self, info: str = "", *, reported: bool = False, waits_for_delegates: bool = False, paused_at: int = 0
    ) -> None:
        """Pause with all descendants (O6): PAUSING, and PAUSED once no action runs any more (O2, O3). `paused_at`: the
        sequence of the entry at which it stops."""
        is_quiet = self.execution.state is ExecutionState.PAUSED
        state = ExecutionState.PAUSED if is_quiet else ExecutionState.PAUSING
        waits = waits_for_delegates and not is_quiet
        self.move_execution(state, info, reported=reported, waits_for_delegates=waits, paused_at=paused_at)
        if reported:
            return
        self.tell_children(
            PauseRequested(
                at_s=self.at_s,
                actor=self.event.actor,
                comment=self.event.comment,
                waits_for_delegates=waits_for_delegates,
            )
        )

    def set_stops(self, names: tuple[str, ...] = (), arrival: Arrival | None = None) -> None:
        """Have the execution stop at these checkpoints, and at no others; `arrival`: what a go-to wants there."""
        if (names, arrival) != (self.execution.stop_at, self.execution.arrival):
            self.change(StopsSet(names=names, arrival=arrival, at_s=self.at_s))

    def tasks_in(self, *states: TaskState) -> list[TaskExecution]:
        """Return the incomplete tasks in one of these states, in order of creation."""
        tasks = self.execution.tasks
        return [tasks[number] for number in sorted(self.execution.incomplete) if tasks[number].state in states]
