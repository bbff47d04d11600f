"""A whole world in memory and in virtual time: the core with nothing round it, for stories, conformance and simulation.

Each step is followed by a replay of the journal, encoded and decoded as the store does it, so that whatever runs here
also shows that `replay(journal)` equals the execution.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

import msgspec

from dalsegno.definitions.document import MemberKind, read
from dalsegno.secrets.cipher import StoreCiphers
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AnyChange, ExecutionCreated
from dalsegno.workflow.checkpoints import forking
from dalsegno.workflow.checkpoints.forking import ForkWish
from dalsegno.workflow.codec import Texts, decode_changes, decode_event, encode_changes, encode_event
from dalsegno.workflow.commands import AnyCommand, CancelAction, CreateChild, Notify
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.contexts.context import Cell
from dalsegno.workflow.contexts.histories import Histories, shown
from dalsegno.workflow.contexts.layers import Layered
from dalsegno.workflow.events import Event, HandedOut, StartRequested, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, derived_id, task_id
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import ActionDescription, AdHocAction, Parameter, Workflow
from dalsegno.workflow.outside import FoundWorkflow, Given, PausedBelow
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.refusals import NotFound, Refusal
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.secrets import Cipher
from dalsegno.workflow.states import QUIET_EXECUTION, AttemptState, ExecutionState
from dalsegno.workflow.value import NULL, Value, moment

ABSENT: Final[object] = object()
"""Stands for a result that is not given, where null is a result."""

CIPHERS = StoreCiphers(bytes(32))
"""The secrets of all worlds have the same key."""


@dataclass(frozen=True)
class Played:
    """What an action comes to, `after_s` seconds of virtual time from when it was handed out."""

    outcome: str = "succeeded"
    result: object = ABSENT
    error: str = ""
    after_s: float = 0.0

    @property
    def value(self) -> Value | None:
        """Its result; None when it has none. A success always has one."""
        if self.result is ABSENT:
            return NULL if self.outcome == "succeeded" else None
        return Value(data=self.result)


HOLD = Played("hold")
"""No outcome: the test reports it later."""

Player = Callable[[Execution, Attempt], Played]


def described(name: str, *parameters: str, accepts_any: bool = False, safe: bool = True) -> ActionDescription:
    """An action; a parameter with `=` after its name is optional."""
    known = tuple(
        Parameter(text.rstrip("="), not text.endswith("="), Constant(None) if text.endswith("=") else None)
        for text in parameters
    )
    return ActionDescription(name, known, accepts_any, safe)


STANDARD = {
    action.name: action
    for action in (
        described("std.noop"),
        described("std.echo", "output", "delay="),
        described("std.fail", "error_data="),
        described("std.sleep", "seconds="),
        described("std.async_noop"),
        described("std.test_dict", "size=", "key_prefix=", "val="),
        described(
            "std.http",
            "url",
            "method=",
            "params=",
            "body=",
            "json=",
            "headers=",
            "cookies=",
            "auth=",
            "timeout=",
            "allow_redirects=",
            "proxies=",
            "verify=",
            safe=False,
        ),
        described("std.mistral_http", "url", accepts_any=True, safe=False),
        described("std.email", "from_addr", "to_addrs", "smtp_server", accepts_any=True, safe=False),
        described("std.ssh", "cmd", "host", "username", accepts_any=True, safe=False),
        described("std.javascript", "script", "context=", safe=False),
        described("std.js", "script", "context=", safe=False),
    )
}


def play_standard(execution: Execution, attempt: Attempt) -> Played:
    """What the standard actions do."""
    given = attempt.input.data
    assert isinstance(given, dict)
    if attempt.action == "std.echo":
        return Played(result=given["output"], after_s=_number(given.get("delay")))
    if attempt.action == "std.fail":
        data = given.get("error_data")
        return Played("failed", ABSENT if data is None else data, "Fail action expected exception.")
    if attempt.action == "std.sleep":
        return Played(after_s=_number(given.get("seconds", 1)))
    if attempt.action in ("std.async_noop", "std.mistral_http"):
        return Played("delegated")
    if attempt.action == "std.test_dict":
        return Played(result={f"{given.get('key_prefix', '')}{n}": given.get("val") for n in range(given["size"])})
    return Played()


def _number(given: object) -> float:
    return float(given) if isinstance(given, int | float) else 0.0


@dataclass
class World:
    """Definitions, executions, executors and time."""

    player: Player = play_standard
    now_s: float = 1_700_000_000.0
    workflows: dict[tuple[str, str], FoundWorkflow] = field(default_factory=dict)
    adhoc: dict[tuple[str, str], AdHocAction] = field(default_factory=dict)
    actions: dict[str, ActionDescription] = field(default_factory=lambda: dict(STANDARD))
    compiled: dict[str, Workflow] = field(default_factory=dict)
    environments: dict[str, Mapping[str, object]] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    journals: dict[str, list[str]] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    cancelled: list[CancelAction] = field(default_factory=list)
    notices: list[Notify] = field(default_factory=list)
    heard: dict[tuple[str, AttemptKey], float] = field(default_factory=dict)
    held: dict[tuple[str, AttemptKey], Attempt] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    _mail: deque[tuple[str, Event]] = field(default_factory=deque)
    _later: list[tuple[float, int, str, Event]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    # Surroundings: what a step may look up.

    def find_workflow(self, name: str, namespace: str) -> FoundWorkflow | None:
        return self.workflows.get((name, namespace)) or self.workflows.get((name, ""))

    def find_action(self, name: str, namespace: str) -> ActionDescription | AdHocAction | None:
        return self.adhoc.get((name, namespace)) or self.adhoc.get((name, "")) or self.actions.get(name)

    def environment(self, name: str, namespace: str) -> Mapping[str, object]:
        return self.environments.get(name, {})

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        return self.heard.get((execution_id, key), 0.0)

    def paused_below(self, execution_id: str) -> list[PausedBelow]:
        found = []
        for execution in self.executions.values():
            above = self._ancestors(execution)
            if execution_id in above and execution.state in (ExecutionState.PAUSED, ExecutionState.PAUSING):
                way = (*reversed(above[: above.index(execution_id)]), execution.id)
                failed = dict.fromkeys(execution.tasks[number].name for number in execution.unhandled)
                found.append(PausedBelow(execution.id, execution.created.workflow, way, tuple(failed)))
        return found

    def tasks(
        self, execution_id: str | None, namespace: str, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Records as the engine gives them."""
        records = [
            _task_record(execution, task)
            for execution in self.executions.values()
            if execution.created.namespace == namespace
            and (execution_id in (None, execution.id) or (recursive and execution_id in self._ancestors(execution)))
            for task in execution.tasks.values()
        ]
        return [
            each for each in records if state in (None, each["state"]) and not (flat and each["type"] == "WORKFLOW")
        ]

    def _ancestors(self, execution: Execution) -> list[str]:
        found = []
        while execution.created.parent is not None:
            execution = self.executions[execution.created.parent.execution_id]
            found.append(execution.id)
        return found

    def executions_(self, namespace: str, criteria: Mapping[str, object]) -> list[dict[str, object]]:
        """Records as the engine gives them."""
        records = (_execution_record(each) for each in self.executions.values() if each.created.namespace == namespace)
        return [
            record
            for record in records
            if all(criteria.get(name) in (None, record[name]) for name in ("id", "root_execution_id", "state"))
        ]

    # Definitions and starts.

    def define(self, text: str, namespace: str = "", *, name: str = "") -> list[str]:
        """Store a document, under `name` when it has none; the names of its workflows. Fails the test on problems."""
        document = read(text, name=name)
        assert not document.problems, [str(problem) for problem in document.problems]
        names = []
        for member in document.members:
            if member.kind is MemberKind.ACTION:
                assert member.action is not None
                self.adhoc[member.name, namespace] = member.action
            else:
                assert member.workflow is not None
                self.add(member.workflow, namespace)
                names.append(member.name)
        return names

    def add(self, workflow: Workflow, namespace: str = "") -> None:
        """Store a compiled workflow."""
        definition_id = f"definition-{next(self._count)}"
        self.compiled[definition_id] = workflow
        self.workflows[workflow.name, namespace] = FoundWorkflow(workflow, definition_id, 1, namespace)

    def start(
        self,
        name: str,
        input: object = None,
        *,
        params: object = None,
        environment: object = None,
        namespace: str = "",
        deadline_s: float | None = None,
        stop_at: tuple[str, ...] = (),
    ) -> Execution:
        """Start an execution of a workflow of exactly this namespace; raises NotFound, and what the machine refuses
        with."""
        found = self.workflows.get((name, namespace))
        if found is None:
            raise NotFound("workflow", name)
        creation = ExecutionCreated(
            execution_id=derived_id(self.now_s, f"root {next(self._count)}"),
            definition_id=found.definition_id,
            workflow=name,
            namespace=namespace,
            version=found.version,
            language=found.workflow.language,
            input=Value(data={} if input is None else input),
            params=Value(data=params or {}),
            environment=Value(data=environment or {}),
            deadline_s=deadline_s,
            stop_at=stop_at,
            at_s=self.now_s,
        )
        self.tell(creation.execution_id, StartRequested(at_s=self.now_s, creation=creation))
        return self.executions[creation.execution_id]

    def fork(
        self,
        original: Execution,
        name: str = "",
        *,
        is_latest: bool = False,
        input: dict[str, object] | None = None,
        environment: object = None,
        **wish: Any,
    ) -> Execution:
        """Fork an execution at an entry, as the desk does; raises what the machine refuses with."""
        created = original.created
        found = self.workflows[created.workflow, created.namespace]
        workflow = self.compiled[created.definition_id]
        given = original.created.input.data
        assert isinstance(given, dict)
        creation = msgspec.structs.replace(
            created,
            execution_id=derived_id(self.now_s, f"fork {next(self._count)}"),
            definition_id=found.definition_id if is_latest else created.definition_id,
            language=found.workflow.language if is_latest else created.language,
            input=Value(data={**given, **(input or {})}),
            root_id="",
            parent=None,
            depth=0,
            at_s=self.now_s,
        )
        start = forking.fork(
            workflow,
            original,
            ForkWish(
                name=name,
                input=tuple(input or ()),
                environment=None if environment is None else Value(data=environment),
                **wish,
            ),
            StartRequested(at_s=self.now_s, actor="ann", creation=creation),
            Outside(self),
            Given(self.now_s, (creation.execution_id,)),
        )
        self.tell(creation.execution_id, start)
        return self.executions[creation.execution_id]

    def delete(self, execution: Execution) -> None:
        """Delete an execution with its children, and everything that is on its way to them."""
        for child in self.children(execution):
            self.delete(child)
        del self.executions[execution.id], self.journals[execution.id]
        self._mail = deque(each for each in self._mail if each[0] != execution.id)
        self._later = [each for each in self._later if each[2] != execution.id]
        heapq.heapify(self._later)

    # Events.

    def tell(self, execution_id: str, event: Event) -> machine.StepResult:
        """One event through the machine; what it changed is journaled, its commands are carried out."""
        execution = self.executions.get(execution_id)
        if execution is None:
            assert isinstance(event, StartRequested)
            assert event.creation is not None
            workflow = self.compiled[event.creation.definition_id]
        else:
            workflow = self.compiled[execution.created.definition_id]
        before = None if execution is None else execution.revision
        try:
            outcome = machine.step(workflow, execution, event, Outside(self))
        except Refusal:
            assert execution is None or execution.revision == before, "a refusal has changed something"
            raise
        self.executions[execution_id] = outcome.execution
        self._journal(execution_id, outcome.changes)
        if outcome.discarded is not None:
            self._begin_journal(execution_id, outcome.discarded.consolidated)
        for command in outcome.commands:
            self._carry_out(command)
        return outcome

    def _journal(self, execution_id: str, changes: Sequence[AnyChange | Consolidated]) -> None:
        if changes:
            self.journals.setdefault(execution_id, []).append(encode_changes(changes, self.texts))

    def _begin_journal(self, execution_id: str, consolidated: Consolidated) -> None:
        """Let the journal begin with what a discard leaves."""
        journal = self.journal(execution_id)
        behind = journal[consolidated.entry.sequence + 1 - _first(journal) :]
        self.journals[execution_id] = [encode_changes([each], self.texts) for each in (consolidated, *behind)]

    def journal(self, execution_id: str) -> list[AnyChange | Consolidated]:
        """The changes of an execution, as far as they are kept."""
        return [change for row in self.journals.get(execution_id, ()) for change in decode_changes(row, self.texts)]

    def changes(self, execution_id: str, up_to: int) -> list[AnyChange | Consolidated]:
        """The same up to this sequence number."""
        journal = self.journal(execution_id)
        return journal[: up_to + 1 - _first(journal)]

    def discarded_below(self, execution_ids: Sequence[str]) -> list[str]:
        """Those of the executions, and of their descendants, that have discarded their beginning."""
        return [
            execution.id
            for execution in self.executions.values()
            if execution.first_sequence > 1 and {execution.id, *self._ancestors(execution)} & {*execution_ids}
        ]

    def _carry_out(self, command: AnyCommand) -> None:
        if isinstance(command, CancelAction):
            self.cancelled.append(command)
        elif isinstance(command, CreateChild):
            child = command.creation
            self.executions[child.execution_id] = replay([child])
            self._journal(child.execution_id, [child])
            self._mail.append((child.execution_id, StartRequested(at_s=self.now_s)))
        elif isinstance(command, Notify):
            self.notices.append(command)
        elif command.due_s is None:
            aside = Texts()
            self._mail.append((command.to, decode_event(encode_event(command.event, aside), aside)))
        else:
            heapq.heappush(self._later, (command.due_s, next(self._count), command.to, command.event))

    def waiting_events(self) -> list[Event]:
        """What has been sent and not been delivered, but for what waits for its time."""
        return [event for _, event in self._mail]

    def run(self, until_s: float = 1_000_000.0) -> None:
        """Let everything happen that happens by itself, at most so many seconds from now."""
        end_s = self.now_s + until_s
        for _ in range(1_000_000):
            if self._mail:
                to, event = self._mail.popleft()
                self._tell_quietly(to, event)
            elif not self._hand_out():
                if not self._later or self._later[0][0] > end_s:
                    return
                due_s, _, to, event = heapq.heappop(self._later)
                self.now_s = max(self.now_s, due_s)
                self._tell_quietly(to, event)
        raise AssertionError("the world does not come to rest")

    def _tell_quietly(self, to: str, event: Event) -> None:
        """What nobody waits for an answer to: a refusal just drops it, as the engine does."""
        try:
            self.tell(to, _at(event, self.now_s))
        except Refusal as refusal:
            self.refused.append(refusal)

    def _hand_out(self) -> bool:
        """Give everything that is READY to a player who has room for all of it, as one batch of the engine does."""
        handed = False
        for execution in list(self.executions.values()):
            for key in list(execution.ready) if execution.state not in QUIET_EXECUTION else ():
                event = HandedOut(at_s=self.now_s, key=key, session_id="session", executor_id="player")
                self.tell(execution.id, event)
                self._play(execution, execution.attempts[key])
                handed = True
        return handed

    def _play(self, execution: Execution, attempt: Attempt) -> None:
        played = self.player(execution, attempt)
        if played is HOLD:
            self.held[execution.id, attempt.key] = attempt
            return
        event = TaskDone(
            at_s=self.now_s,
            key=attempt.key,
            outcome=TaskOutcome(played.outcome),
            delivery=attempt.delivery,
            result=played.value,
            error=played.error,
        )
        if played.after_s:
            heapq.heappush(self._later, (self.now_s + played.after_s, next(self._count), execution.id, event))
        else:
            self._mail.append((execution.id, event))

    def finish(self, execution: Execution, attempt: Attempt, played: Played) -> machine.StepResult:
        """Report on an attempt, as the executor that was given it."""
        self.held.pop((execution.id, attempt.key), None)
        event = TaskDone(
            at_s=self.now_s,
            key=attempt.key,
            outcome=TaskOutcome(played.outcome),
            delivery=attempt.delivery,
            result=played.value,
            error=played.error,
        )
        return self.tell(execution.id, event)

    # Looking.

    def check_journals(self) -> None:
        """Every journal, read back, gives the execution that wrote it."""
        for execution_id in self.journals:
            replayed, kept = replay(self.journal(execution_id)), self.executions[execution_id]
            for name in Execution.__slots__:
                if name == "untrimmed":
                    continue
                ours, theirs = getattr(kept, name), getattr(replayed, name)
                if name == "tasks":
                    ours, theirs = _stored(ours), _stored(theirs)
                if theirs != ours:
                    assert _plain(theirs) == _plain(ours), (name, theirs, ours)

    def children(self, execution: Execution) -> list[Execution]:
        """The executions that its tasks started."""
        return [
            child
            for child in self.executions.values()
            if child.created.parent is not None and child.created.parent.execution_id == execution.id
        ]


