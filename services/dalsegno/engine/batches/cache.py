"""The cache of executions in memory, and the compiled workflows that they run."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from dalsegno.store.records import DefinitionRow
from dalsegno.store.store import Queries, Transaction
from dalsegno.workflow.changes import (
    AnyChange,
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    CheckpointReached,
    ContextEdited,
    EnvironmentChanged,
    ExecutionCreated,
    ExecutionMoved,
    GlobalsPublished,
    Published,
    RevertBegun,
    RevertMoved,
    RoundPlanned,
    StopsSet,
)
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import AdHocAction, Policies, Retry, Task, Workflow
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import Value, byte_length

EXECUTION_BYTES = 6_000
TASK_BYTES = 2_500
ATTEMPT_BYTES = 1_200
"""Estimated memory of an execution, a task and an attempt without their values, in bytes."""

ITEM_BYTES, LIST_BYTES, DICT_BYTES = 30, 40, 130
"""Estimated memory of an item, a list and a dict beyond twice their text, in bytes."""

DEFINITIONS_BYTES_MAX = 2 * 1024 * 1024
"""The texts of all definitions that are kept compiled may exceed the longest one by this many bytes."""
LONG_BYTES = 100_000
"""When a longer definition is dropped, cached executions drop it too."""

LONG_VALUE_BYTES = 16 * 1024
"""An execution at rest keeps longer values as text only, in bytes."""

MEMBER_BYTES = 1_000
"""What a compiled definition counts for in addition to its text."""

RESTING_SHARE = 0.25
"""The share of the cache that executions at rest may take."""

WAITING_SHARE = 0.02
"""The share of the cache that executions may take that wait for third parties only, perhaps for days."""
WAITING_BYTES_MAX = 64 * 1024
"""A larger one does not count as waiting: to load it again would take long."""


class Copy:
    """One execution in memory with its workflow, in the state after the last batch that touched it."""

    __slots__ = (
        "_base",
        "_long",
        "_long_base",
        "_long_bytes",
        "_long_count",
        "_marks",
        "execution",
        "value_bytes",
        "workflow",
    )

    def __init__(
        self, execution: Execution, workflow: Workflow | None, changes: Sequence[AnyChange | Consolidated]
    ) -> None:
        self.execution = execution
        self.workflow = workflow
        """None until it is needed: compiling may take long (Batch.workflow_of)."""
        self.value_bytes = 0
        """The length of all its values, in bytes."""
        self._base = 0
        """What of it was not counted, but put in place of what was discarded; negative: what was discarded."""
        self._long: deque[tuple[Value, int]] = deque()
        """Its long values, each with `parsed_bytes`."""
        self._long_base: list[tuple[Value, int]] = []
        """The long values of what was discarded that are kept."""
        self._long_bytes = 0
        """The sum of `parsed_bytes` of its long values."""
        self._long_count = 0
        """How many long values were counted."""
        self._marks: deque[tuple[int, int, int]] = deque()
        """For each entry of a checkpoint: its sequence number, and what was counted until then."""
        self.count(changes)

    @property
    def at_s(self) -> float:
        """The time of its last change. The next change is not earlier."""
        return self.execution.latest_s

    def go_on(self, changes: Sequence[AnyChange | Consolidated]) -> None:
        """Apply further changes and count their values."""
        for change in changes:
            assert not isinstance(change, Consolidated), "a journal has it only at its beginning"
            self.execution.apply(change)
        self.count(changes)

    def count(self, changes: Sequence[AnyChange | Consolidated], discarded: Discarded | None = None) -> int:
        """Count the values of its last changes, without what these have discarded. Return the length of the longest one
        in bytes."""
        longest = 0
        for sequence, change in enumerate(changes, self.execution.revision - len(changes) + 1):
            values_of = _VALUES.get(type(change))
            if values_of is not None:
                for value in values_of(change):
                    text = value.text
                    length = len(text) if text.isascii() else byte_length(text)
                    self.value_bytes += length
                    if length > longest:
                        longest = length
                    if length > LONG_VALUE_BYTES:
                        self._long.append((value, parsed_bytes(text)))
                        self._long_bytes += self._long[-1][1]
                        self._long_count += 1
                if type(change) is CheckpointReached:
                    self._marks.append((sequence, self.value_bytes - self._base, self._long_count))
        if discarded is not None:
            self._discard(discarded)
        return longest

    def _discard(self, discarded: Discarded) -> None:
        """Count what is kept in place of what was counted until the entry."""
        counted = long_count = 0
        while self._marks and self._marks[0][0] <= discarded.sequence:
            _, counted, long_count = self._marks.popleft()
        for _ in range(len(self._long) - (self._long_count - long_count)):
            self._long_bytes -= self._long.popleft()[1]
        kept = _kept_values(discarded.consolidated)
        base = sum(byte_length(value.text) for value in kept) - counted
        self.value_bytes += base - self._base
        self._base = base
        self._long_bytes -= sum(size for _, size in self._long_base)
        self._long_base = [
            (value, parsed_bytes(value.text)) for value in kept if byte_length(value.text) > LONG_VALUE_BYTES
        ]
        self._long_bytes += sum(size for _, size in self._long_base)

    def drop_data(self) -> None:
        """Keep only the text of long values, because executions at rest are rarely stepped again. Contexts keep the
        parsed form of what tasks have published."""
        for value, _ in (*self._long_base, *self._long):
            value.drop_data()

    @property
    def waits_for_others(self) -> bool:
        """Return whether it has delegates, and nothing of it runs or is about to."""
        execution = self.execution
        return bool(execution.delegates) and not (execution.active_count or execution.ready)

    @property
    def weight(self) -> int:
        """Its estimated memory in bytes: three times the text of each value, and the members of long ones."""
        execution = self.execution
        return (
            EXECUTION_BYTES
            + TASK_BYTES * len(execution.tasks)
            + ATTEMPT_BYTES * len(execution.attempts)
            + 3 * self.value_bytes
            + self._long_bytes
        )


def parsed_bytes(text: str) -> int:
    """Return the estimated memory of the parsed form of a JSON text, beyond twice the text.

    A list of small members takes many times its text.

    >>> parsed_bytes("[" + ",".join(["[0]"] * 1_000) + "]")
    70010
    """
    return ITEM_BYTES * text.count(",") + LIST_BYTES * text.count("[") + DICT_BYTES * text.count("{")


def _kept_values(consolidated: Consolidated) -> list[Value]:
    """Return the values that it holds, each once."""
    found: dict[str, Value] = {}

    def note(part: object) -> None:
        if isinstance(part, Value):
            found.setdefault(part.text, part)

    msgspec.json.encode(consolidated, enc_hook=note)
    return list(found.values())


def _one(name: str) -> Callable[[Any], Iterable[Value]]:
    def values(change: Any) -> Iterable[Value]:
        value = getattr(change, name)
        return () if value is None else (value,)

    return values


def _on_arrival(change: StopsSet | RevertBegun) -> Iterable[Value]:
    """Return the values of the edit that is to be made at a checkpoint."""
    arrival = change.arrival
    return () if arrival is None or arrival.edit is None else arrival.edit.values.values()


_VALUES: dict[type, Callable[[Any], Iterable[Value]]] = {
    AttemptAdded: lambda change: (change.input,),
    AttemptMoved: _one("result"),
    AttemptsBegun: _one("items"),
    ExecutionMoved: lambda change: [each for each in (change.output, change.errors) if each is not None],
    Published: lambda change: change.values.values(),
    GlobalsPublished: lambda change: change.values.values(),
    ExecutionCreated: lambda change: (change.input, change.params, change.environment),
    RoundPlanned: lambda change: [*_one("given")(change), *change.inputs.values()],
    ContextEdited: lambda change: change.values.values(),
    EnvironmentChanged: lambda change: (change.environment,),
    CheckpointReached: _one("data"),
    StopsSet: _on_arrival,
    RevertBegun: _on_arrival,
    RevertMoved: lambda change: change.published.values(),
    Consolidated: _kept_values,
}
"""The values that a change carries, by its kind."""


class CompiledWorkflows:
    """Compiled workflows and ad-hoc actions by definition id.

    A compiled definition takes many times the memory of its text. So the least recently used ones are dropped when the
    texts of all exceed the longest one by too much, and long ones when they are not used (`drop_unused`).
    """

    def __init__(
        self, compile_row: Callable[[DefinitionRow], Workflow | AdHocAction], bytes_max: int = DEFINITIONS_BYTES_MAX
    ) -> None:
        self.on_drop: list[Callable[[Sequence[Workflow | AdHocAction]], None]] = []
        """Called with the long definitions that were dropped, so that others drop their references too."""
        self._compile_row = compile_row
        self._bytes_max = bytes_max
        self._compiled: OrderedDict[str, tuple[Workflow | AdHocAction, int]] = OrderedDict()
        self._bytes = 0
        self._unused: set[str] = set()
        """The long definitions that were not looked up since `drop_unused`."""

    def of(self, created: ExecutionCreated, queries: Queries) -> Workflow:
        """Return the workflow that an execution runs. Raises LookupError when its definition does not exist."""
        if not created.workflow:
            return standalone_workflow(created)
        found = self._find(created.definition_id)
        if found is None:
            row = queries.definition(created.definition_id)
            if row is None:
                raise LookupError(f"definition {created.definition_id} of workflow {created.workflow!r} is missing")
            found = self.compile(row)
        assert isinstance(found, Workflow)
        return found

    def compile(self, row: DefinitionRow) -> Workflow | AdHocAction:
        """Return a stored definition, compiled. It is not validated again: it was valid when it was created."""
        found = self._find(row.definition_id)
        if found is None:
            found = self._compile_row(row)
            self.put(row.definition_id, found)
        return found

    def put(self, definition_id: str, compiled: Workflow | AdHocAction) -> None:
        """Keep a compiled definition."""
        if definition_id in self._compiled:
            return
        size = MEMBER_BYTES + (len(repr(compiled.spec)) if isinstance(compiled, Workflow) else 0)
        self._compiled[definition_id] = (compiled, size)
        self._bytes += size
        if self._bytes > self._bytes_max:
            self._drop_oldest(self._bytes_max + max(size for _, size in self._compiled.values()))

    def drop_unused(self, is_in_use: Callable[[Workflow | AdHocAction], bool]) -> int:
        """Drop the long definitions that are not in use and were not looked up since the last call. Return how
        many."""
        long = [definition_id for definition_id, (_, size) in self._compiled.items() if size > LONG_BYTES]
        unused = [each for each in long if each in self._unused and not is_in_use(self._compiled[each][0])]
        self._drop(unused)
        self._unused = {*long} - {*unused}
        return len(unused)

    def _drop_oldest(self, limit: int) -> None:
        dropped, left = [], self._bytes
        for definition_id, (_, size) in self._compiled.items():
            if left <= limit:
                break
            dropped.append(definition_id)
            left -= size
        self._drop(dropped)

    def _drop(self, definition_ids: Iterable[str]) -> None:
        dropped = [self._compiled.pop(definition_id) for definition_id in definition_ids]
        self._bytes -= sum(size for _, size in dropped)
        for call in self.on_drop if dropped else ():
            call([compiled for compiled, size in dropped if size > LONG_BYTES])

    def _find(self, definition_id: str) -> Workflow | AdHocAction | None:
        kept = self._compiled.get(definition_id)
        if kept is None:
            return None
        self._compiled.move_to_end(definition_id)
        self._unused.discard(definition_id)
        return kept[0]


def standalone_workflow(created: ExecutionCreated) -> Workflow:
    """Return the workflow of one task that carries a standalone action (S17). The params name the action."""
    params = created.params.data
    assert isinstance(params, dict)
    timeout_s, retry = params.get("timeout_s"), params.get("retry")
    action = str(params["action"])
    task = Task(
        name=action,
        action=Constant(action),
        input=Constant(params.get("input") or {}),
        policies=Policies(
            limit_s=None if timeout_s is None else float(timeout_s),
            retry=None if retry is None else Retry(Constant(retry["count"]), Constant(retry["delay_s"])),
        ),
        target=Constant(params["target"]) if "target" in params else None,
    )
    return Workflow(name="", tasks={action: task}, starts=(action,))


class ExecutionCache:
    """The executions in memory. The least recently used ones are dropped when all exceed the size of the cache."""

    def __init__(self, cache_bytes: int, workflows: CompiledWorkflows) -> None:
        self.workflows = workflows
        workflows.on_drop.append(self._drop_workflows)
        self._cache_bytes = cache_bytes
        self._copies: OrderedDict[str, tuple[Copy, int]] = OrderedDict()
        self._weight = 0
        self._resting: OrderedDict[str, None] = OrderedDict()
        """Those at rest. They are dropped first, because only a rerun needs them."""
        self._resting_weight = 0
        self._waiting: OrderedDict[str, None] = OrderedDict()
        """Small ones that wait for third parties only, perhaps for days: what they need is in the store."""
        self._waiting_weight = 0

    def __len__(self) -> int:
        return len(self._copies)

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._copies

    def _drop_workflows(self, dropped: Sequence[Workflow | AdHocAction]) -> None:
        if dropped:
            gone = {id(each) for each in dropped}
            for copy, _ in self._copies.values():
                if id(copy.workflow) in gone:
                    copy.workflow = None

    def drop_unused_workflows(self) -> int:
        """Drop the long definitions that no unfinished execution runs and that were not looked up since the last
        call. Return how many."""
        running = {id(copy.workflow) for copy, _ in self._copies.values() if not copy.execution.is_at_rest}
        return self.workflows.drop_unused(lambda compiled: id(compiled) in running)

    def find(self, execution_id: str, revision: int) -> Copy | None:
        """Return the cached execution if it is at this revision."""
        kept = self._copies.get(execution_id)
        return kept[0] if kept is not None and kept[0].execution.revision == revision else None

    def known(self, execution_id: str, revision: int, first_sequence: int) -> int:
        """Return the revision of the cached execution, if it can be brought up to this one. 0: it has to be loaded
        anew, because it is not cached or has discarded its beginning meanwhile.

        `first_sequence`: that of its journal.
        """
        kept = self._copies.get(execution_id)
        if kept is None:
            return 0
        execution = kept[0].execution
        # A higher revision is impossible, unless a commit was lost that this engine saw succeed.
        is_usable = execution.revision <= revision and execution.first_sequence == first_sequence
        return execution.revision if is_usable else 0

    def catch_up(self, execution_id: str, known: int, changes: Sequence[AnyChange | Consolidated]) -> Copy:
        """Return the execution with these changes applied: to the cached one at the revision `known`, or, if that is 0,
        to a new one."""
        if known:
            copy, _ = self._copies[execution_id]
            copy.go_on(changes)
            return copy
        self.drop(execution_id)
        return Copy(replay(changes), None, changes)

    def load(self, execution_id: str, transaction: Transaction) -> Copy:
        """Load a new copy from the journal. Nobody else has a reference to it."""
        changes = transaction.changes_after(execution_id, 0)
        return Copy(replay(changes), None, changes)

    def put(self, copy: Copy) -> None:
        """Keep a copy that was just used."""
        execution_id = copy.execution.id
        self.drop(execution_id)
        weight = copy.weight
        self._copies[execution_id] = (copy, weight)
        self._weight += weight
        if copy.execution.is_at_rest:
            copy.drop_data()
            self._resting[execution_id] = None
            self._resting_weight += weight
        elif weight <= WAITING_BYTES_MAX and copy.waits_for_others:
            self._waiting[execution_id] = None
            self._waiting_weight += weight
        while self._waiting and self._waiting_weight > self._cache_bytes * WAITING_SHARE:
            self.drop(next(iter(self._waiting)))
        while self._resting and self._resting_weight > self._cache_bytes * RESTING_SHARE:
            self.drop(next(iter(self._resting)))
        while self._weight > self._cache_bytes and len(self._copies) > 1:
            self.drop(next(iter(self._resting or self._copies)))

    def drop(self, execution_id: str) -> None:
        """Drop a copy."""
        kept = self._copies.pop(execution_id, None)
        if kept is not None:
            self._weight -= kept[1]
            if execution_id in self._resting:
                del self._resting[execution_id]
                self._resting_weight -= kept[1]
            elif execution_id in self._waiting:
                del self._waiting[execution_id]
                self._waiting_weight -= kept[1]
