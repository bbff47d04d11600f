"""What the steps of a check act on: the engine, the present stream, and the actions that the check has handed out."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from dalsegno.executor_check.child import Child
from dalsegno.executor_check.engine import Engine
from dalsegno.executor_check.line import ENDING, Key, Line
from dalsegno.rpc.convert import duration
from dalsegno.v1 import executor_service_pb2 as wire

REQUIRED = ("echo", "sleep", "fail")
"""The roles that an executor must serve for the check; others are left out where it does not serve them."""

ROLES = (*REQUIRED, "delegate", "big", "progress", "pause")
"""What the actions of the check do (README.md)."""


class Unmet(Exception):
    """A step is not met."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected: {expected}; came: {came}")
        self.expected = expected
        self.came = came


class Skipped(Exception):
    """The check does not apply to this executor, for this reason."""


class NobodyConnects(Exception):
    """There is no executor to check."""


@dataclass(frozen=True, slots=True)
class Order:
    """An action to hand out."""

    label: str
    """Its name within the check."""
    role: str
    """What it does."""
    input: Mapping[str, object] = field(default_factory=dict)
    """Its input; only what the executor's description names is sent."""
    delivery: int = 1
    time_left_s: float | None = None
    deadline_s: float | None = None
    """The deadline that people read, from now on by the clock of the Welcome."""


class Scene:
    """The state of the whole run; `begin` forgets what a check has handed out."""

    def __init__(self, engine: Engine, second: Engine | None, child: Child, names: Mapping[str, str]) -> None:
        self.engine = engine
        self.second = second
        """Where a second engine listens during the checks that need one."""
        self.child = child
        self.names = {role: names.get(role, f"check.{role}") for role in ROLES}
        self.clock_offset_s = 0.0
        """How far the clock of the check's engine is from the real one."""
        self.before: Line | None = None
        """The stream before the present one."""
        self.is_ordinary = False
        """Whether the Welcome of the present stream is the usual one."""
        self._line: Line | None = None
        self._ids: dict[str, list[str]] = {}
        self._first: dict[Key, wire.TaskDone] = {}

    @property
    def line(self) -> Line:
        """Return the present stream. Raises Unmet if there is none."""
        if self._line is None:
            raise Unmet("a stream", "none is open")
        return self._line

    @property
    def has_connected(self) -> bool:
        """Return whether an executor has ever opened a stream."""
        return self._line is not None

    @property
    def is_open(self) -> bool:
        """Return whether there is a stream that both sides use."""
        return self._line is not None and not self._line.is_closed and not self._line.ended.done()

    def take_line(self, line: Line) -> None:
        """Use a new stream."""
        self.before, self._line = self._line, line

    def take_broken_rules(self) -> list[str]:
        """Return the rules of fields that messages of the present stream have broken, once each."""
        broken, self.line.broken_rules = self.line.broken_rules, []
        return broken

    def begin(self) -> None:
        """Forget the actions of the last check."""
        self._ids.clear()
        self._first.clear()

    def remember(self, done: wire.TaskDone) -> wire.TaskDone:
        """Return the first outcome of its delivery that `remember` was called with, on whatever stream."""
        return self._first.setdefault((done.action_execution_id, done.delivery), done)

    def ids(self, label: str) -> list[str]:
        """Return the action executions of a label."""
        return self._ids[label]

    def keys(self, label: str, delivery: int = 1) -> list[Key]:
        """Return the deliveries of a label."""
        return [(each, delivery) for each in self._ids[label]]

    def known_ids(self) -> set[str]:
        """Return all action executions of the check."""
        return {each for ids in self._ids.values() for each in ids}

    def outcomes(self, label: str, delivery: int = 1) -> list[wire.TaskDone]:
        """Return what the present stream has brought of a label, its progress too."""
        keys = set(self.keys(label, delivery))
        return [done for done in self.line.outcomes if (done.action_execution_id, done.delivery) in keys]

    def endings(self, label: str, delivery: int = 1) -> list[wire.TaskDone]:
        """Return the outcomes of a label that end it."""
        return [done for done in self.outcomes(label, delivery) if done.outcome in ENDING]

    def description_of(self, role: str) -> wire.ActionDescription | None:
        """Return the description of the action with this role; None if the executor does not serve it."""
        name = self.names[role]
        return next((each for each in self.line.hello.actions if each.name == name), None)

    def make_run(self, order: Order, count: int) -> list[wire.RunAction]:
        """Return the messages that hand an action out `count` times; the same ids again for a label that is known.

        Raises Skipped if the executor does not serve an optional action, Unmet if it does not serve a required one.
        """
        action, input = order.role, order.input
        if order.role in self.names:
            description = self.description_of(order.role)
            action = self.names[order.role]
            if description is None and order.role in REQUIRED:
                raise Unmet(f"a Hello that describes {action}", "it does not")
            if description is None:
                raise Skipped(f"it does not serve {action}")
            names = {each.name for each in description.parameters}
            input = {key: value for key, value in input.items() if description.accepts_any or key in names}
        ids = self._ids.setdefault(order.label, [f"{uuid.uuid4()}.1.0.1" for _ in range(count)])
        return [self._fill(order, each, action, json.dumps(input)) for each in ids]

    def _fill(self, order: Order, id: str, action: str, input: str) -> wire.RunAction:
        run = wire.RunAction(action_execution_id=id, delivery=order.delivery, action=action, input=input)
        run.task_token = f"token-of-{id}"
        run.trace_context["traceparent"] = f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01"
        run.context.execution_id, run.context.workflow, run.context.task_name = id.partition(".")[0], "check", "check"
        run.context.task_number, run.context.attempt = 1, 1
        if order.time_left_s is not None:
            run.time_left.CopyFrom(duration(order.time_left_s))
        if order.deadline_s is not None:
            run.deadline.FromMilliseconds(int((self.now_s() + order.deadline_s) * 1000))
        return run

    def now_s(self) -> float:
        """Return the time by the clock of the check's engine."""
        return time.time() + self.clock_offset_s