def task(execution: Execution, name: str, nth: int = 1) -> TaskExecution:
    """The nth execution of the named task."""
    return execution.tasks[execution.by_name[name][nth - 1]]


def states(execution: Execution) -> dict[str, str]:
    """The state of the newest execution of each task."""
    return {name: str(execution.tasks[numbers[-1]].state) for name, numbers in execution.by_name.items()}


def _task_record(execution: Execution, task: TaskExecution) -> dict[str, object]:
    attempt = execution.current(task)
    return {
        "id": task_id(execution.id, task.number),
        "name": task.name,
        "spec": {},
        "state": str(task.state),
        "state_info": task.info or None,
        "result": execution.result(task) if execution.has_result(task) else [],
        "published": {name: value.data for name, value in task.published.items()},
        "type": "WORKFLOW" if attempt is not None and attempt.child_id else "ACTION",
        "workflow_execution_id": execution.id,
        "created_at": moment(task.created_s),
        "updated_at": moment(task.ended_s or task.started_s or task.created_s),
    }


def _execution_record(execution: Execution) -> dict[str, object]:
    return {
        "id": execution.id,
        "name": execution.created.workflow,
        "state": str(execution.state),
        "state_info": execution.info or None,
        "input": execution.created.input.data,
        "output": None if execution.output is None else execution.output.data,
        "params": execution.created.params.data,
        "created_at": moment(execution.created.at_s),
        "updated_at": moment(execution.moved_s),
        "root_execution_id": execution.root_id,
    }


