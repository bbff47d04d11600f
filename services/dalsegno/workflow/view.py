"""What expressions see: the machine's own implementation of Scope."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from dalsegno.workflow.context import EMPTY_CONTEXT, Context, merge, publish
from dalsegno.workflow.execution import Execution, TaskExecution
from dalsegno.workflow.identity import task_id
from dalsegno.workflow.step import Step

TASKS_MAX = 1000
"""As many records a function that lists tasks or executions gives at most."""


def context_in(execution: Execution, task: TaskExecution) -> Context:
    """What the task sees of others' variables: the merge of what its sources pass on. Kept once computed."""
    if task.context_in is not None:
        return task.context_in
    stack = [task]
    while stack:  # not recursive: a chain may be as long as it likes
        top = stack[-1]
        unknown = [
            source
            for number in top.sources
            if (source := execution.tasks[number]).context_in is None and source.context_out is None
        ]
        if unknown:
            stack.extend(unknown)
            continue
        stack.pop()
        top.context_in = merged_out(execution, [execution.tasks[number] for number in top.sources])
    assert task.context_in is not None
    return task.context_in


def context_out(execution: Execution, task: TaskExecution) -> Context:
    """What the task passes on: what it sees, updated with what it published."""
    if task.context_out is None:
        task.context_out = publish(context_in(execution, task), task.published)
    return task.context_out


def merged_out(execution: Execution, tasks: list[TaskExecution]) -> Context:
    """The merge of what these tasks pass on, in this order."""
    merged = EMPTY_CONTEXT
    seen: set[int] = set()
    for task in tasks:
        context = context_out(execution, task)
        if id(context) not in seen:  # branches that published nothing share one context
            seen.add(id(context))
            merged = merge(merged, context)
    return merged


def values(context: Context) -> dict[str, object]:
    """The variables of a context as a plain dict."""
    return {name: cell.value for name, cell in context.items()}


_NOTHING: Mapping[str, object] = {}


class View:
    """One scope: a context, perhaps of a task, perhaps with the variables of one item."""

    __slots__ = ("_context", "_execution", "_extra", "_first", "_info", "_seed", "_state", "_step", "_task")

    def __init__(
        self,
        step: Step,
        task: TaskExecution | None,
        context: Context,
        extra: Mapping[str, object] | None = None,
        first: Mapping[str, object] | None = None,
        state: str | None = None,
        info: str | None = None,
    ) -> None:
        self._step = step
        self._execution = step.execution
        self._task = task
        self._context = context
        self._extra = extra or _NOTHING
        self._first = first or _NOTHING
        self._state = state
        self._info = info
        self._seed: str | None = None

    @property
    def at_s(self) -> float:
        """When the event happened."""
        return self._step.at_s

    @property
    def seed(self) -> str:
        """Differs for each scope of each step."""
        if self._seed is None:
            self._seed = self._step.next_seed()
        return self._seed

    def variable(self, name: str) -> object:
        """Branch variables before item variables before globals and vars before input (MISTRAL.md section 2)."""
        if name in self._first:
            return self._first[name]
        cell = self._context.get(name)
        if cell is not None:
            return cell.value
        if name in self._extra:
            return self._extra[name]
        if name in ("__env", "__execution", "__task_execution"):
            return self._about()[name]
        value = self._execution.globals.get(name)
        if value is not None:
            return value.data
        declared = self._execution.created.input.data
        assert isinstance(declared, dict)
        return declared[name]

    def variables(self) -> dict[str, object]:
        """All of them in one dict."""
        declared = self._execution.created.input.data
        assert isinstance(declared, dict)
        return {
            **self._about(),
            **declared,
            **{name: value.data for name, value in self._execution.globals.items()},
            **self._extra,
            **values(self._context),
            **self._first,
        }

    def _about(self) -> dict[str, object]:
        """What every context holds about where it is: MISTRAL.md section 2."""
        about: dict[str, object] = {"__env": self.environment(), "__execution": {"id": self._execution.id}}
        if self._task is not None:
            number = task_id(self._execution.id, self._task.number)
            about["__task_execution"] = {"id": number, "name": self._task.name}
        return about

    def task(self, name: str | None) -> dict[str, object] | None:
        """The record of the newest execution of the named task, or of the current one."""
        found = self._task if name is None else self._execution.latest(name)
        return None if found is None else self._task_record(found)

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """This execution's own tasks from memory, all others' from the reader, which has not seen this step yet.

        Without an id it is all tasks of the namespace; with `flat` only those that ran no sub-workflow.
        """
        own: list[dict[str, object]] = []
        if execution_id in (None, self._execution.id):
            records = (self._task_record(task) for task in self._execution.tasks.values())
            own = [
                record
                for record in records
                if state in (None, record["state"]) and not (flat and record["type"] == "WORKFLOW")
            ]
            if execution_id is not None and not recursive:
                return own[:TASKS_MAX]
        namespace = self._execution.created.namespace
        others = self._step.outside.tasks(execution_id, namespace, recursive, state, flat)
        own += [record for record in others if record["workflow_execution_id"] != self._execution.id]
        return own[:TASKS_MAX]

    def execution(self) -> dict[str, object]:
        """The record of this execution."""
        created = self._execution.created
        params = created.params.data
        assert isinstance(params, dict)
        return {
            "id": self._execution.id,
            "name": created.workflow,
            "spec": dict(self._step.workflow.spec),
            "input": created.input.data,
            "params": {**params, "namespace": created.namespace, "env": self.environment()},
            "created_at": moment(created.at_s),
            "updated_at": moment(self._execution.moved_s),
            "root_execution_id": created.root_id or None,
        }

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """Other executions of the namespace."""
        return self._step.outside.executions(self._execution.created.namespace, dict(criteria))

    def environment(self) -> dict[str, object]:
        """As it was when the root execution started."""
        environment = self._execution.created.environment.data
        assert isinstance(environment, dict)
        return environment

    def global_variable(self, name: str) -> object:
        """The value, None when there is none."""
        value = self._execution.globals.get(name)
        return None if value is None else value.data

    def _task_record(self, task: TaskExecution) -> dict[str, object]:
        current = task is self._task
        spec = self._step.workflow.tasks[task.name]
        return {
            "id": task_id(self._execution.id, task.number),
            "name": task.name,
            "spec": dict(spec.spec),
            "state": self._state if current and self._state else str(task.state),
            "state_info": (self._info if current and self._state else task.info) or None,
            "result": self._execution.result(task),
            "published": {name: value.data for name, value in task.published.items()},
            "type": "WORKFLOW" if spec.workflow is not None else "ACTION",
            "workflow_execution_id": self._execution.id,
            "created_at": moment(task.created_s),
            "updated_at": moment(task.ended_s or task.started_s or task.created_s),
        }


def moment(at_s: float) -> str:
    """The time as expressions show it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def task_view(
    step: Step,
    task: TaskExecution,
    extra: Mapping[str, object] | None = None,
    state: str | None = None,
    info: str | None = None,
) -> View:
    """The scope of a task: what it sees, and what it has published itself."""
    return View(step, task, context_out(step.execution, task), extra, state=state, info=info)
