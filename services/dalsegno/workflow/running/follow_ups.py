"""What a decision has follow within the same step, one class for each kind.

The functions of the machine put these on the list of the step, and the machine does them in order (machine.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from dalsegno.workflow.changes import RepeatedBy, Timer
from dalsegno.workflow.events import ChildMoved
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import Command
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.states import TaskState
from dalsegno.workflow.value import Value

# Nobody alters one. They are not frozen, because a frozen dataclass takes three times as long to make, and each task
# needs about five.


@dataclass(slots=True)
class Begin:
    """Start the task, unless something holds it back."""

    task: TaskExecution


@dataclass(slots=True)
class BeginAgain:
    """Start a task that an operation has run again."""

    task: TaskExecution


@dataclass(slots=True)
class Launch:
    """Begin the next round of attempts."""

    task: TaskExecution
    retries: int
    """How many retries have been used with this round."""


@dataclass(slots=True)
class Fill:
    """Create the attempts of the items that may begin now."""

    task: TaskExecution


@dataclass(slots=True)
class AttemptEnded:
    """An attempt that counts has ended: so may the task have."""

    task: TaskExecution
    key: AttemptKey


@dataclass(slots=True)
class SettleItems:
    """Look at what the items came to: the task goes on or ends."""

    task: TaskExecution


@dataclass(slots=True)
class Due:
    """The time that the task waited for has come."""

    task: TaskExecution
    timer: Timer


@dataclass(slots=True)
class End:
    """The attempts have ended: publish, apply the policies, then settle or go on."""

    task: TaskExecution
    verdict: TaskState
    info: str


@dataclass(slots=True)
class Settle:
    """The task ends so, regardless of its policies."""

    task: TaskExecution
    verdict: TaskState
    info: str


@dataclass(slots=True)
class Skip:
    """Go on after the task as if it had succeeded with this output."""

    task: TaskExecution
    output: Value
    comment: str


@dataclass(slots=True)
class Route:
    """Evaluate the transitions of a task that has ended."""

    task: TaskExecution


@dataclass(slots=True)
class RunCommand:
    """Carry out an engine command that the task leads to: pause, succeed or fail."""

    task: TaskExecution
    command: Command
    message: str


@dataclass(slots=True)
class CheckJoin:
    """Start the join when enough tasks have selected it, or fail it when that is impossible."""

    task: TaskExecution


@dataclass(slots=True)
class FailJoin:
    """End a join that has not begun in ERROR."""

    task: TaskExecution
    reason: str


@dataclass(slots=True)
class ChildAgain:
    """Wait again for a child that had ended and was resumed or rerun."""

    task: TaskExecution
    key: AttemptKey
    revision: int
    """The revision of the child that reported it."""
    by: RepeatedBy


@dataclass(slots=True)
class ChildReported:
    """Take the report of a child that came earlier than the one by which its parent waits for it again."""

    task: TaskExecution
    event: ChildMoved


@dataclass(slots=True)
class RevertEnded:
    """A revert action of the task has ended."""

    task: TaskExecution
    key: AttemptKey


@dataclass(slots=True)
class ChildReverted:
    """A sub-workflow of the task has been reverted, or could not be."""

    task: TaskExecution
    key: AttemptKey
    end: int
    """The sequence of the end that a revert undoes; 0: a fresh sub-workflow is to try again."""
    event: ChildMoved


@dataclass(slots=True)
class GoOn:
    """Run again what was paused by what the action of this task had reported."""

    task: TaskExecution


@dataclass(slots=True)
class WindDown:
    """Cancel the execution, because the action of this task reported that it was cancelled."""

    task: TaskExecution
    reason: str


FollowUp = (
    Begin
    | BeginAgain
    | Launch
    | Fill
    | AttemptEnded
    | SettleItems
    | Due
    | End
    | Settle
    | Skip
    | Route
    | RunCommand
    | CheckJoin
    | FailJoin
    | ChildAgain
    | ChildReported
    | RevertEnded
    | ChildReverted
    | GoOn
    | WindDown
)