def _at(event: Event, at_s: float) -> Event:
    return msgspec.structs.replace(event, at_s=at_s)


def _first(journal: Sequence[AnyChange | Consolidated]) -> int:
    """The sequence of the first change."""
    first = journal[0]
    if isinstance(first, Consolidated):
        return first.entry.sequence
    assert isinstance(first, ExecutionCreated)
    return first.sequence


def _stored(tasks: dict[int, TaskExecution]) -> list[dict[str, object]]:
    """The records of tasks without what is computed on demand."""
    names = [name for name in TaskExecution.__struct_fields__ if name not in _COMPUTED]
    return [{name: getattr(task, name) for name in names} for task in tasks.values()]


_COMPUTED = frozenset({"context_in", "context_out", "branch_contexts", "altered"})


def _plain(record: Any) -> object:
    """A record as plain data: of contexts their values, without what is computed on demand."""
    if isinstance(record, Layered):  # whatever it began with: that is replaced whenever it is seen
        return shown(record.value, Histories([record]).cover(record), None)
    if isinstance(record, Cell):
        return record.value
    if isinstance(record, msgspec.Struct):
        names = [name for name in record.__struct_fields__ if name not in _COMPUTED]
        return {name: _plain(getattr(record, name)) for name in names}
    if is_dataclass(record):
        return {each.name: _plain(getattr(record, each.name)) for each in fields(record) if each.name not in _COMPUTED}
    if isinstance(record, Mapping):
        return {key: _plain(value) for key, value in record.items()}
    if isinstance(record, list | tuple | range):
        return [_plain(each) for each in record]
    return record


class Outside:
    """The world as the machine may see it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.find_workflow = world.find_workflow
        self.find_action = world.find_action
        self.tasks = world.tasks
        self.environment = world.environment
        self.paused_below = world.paused_below
        self.heard_s = world.heard_s
        self.changes = world.changes
        self.discarded_below = world.discarded_below

    def cipher(self, namespace: str) -> Cipher:
        return CIPHERS.of(namespace)

    def executions(self, namespace: str, criteria: dict[str, object]) -> list[dict[str, object]]:
        return self._world.executions_(namespace, criteria)


__all__ = ["HOLD", "AttemptState", "ExecutionState", "Played", "World", "play_standard", "states", "task"]
