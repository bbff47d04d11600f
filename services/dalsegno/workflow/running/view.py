"""What expressions see: the core's implementation of Scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar, cast

from dalsegno.workflow.contexts import layers
from dalsegno.workflow.contexts.context import EMPTY_CONTEXT, Context, merge, publish
from dalsegno.workflow.contexts.trimming import rebased
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import task_id
from dalsegno.workflow.model import Merge
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import Cipher, SecretFound, has_secret
from dalsegno.workflow.value import TASKS_MAX, Value, moment

AnyContext = Context | layers.Layers
Found = TypeVar("Found")


def context_in(step: Step, task: TaskExecution) -> AnyContext:
    """Return the context in which the task runs: the merge of what its sources pass on. It is computed once."""
    if task.context_in is not None:
        return task.context_in
    tasks = step.execution.tasks
    stack = [task]
    while stack:  # not recursive: a chain has any length
        top = stack[-1]
        if top.base is not None:
            stack.pop().context_in = _based(step, top.base)
            continue
        arrivals = top.arrivals
        unknown = [source for number in arrivals.sources if (source := tasks[number]).context_in is None]
        if unknown:
            stack.extend(unknown)
            continue
        stack.pop()
        passed_on = [
            _passed_on(step, tasks[number], branch, arrivals.editions.get(number, 0))
            for number, branch in zip(arrivals.sources, arrivals.by_branches, strict=True)
        ]
        top.context_in = passed_on[0] if len(passed_on) == 1 else merged(step, passed_on)
    assert task.context_in is not None
    return task.context_in


def _based(step: Step, base: AnyContext) -> AnyContext:
    """Return a context that is kept in place of what it was made of, over the present values of the start: an edit of
    these may have been made since, or undone."""
    if step.workflow.rules.merge is not Merge.LAST_ARRIVED:
        return base
    return rebased([base], lambda name: initial(step.execution, name))[0]


def context_out(step: Step, task: TaskExecution, branch: int = -1) -> AnyContext:
    """Return what the task passes on by a branch (-1: its clauses): its context, updated with what it published
    there."""
    if branch >= 0:
        return _branch_out(step, task, branch)
    if task.context_out is None:
        seen = context_in(step, task)
        publication = task.publication
        task.context_out = seen if publication.branches else publish(cast(Context, seen), publication.before_edits)
        if publication.edits:
            task.context_out = _edited(step, task.context_out, publication.edits, branch)
    return task.context_out


def _passed_on(step: Step, task: TaskExecution, branch: int, edition: int) -> AnyContext:
    """Return what the task passed on in one of its editions: the present one, or one before an operation reopened
    it."""
    if edition == task.edition:
        return context_out(step, task, branch)
    former = task.former[edition]
    seen = context_in(step, task)
    if branch >= 0:
        return _edited(step, _layered(step, seen, former.branches.get(branch)), former.edits, branch)
    return _edited(step, seen if former.branches else publish(cast(Context, seen), former.values), former.edits, branch)


def _edited(
    step: Step, context: AnyContext, edits: Sequence[tuple[int, Mapping[str, Value]]], branch: int
) -> AnyContext:
    """Return the context with the edits: each edit is one more publish (decision 14)."""
    for number, edited in edits:
        if step.workflow.rules.merge is Merge.LAST_ARRIVED:  # one write in each branch
            context = _layered(step, context, (number + (branch + 2) / 1000, edited))
        else:
            context = publish(cast(Context, context), edited)
    return context


def _layered(step: Step, context: AnyContext, published: tuple[float, Mapping[str, Value]] | None) -> AnyContext:
    if published is None or not published[1]:
        return context
    number, values = published
    return layers.publish(cast(layers.Layers, context), number, values, lambda name: initial(step.execution, name))


def _branch_out(step: Step, task: TaskExecution, branch: int) -> AnyContext:
    found = task.branch_contexts.get(branch)
    if found is None:
        context = _layered(step, context_in(step, task), task.publication.branches.get(branch))
        found = cast(layers.Layers, _edited(step, context, task.publication.edits, branch))
        task.branch_contexts = task.branch_contexts or {}
        task.branch_contexts[branch] = found
    return found


def initial(execution: Execution, name: str) -> object:
    """Return the value of a variable at the start: of vars, else of input. Raise KeyError if it had none."""
    value = execution.globals.get(name)
    if value is not None:
        return value.data
    declared = execution.input.data
    assert isinstance(declared, dict)
    return declared[name]


def merged_out(step: Step, ends: list[tuple[TaskExecution, int]]) -> AnyContext:
    """Return the merge of what the branches passed on that are discarded, and then of what these tasks pass on by these
    branches, in this order."""
    ended = step.execution.end_context
    before = () if ended is None else (_based(step, ended),)
    return merged(step, chain(before, (context_out(step, task, branch) for task, branch in ends)))


def merged(step: Step, contexts: Iterable[AnyContext]) -> AnyContext:
    """Return the merge of these contexts, in this order."""
    found: AnyContext = EMPTY_CONTEXT
    seen: dict[int, AnyContext] = {}
    is_layered = step.workflow.rules.merge is Merge.LAST_ARRIVED
    for context in contexts:
        if id(context) in seen:  # branches that published nothing share one context
            continue
        seen[id(context)] = context
        if is_layered:
            found = layers.merge(cast(layers.Layers, found), cast(layers.Layers, context))
        else:
            found = merge(cast(Context, found), cast(Context, context))
    return found


def values(context: AnyContext) -> dict[str, object]:
    """Return the variables of a context as a plain dict, in the order of their names: people see it, and the order of a
    Map differs from process to process."""
    return {name: context[name].value for name in sorted(context)}


_NOTHING: Mapping[str, object] = {}
_ITEM = ""
"""The name of the item among the variables of items; no variable can have it."""


def of_item(names: tuple[str, ...], item: object) -> dict[str, object]:
    """Return the variables of an item for `item()`: a dict by names, zipped by place, or the item itself.

    Several names have no effect on an item that is not a list: a dict has names of its own.
    """
    if not names:
        return {_ITEM: item}
    if isinstance(item, list | tuple):
        return {_ITEM: dict(zip(names, item, strict=False))}
    return {_ITEM: {names[0]: item} if len(names) == 1 else item}


class View:
    """One scope: a context, perhaps of a task, perhaps with the variables of one item."""

    __slots__ = ("_context", "_execution", "_extra", "_first", "_info", "_seed", "_state", "_step", "_task")

    def __init__(
        self,
        step: Step,
        task: TaskExecution | None,
        context: AnyContext,
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

    def lasting(self) -> View:
        """Return the same scope for another thread, with the present variables; later evaluations do not change it."""
        return View(self._step, self._task, self._context, self._extra, dict(self._first), self._state, self._info)

    @property
    def secrets(self) -> Cipher | None:
        """Return what decrypts the secrets that may be in the answers; None: there are none."""
        return self._step.cipher if self._step.meets_secrets else None

    @property
    def at_s(self) -> float:
        """Return the time of the event: the same whenever it is stepped again."""
        return self._step.given.now_s

    @property
    def seed(self) -> str:
        """Return a text that differs for each scope of each step."""
        if self._seed is None:
            self._seed = self._step.next_seed()
        return self._seed

    @property
    def steps_left(self) -> int:
        """Return how many steps of evaluation the event has left."""
        return self._step.steps_left

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """Count steps of evaluation that the event has used."""
        self._step.steps_left -= steps
        self._step.has_moved = self._step.has_moved or is_moved

    def variable(self, name: str) -> object:
        """Return a variable: of the branch, else of the item, else global or vars, else input
        (mistral/README.md#expressions)."""
        if name in self._first:
            return self._first[name]
        cell = self._context.get(name)
        if cell is not None:
            return cell.value
        if name in self._extra:
            return self._extra[name]
        if name in ("__env", "__execution", "__task_execution"):
            return self._about()[name]
        if name == self._step.workflow.rules.names.execution:
            return self._about()[name]
        try:
            return initial(self._execution, name)
        except KeyError:
            if name == self._step.workflow.rules.names.caller:
                return self._about()[name]
            raise

    def variables(self) -> dict[str, object]:
        """Return all variables in one dict."""
        declared = self._execution.input.data
        assert isinstance(declared, dict)
        return {
            **self._about(),
            **declared,
            **{name: value.data for name, value in sorted(self._execution.globals.items())},
            **self._extra,
            **values(self._context),
            **self._first,
        }

    def _about(self) -> dict[str, object]:
        """Return what every context holds about its execution: mistral/README.md#expressions."""
        about: dict[str, object] = {"__env": self.environment(), "__execution": {"id": self._execution.id}}
        if self._task is not None:
            number = task_id(self._execution.id, self._task.number)
            about["__task_execution"] = {"id": number, "name": self._task.name}
        own = self._step.workflow.rules.names.execution
        if own:
            created = self._execution.created
            about[own] = {
                "action_execution_id": self._execution.id,
                "workflow_execution_id": self._execution.id,
                "api_url": "",
                "user": created.actor,
                "pack": _pack(created.workflow),
                "action": created.workflow,
                "runner": created.language,
            }
            about[self._step.workflow.rules.names.caller] = self._caller()
        return about

    def _caller(self) -> dict[str, object]:
        """Return who has the execution run: who started it, and the task of which it is a sub-workflow."""
        created = self._execution.created
        caller: dict[str, object] = {"user": created.actor, "pack": _pack(created.workflow)}
        if created.parent is None:
            return caller
        above = created.parent.execution_id
        called_by = {"workflow_execution_id": above, "task_execution_id": task_id(above, created.parent.key[0])}
        return caller | {"parent": {"user": created.actor, "execution_id": above}, "orquesta": called_by}

    def task(self, name: str | None) -> dict[str, object] | None:
        """Return the record of the newest execution of the named task, or of the current one."""
        found = self._task if name is None else self._execution.latest(name)
        return None if found is None else self._task_record(found)

    def item(self) -> object:
        """Return the current item, by its names when it has any; None without an item."""
        return self._extra.get(_ITEM)

    def result(self) -> object:
        """Return the current task's result; over items a list in their order, None for those without a result.

        Return None until the task has come to an end, even if a retry follows.
        """
        task = self._task
        if task is None:
            raise EvaluationError("there is no result here: only a task has one")
        if not (self._state or task.is_completed):
            return None
        if task.progress.item_count is None:
            return self._execution.result(task)
        attempts = (self._execution.current(task, item) for item in range(task.progress.item_count))
        return [None if one is None or one.result is None else one.result.data for one in attempts]

    def status(self, name: str | None, route: int | None) -> str | None:
        """Return the state of a task on a route, or on the newest of the routes that the current one came from."""
        if name is None:
            return self._state or (None if self._task is None else str(self._task.state))
        found = self._execution.latest_on(name, route) if route is not None else self._near(name)
        if found is not None and found is self._task and self._state:
            return self._state
        return None if found is None else str(found.state)

    def _near(self, name: str) -> TaskExecution | None:
        """Return the newest running of a task on the current route (without one: the first), else on the latest route
        that it came from."""
        if self._task is None:
            return self._execution.latest_on(name, 0)
        own = self._execution.routes[self._task.route]
        for length in range(len(own), -1, -1):
            number = self._execution.route_numbers.get(own[:length])
            found = None if number is None else self._execution.latest_on(name, number)
            if found is not None:
                return found
        return None

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """Return the record of the newest running of a task (None: the current one), on a route if one is given."""
        if name is None:
            found = self._task
        else:
            found = self._near(name) if route is None else self._execution.latest_on(name, route)
        if found is None:
            return None
        current = found is self._task and self._state
        return {
            "id": task_id(self._execution.id, found.number),
            "execution_id": self._execution.id,
            "name": found.name,
            "route": found.route,
            "result": self._execution.result(found),
            "items": None if found.progress.item_count is None else self._item_results(found),
            "state": self._state if current else str(found.state),
            "started_s": found.started_s and self._shown_s(found.started_s),
            "ended_s": found.ended_s and self._shown_s(found.ended_s),
        }

    def _item_results(self, task: TaskExecution) -> list[tuple[object, str]]:
        attempts = self._execution.current_attempts(task)
        return [(None if one.result is None else one.result.data, str(one.state)) for one in attempts]

    def stored(self, environment: str, key: str) -> object:
        """Return a value of a stored environment of the namespace. Raise KeyError when there is none."""
        return self._looked_up(self._step.surroundings.environment(environment, self._execution.created.namespace)[key])

    def _looked_up(self, found: Found) -> Found:
        """Return what the execution does not hold. Raise SecretFound at the first secret that the step meets."""
        if not self._step.meets_secrets and has_secret(found):
            self._step.has_met_secret = True
            raise SecretFound(self._step.cipher)
        return found

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Return this execution's own tasks from memory and all others from the store, which does not have this step
        yet.

        Without an id these are all tasks of the namespace; with `flat` only those that ran no sub-workflow.
        """
        own: list[dict[str, object]] = []
        if execution_id in (None, self._execution.id):
            counting = (task for task in self._execution.tasks.values() if not task.superseded_by)
            records = (self._task_record(task) for task in counting)
            own = [
                record
                for record in records
                if state in (None, record["state"]) and not (flat and record["type"] == "WORKFLOW")
            ]
            if execution_id is not None and not recursive:
                return own[:TASKS_MAX]
        namespace = self._execution.created.namespace
        others = self._step.surroundings.tasks(execution_id, namespace, recursive, state, flat)
        own += [record for record in self._looked_up(others) if record["workflow_execution_id"] != self._execution.id]
        return own[:TASKS_MAX]

    def execution(self) -> dict[str, object]:
        """Return the record of this execution."""
        created = self._execution.created
        params = created.params.data
        assert isinstance(params, dict)
        return {
            "id": self._execution.id,
            "name": created.workflow,
            "spec": dict(self._step.workflow.spec),
            "input": created.input.data,
            "params": {**params, "namespace": created.namespace, "env": self.environment()},
            "created_at": moment(self._shown_s(created.at_s)),
            "updated_at": moment(self._shown_s(self._execution.moved_s)),
            "root_execution_id": created.root_id or None,
        }

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """Return other executions of the namespace."""
        return self._looked_up(self._step.surroundings.executions(self._execution.created.namespace, dict(criteria)))

    def environment(self) -> dict[str, object]:
        """Return the environment as it was when the root execution started, unless an operation has changed it
        since."""
        environment = self._execution.environment.data
        assert isinstance(environment, dict)
        return environment

    def global_variable(self, name: str) -> object:
        """Return the value; None when there is none."""
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
            "result": self._execution.result(task) if self._execution.has_result(task) else [],
            "published": {name: value.data for name, value in task.published.items()},
            "type": "WORKFLOW" if spec.workflow is not None else "ACTION",
            "workflow_execution_id": self._execution.id,
            "created_at": moment(self._shown_s(task.created_s)),
            "updated_at": moment(self._shown_s(task.ended_s or task.started_s or task.created_s)),
        }

    def _shown_s(self, at_s: float) -> float:
        """Return the time to show. For what this event itself changes it is that of `now()`, which stays the same when
        the event is stepped again, so that values made from it stay valid."""
        return self._step.given.now_s if at_s == self._step.at_s else at_s


def _pack(workflow: str) -> str:
    """Return what is before the first dot of a workflow's name."""
    return workflow.partition(".")[0] if "." in workflow else ""


def task_view(
    step: Step,
    task: TaskExecution,
    extra: Mapping[str, object] | None = None,
    state: str | None = None,
    info: str | None = None,
) -> View:
    """Return the scope of a task: what it sees, and what it has published itself."""
    return View(step, task, context_out(step, task), extra, state=state, info=info)
