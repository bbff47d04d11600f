"""What there is to undo: the ends behind an entry, newest first, and what is called for each (decisions 17 and 18)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from operator import attrgetter

from dalsegno.workflow.model import Revert, RevertWhen
from dalsegno.workflow.records import Attempt, End, TaskExecution
from dalsegno.workflow.running import adhoc, items
from dalsegno.workflow.running.launching import read_target
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, context_out
from dalsegno.workflow.scope import Template
from dalsegno.workflow.secrets import members
from dalsegno.workflow.states import AttemptState, TaskState
from dalsegno.workflow.value import Value, made

_UNWELL = frozenset({TaskState.ERROR, TaskState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Undo:
    """One end that has to be undone."""

    end: End
    child_id: str
    """The sub-workflow that ran, which is reverted first; empty: none did."""
    revert: Revert | None
    """What is called then; None: nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """A revert action that is ready to run."""

    action: adhoc.Resolved
    input: Value
    safe: bool
    target: str
    timeout_s: float | None


def behind(step: Step, sequence: int, before: int = 0) -> Iterator[Undo]:
    """Yield what is to be undone behind an entry, newest end first; `before`: of the ends before this one."""
    ended = step.execution.ended
    index = len(ended) if not before else bisect_left(ended, before, key=attrgetter("sequence"))
    while index > 0 and ended[index - 1].sequence > sequence:
        index -= 1
        found = of_end(step, ended[index])
        if found is not None:
            yield found


def of_end(step: Step, end: End) -> Undo | None:
    """Return what has to be done to undo an end; None: nothing."""
    task = step.execution.tasks.get(end.task)
    if task is None:
        return None  # discarded
    spec = step.spec(task)
    attempt = attempt_of(step, end)
    if (spec.items and end.item < 0) or (attempt is not None and attempt.is_retried):
        return None  # its items are ends themselves
    child_id = "" if attempt is None else attempt.child_id
    revert = spec.revert
    if revert is not None and not _is_called(revert, end, attempt):
        revert = None
    return Undo(end, child_id, revert) if child_id or revert is not None else None


def _is_called(revert: Revert, end: End, attempt: Attempt | None) -> bool:
    if end.state is TaskState.SUCCESS:
        return True
    did_nothing = attempt is not None and attempt.state is AttemptState.CANCELLED and not attempt.delivery
    if did_nothing and attempt is not None and not attempt.child_id:
        return False
    return revert.when is RevertWhen.ALWAYS and end.state in _UNWELL


def attempt_of(step: Step, end: End) -> Attempt | None:
    """Return the attempt that ended; None for a task that runs nothing."""
    return step.execution.attempts.get((end.task, max(end.item, 0), end.attempt))


def call(step: Step, undo: Undo, failure: str, given: Value | None = None) -> Call:
    """Evaluate what a revert action runs with; `given`: an input in place of its own.

    Raise EvaluationError, HardFailure, Unresolved or UnfitValue.
    """
    revert = undo.revert
    assert revert is not None
    scope = view(step, undo.end, failure)
    found: object = {}
    if given is not None:
        found = given.data
    elif revert.input is not None:
        found = members(revert.input.evaluate(scope), step.cipher)
    if not isinstance(found, dict):
        raise HardFailure(f"the input of a revert action must be a dict, not {found!r:.100}")
    action = adhoc.resolve(step, str(revert.action.evaluate(scope)), found, lambda: scope)
    safe = action.description.safe_to_rerun
    if revert.safe_rerun is not None:
        safe = step.decide(revert.safe_rerun, scope)
    target = "" if revert.target is None else read_target(revert.target.evaluate(scope))
    timeout_s = seconds(revert.timeout_s, scope, "timeout") or None
    return Call(action, made(action.input), safe, target, timeout_s)


def published(step: Step, undo: Undo, failure: str, attempt: Attempt) -> dict[str, Value]:
    """Return what a revert publishes; it sees the result of the revert action as the task's."""
    if undo.revert is None or undo.revert.publish is None:
        return {}
    result = None if attempt.result is None else attempt.result.data
    values = undo.revert.publish.evaluate(view(step, undo.end, failure, reverted=(result,)))
    if not isinstance(values, dict):
        raise HardFailure(f"a revert must publish a dict, not a {type(values).__name__}")
    return {name: made(value) for name, value in step.kept(values).items()}


def seconds(template: Template | None, scope: View, name: str) -> float:
    """Return a number of seconds of a revert; without a template 0."""
    value = None if template is None else template.evaluate(scope)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise HardFailure(f"{name} of a revert must be a number of seconds, not {value!r}")
    return float(value)


def whole(template: Template | None, scope: View, name: str, default: int) -> int:
    """Return a whole number of a revert."""
    value = default if template is None else template.evaluate(scope)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise HardFailure(f"{name} of a revert must be a whole number, not {value!r}")
    return value


def view(step: Step, end: End, failure: str, reverted: tuple[object, ...] = ()) -> RevertView:
    """Return the scope of a revert: the context and the result of the end. `reverted`: the result of the revert action
    in its place."""
    task = step.execution.tasks[end.task]
    attempt = attempt_of(step, end)
    ended = _as_ended(task, end)
    extra = None
    if end.item >= 0 and task.progress.item_count is not None and end.item < task.progress.item_count:
        extra = next(items.variables(step, task, (end.item,)))
    result = None if attempt is None or attempt.result is None else attempt.result.data
    return RevertView(step, ended, extra, "" if attempt is None else attempt.error, (*reverted, result)[0], failure)


def _as_ended(task: TaskExecution, end: End) -> TaskExecution:
    """Return the record of the task as it ended then."""
    found = copy(task)
    found.state = end.state
    former = task.former.get(end.edition)
    if former is not None:
        found.publication = former
        found.context_out, found.branch_contexts = None, {}
    return found


class RevertView(View):
    """What a revert sees: the task as it ended, with its result, and the failure that set off the revert."""

    __slots__ = ("_failure", "_result")

    def __init__(
        self,
        step: Step,
        task: TaskExecution,
        extra: dict[str, object] | None,
        info: str,
        result: object,
        failure: str,
    ) -> None:
        super().__init__(step, task, context_out(step, task), extra, state=str(task.state), info=info)
        self._result, self._failure = result, failure

    def lasting(self) -> View:
        """Return the same scope for another thread."""
        assert self._task is not None
        return RevertView(self._step, self._task, dict(self._extra), self._info or "", self._result, self._failure)

    def result(self) -> object:
        """Return the result of the end."""
        return self._result

    def task(self, name: str | None) -> dict[str, object] | None:
        """Return the record of the task as it ended, with `failure`; or the newest execution of another one."""
        found = super().task(name)
        if found is None or not self._is_own(name):
            return found
        return {**found, "result": self._result, "failure": self._failure or None}

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """Return the same for a running of a task."""
        found = super().run(name, route)
        if found is None or not self._is_own(name):
            return found
        return {**found, "result": self._result, "failure": self._failure or None}

    def _is_own(self, name: str | None) -> bool:
        assert self._task is not None
        return name is None or name == self._task.name
