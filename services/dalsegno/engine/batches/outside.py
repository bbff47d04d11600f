"""What a step may look up outside its own execution, within the transaction of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import msgspec

from dalsegno.engine.batches.cache import CompiledWorkflows
from dalsegno.secrets.cipher import NO_CIPHERS, Ciphers
from dalsegno.store.descriptions import digest_of, read_description, write_description
from dalsegno.store.filters import Filter, Term
from dalsegno.store.outages import is_of_store
from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.records import AttemptRow, DefinitionKind, DefinitionPlace, DefinitionRow, ExecutionRow, TaskRow
from dalsegno.store.store import Queries
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.identity import AttemptKey, task_id
from dalsegno.workflow.model import ActionDescription, AdHocAction, Workflow
from dalsegno.workflow.outside import FoundWorkflow, PausedBelow
from dalsegno.workflow.scope import Unanswered
from dalsegno.workflow.secrets import Cipher, recrypt
from dalsegno.workflow.states import TaskState
from dalsegno.workflow.value import TASKS_MAX, moment

Journal = Callable[[str, int], Sequence[AnyChange | Consolidated]]

_MISSING = object()

RESULTS_AT_ONCE = 16
"""How many results of tasks are read together. Each may be as large as a value."""

DISCARDED_MAX = 100
"""How many executions that have discarded their beginning are named."""

DEFINITIONS_MAX = 10_000
"""How many answers are kept, including the answers that nothing was found."""


PLACES_MAX = 100
"""How many answers of the last batch a batch confirms. If there are more, it asks for each again."""


class Lookups:
    """The definitions that were found by name. Kept over batches if only this engine writes definitions; otherwise each
    batch confirms those of the last one, with its claim, and looks up the others."""

    def __init__(
        self,
        workflows: CompiledWorkflows,
        builtin: tuple[ActionDescription, ...],
        ciphers: Ciphers = NO_CIPHERS,
        *,
        lasting: bool,
    ) -> None:
        """`ciphers`: those of the secrets."""
        self.workflows = workflows
        self.ciphers = ciphers
        self.lasting = lasting
        self.hearing_since_s: Callable[[], float] = lambda: 0.0
        """Returns since when third parties can be heard, after a start or an outage."""
        self._builtin = {each.name: replace(each, digest=digest_of(write_description(each))) for each in builtin}
        self._found_workflows: dict[tuple[str, str], FoundWorkflow | None] = {}
        self._found_actions: dict[tuple[str, str], ActionDescription | AdHocAction | None] = {}
        self._definitions: dict[DefinitionPlace, tuple[DefinitionRow, Workflow | AdHocAction] | None] = {}
        self._unconfirmed: dict[DefinitionPlace, tuple[DefinitionRow, Workflow | AdHocAction] | None] = {}
        self._described: dict[str, str] | None = None
        workflows.on_drop.append(lambda dropped: self.forget())

    def forget(self) -> None:
        """Remove all answers: something was defined, deleted or described."""
        self._found_workflows.clear()
        self._found_actions.clear()
        self._definitions.clear()
        self._unconfirmed.clear()
        self._described = None

    def begin(self) -> None:
        """Begin a batch: if others write definitions, nothing counts until it is confirmed."""
        if not self.lasting:
            found = dict(self._definitions) if len(self._definitions) <= PLACES_MAX else {}
            self.forget()
            self._unconfirmed = found

    @property
    def places(self) -> Sequence[DefinitionPlace]:
        """Where to look which definitions are found now."""
        return list(self._unconfirmed)

    def confirm(self, definition_ids: Sequence[str | None]) -> None:
        """Keep the answers that are still right. `definition_ids`: what is found at `places`."""
        for (place, found), definition_id in zip(self._unconfirmed.items(), definition_ids, strict=True):
            if definition_id == (None if found is None else found[0].definition_id):
                self._definitions.setdefault(place, found)
        self._unconfirmed.clear()

    def workflow(self, name: str, namespace: str, queries: Queries) -> FoundWorkflow | None:
        """Return the newest version of a workflow in this namespace, otherwise in the default one."""
        place = (name, namespace)
        if place not in self._found_workflows:
            if len(self._found_workflows) >= DEFINITIONS_MAX:
                self._found_workflows.clear()
            self._found_workflows[place] = self._read_workflow(name, namespace, queries)
        return self._found_workflows[place]

    def action(self, name: str, namespace: str, queries: Queries) -> ActionDescription | AdHocAction | None:
        """Return an ad-hoc action of the namespace or of the default one, otherwise a built-in or a described
        action."""
        place = (name, namespace)
        found = self._found_actions.get(place, _MISSING)
        if found is _MISSING:
            if len(self._found_actions) >= DEFINITIONS_MAX:
                self._found_actions.clear()
            found = self._found_actions[place] = self._read_action(name, namespace, queries)
        return found  # type: ignore[return-value]

    def described(self, queries: Queries) -> dict[str, str]:
        """Return the stored descriptions of executors, by name of the action."""
        if self._described is None:
            self._described = queries.actions()
        return self._described

    def definition(
        self, kind: DefinitionKind, name: str, namespace: str, version: int, queries: Queries
    ) -> tuple[DefinitionRow, Workflow | AdHocAction] | None:
        """Return a version (0: the newest) of a workflow or ad-hoc action of exactly this namespace, with its row."""
        place = DefinitionPlace(kind, name, namespace, version)
        if place not in self._definitions:
            row = queries.find_definition(kind, name, namespace, version)
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.clear()
            found = None if row is None else (replace(row, text=None), self.workflows.compile(row))
            self._definitions[place] = found
        return self._definitions[place]

    def _read_workflow(self, name: str, namespace: str, queries: Queries) -> FoundWorkflow | None:
        for candidate in dict.fromkeys((namespace, "")):
            found = self.definition("workflow", name, candidate, 0, queries)
            if found is not None:
                row, workflow = found
                assert isinstance(workflow, Workflow)
                return FoundWorkflow(workflow, row.definition_id, row.version, row.namespace)
        return None

    def _read_action(self, name: str, namespace: str, queries: Queries) -> ActionDescription | AdHocAction | None:
        for candidate in dict.fromkeys((namespace, "")):
            found = self.definition("action", name, candidate, 0, queries)
            if found is not None:
                assert isinstance(found[1], AdHocAction)
                return found[1]
        builtin = self._builtin.get(name)
        if builtin is not None:
            return builtin
        return self._read_described(name, queries)

    def _read_described(self, name: str, queries: Queries) -> ActionDescription | None:
        """Return the newest description of an action that any executor serves now, with the others. If nobody serves
        the action, consider all descriptions."""
        rows = queries.descriptions([name])
        if len(rows) > 1:
            served = {session.actions.get(name) for session in queries.sessions()}
            rows = [row for row in rows if row.digest in served] or rows
        found = [read_description(row.description) for row in rows]
        if found:
            return replace(found[0], others=tuple(found[1:]))
        text = self.described(queries).get(name)  # stored by an engine that knew no digests
        return None if text is None else read_description(text)


@contextmanager
def _answering() -> Iterator[None]:
    """Answer a question of an expression. Raise Unanswered when the store fails, which is no error of the
    expression."""
    try:
        yield
    except Exception as error:
        if is_of_store(error):
            raise Unanswered(error) from error
        raise


class TransactionOutside:
    """The machine's `Outside` over one transaction."""

    def __init__(self, lookups: Lookups, queries: Queries, journal: Journal) -> None:
        """`journal` returns the changes of an execution up to one of them."""
        self._lookups = lookups
        self._queries = queries
        self._journal = journal
        lookups.begin()

    def cipher(self, namespace: str) -> Cipher:
        """Return the cipher of the namespace."""
        return self._lookups.ciphers.of(namespace)

    def find_workflow(self, name: str, namespace: str) -> FoundWorkflow | None:
        """Return the newest version of the workflow."""
        return self._lookups.workflow(name, namespace, self._queries)

    def find_action(self, name: str, namespace: str) -> ActionDescription | AdHocAction | None:
        """Return what is known of the action."""
        return self._lookups.action(name, namespace, self._queries)

    def changes(self, execution_id: str, up_to: int) -> Sequence[AnyChange | Consolidated]:
        """Return the journal up to this sequence number, without what the present step has made."""
        return self._journal(execution_id, up_to)

    def discarded_below(self, execution_ids: Sequence[str]) -> Sequence[str]:
        """Return those of the executions and of their descendants that have discarded their beginning."""
        ids = [*execution_ids, *(below for each in execution_ids for below in self._queries.descendants(each))]
        rows = self._queries.executions_of(dict.fromkeys(ids), full=False)
        found = (row.id for row in rows.values() if row.first_sequence > 1 and not row.forked_from)
        return tuple(islice(found, DISCARDED_MAX))

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        """Return when the third party was heard last, or when third parties could be heard again, if that was later."""
        return max(self._queries.heard_s(execution_id, key), self._lookups.hearing_since_s())

    def paused_below(self, execution_id: str) -> Sequence[PausedBelow]:
        """Return the descendants that are PAUSED or PAUSING, in their state before this batch."""
        own = self._queries.execution(execution_id)
        if own is None:
            return []
        paused = self._queries.paused_descendants(own.root_id)
        parents = self._parents(paused)
        found = []
        for row in paused:
            way = _way(row.id, execution_id, parents)
            if way:
                found.append(PausedBelow(row.id, row.workflow, way, self._failed(row.id)))
        return found

    def _parents(self, rows: Sequence[ExecutionRow]) -> dict[str, str]:
        """Return the parents of these executions and of all above them, by the ids of the children."""
        parents: dict[str, str] = {}
        while rows:
            parents.update((row.id, row.parent_id) for row in rows)
            above = {row.parent_id for row in rows if row.parent_id} - parents.keys()
            rows = list(self._queries.executions_of(above).values()) if above else []
        return parents

    def _failed(self, execution_id: str) -> tuple[str, ...]:
        """Return the names of the tasks that have failed and that nothing handles."""
        chosen = Filter((Term("state", "=", (TaskState.ERROR.value,)),))
        rows = self._queries.tasks(execution_id, chosen, TASKS_MAX).rows
        return tuple(dict.fromkeys(row.name for row in rows if not (row.handled or row.superseded_by)))

    @_answering()
    def environment(self, name: str, namespace: str) -> Mapping[str, object]:
        """Return the variables of a stored environment: of the namespace, otherwise of the default one."""
        row = self._queries.environment(namespace, name) or self._queries.environment("", name)
        if row is None:
            return {}
        text = row.value or "{}"
        if row.namespace != namespace:
            text = recrypt(text, self.cipher(row.namespace), self.cipher(namespace))
        values = msgspec.json.decode(text)
        return values if isinstance(values, dict) else {}

    @_answering()
    def tasks(
        self, execution_id: str | None, namespace: str, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Return records of task executions of this namespace, at most one page in bytes. `flat`: only those that run
        no workflow.

        The number of queries does not depend on the number of executions, and results are read a few at a time.
        """
        ids = [row.id for row in self._executions_of(execution_id, namespace, recursive)]
        chosen = Filter((Term("state", "=", (state,)),) if state else ())
        tasks = self._queries.tasks_across(ids, chosen, TASKS_MAX)
        place = {each: number for number, each in enumerate(ids)}
        tasks.sort(key=lambda task: (place[task.execution_id], task.number))
        records: list[dict[str, object]] = []
        size = 0
        for start in range(0, len(tasks), RESULTS_AT_ONCE):
            some = tasks[start : start + RESULTS_AT_ONCE]
            plain = [(task.execution_id, (task.number, 0, task.attempt)) for task in some if _is_plain(task)]
            leading = {(row.execution_id, row.task): row for row in self._queries.attempts_of(plain)}
            for task in some:
                attempt, result = self._leading(task, leading)
                size += len(result or "") + len(task.published or "")
                if records and size > PAGE_BYTES_MAX:
                    return records
                is_workflow = attempt is not None and attempt.runs_workflow
                if not (flat and is_workflow):
                    records.append(_task_record(task, result, is_workflow))
        return records

    def _leading(
        self, task: TaskRow, leading: Mapping[tuple[str, int], AttemptRow]
    ) -> tuple[AttemptRow | None, str | None]:
        """Return the attempt that says what a task runs, and the task's result."""
        if _is_plain(task):
            attempt = leading.get((task.execution_id, task.number))
            return attempt, attempt.result if attempt is not None else None
        first = self._queries.leading_attempts(task.execution_id, [task.number]).get(task.number)
        return first, self._queries.task_result(task.execution_id, task.number).text

    @_answering()
    def executions(self, namespace: str, criteria: dict[str, object]) -> list[dict[str, object]]:
        """Return records of the executions of this namespace that fulfil the criteria: `id`, `root_execution_id`,
        `state`."""
        terms = [Term("namespace", "=", (namespace,))]
        for name, column in (("id", "id"), ("root_execution_id", "root_id"), ("state", "state")):
            if criteria.get(name) is not None:
                terms.append(Term(column, "=", (str(criteria[name]),)))
        return [
            _execution_record(row) for row in self._queries.executions(Filter(tuple(terms)), TASKS_MAX, full=True).rows
        ]

    def _executions_of(self, execution_id: str | None, namespace: str, recursive: bool) -> list[ExecutionRow]:
        if execution_id is None:
            return self._queries.executions(Filter((Term("namespace", "=", (namespace,)),)), TASKS_MAX).rows
        ids = [execution_id, *(self._queries.descendants(execution_id)[:TASKS_MAX] if recursive else ())]
        rows = self._queries.executions_of(ids, full=False)
        return [rows[each] for each in ids if each in rows and rows[each].namespace == namespace]


def _way(execution_id: str, above: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return the executions that lead from one (left out) down to another. Empty when the other is not below it."""
    way = [execution_id]
    while parents.get(way[0]):
        parent = parents[way[0]]
        if parent == above:
            return tuple(way)
        way.insert(0, parent)
    return ()


def _is_plain(task: TaskRow) -> bool:
    """Return whether the result of the task is that of one attempt."""
    return task.item_count is None and not task.result_dropped


def _task_record(task: TaskRow, result: str | None, is_workflow: bool) -> dict[str, object]:
    return {
        "id": task_id(task.execution_id, task.number),
        "name": task.name,
        "spec": {},
        "state": task.state,
        "state_info": task.info or None,
        "result": [] if result is None else msgspec.json.decode(result),
        "published": {} if not task.published else msgspec.json.decode(task.published),
        "type": "WORKFLOW" if is_workflow else "ACTION",
        "workflow_execution_id": task.execution_id,
        "created_at": moment(task.created_s),
        "updated_at": moment(task.ended_s or task.started_s or task.created_s),
    }


def _execution_record(row: ExecutionRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.workflow,
        "state": row.state,
        "state_info": row.info or None,
        "input": {} if row.input is None else msgspec.json.decode(row.input),
        "output": None if row.output is None else msgspec.json.decode(row.output),
        "params": {} if row.params is None else msgspec.json.decode(row.params),
        "created_at": moment(row.created_s),
        "updated_at": moment(row.updated_s),
        "root_execution_id": row.root_id,
    }
