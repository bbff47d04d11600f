"""Executors and people as the simulation plays them: they keep what they are told, and repeat what nobody answered."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.engine.executors.sessions import Delivery, Greeting
from dalsegno.store.descriptions import write_description
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2
from dalsegno.workflow.events import TaskDone, TaskOutcome
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.refusals import Unavailable
from dalsegno.workflow.value import Value

SERVED = ("std.noop", "std.echo", "std.http")
OUTCOMES = ["succeeded"] * 6 + ["failed", "cancelled", "delegated"]


@dataclass
class Executor:
    """Runs actions when the simulation says so, and keeps each outcome until it is acknowledged."""

    name: str
    chance: random.Random
    slots: int = 3
    session_id: str = ""
    running: dict[Delivery, str] = field(default_factory=dict)
    finished: dict[Delivery, TaskDone] = field(default_factory=dict)
    arrivals: Counter[str] = field(default_factory=Counter)
    """How often each attempt of an unsafe action has reached any process of this executor."""

    def begin(self) -> None:
        """A new process: nothing is remembered."""
        self.session_id = str(_uuid(self.chance))
        self.running, self.finished = {}, {}

    @property
    def in_flight(self) -> frozenset[Delivery]:
        return frozenset([*self.running, *self.finished])

    @property
    def credit(self) -> int:
        return max(self.slots - len(self.running), 0)

    def greeting(self) -> Greeting:
        """What its Hello says."""
        known = {action.name: write_description(action) for action in builtin_descriptions()}
        descriptions = {name: known[name] for name in SERVED}
        return Greeting(self.name, self.session_id, descriptions, self.slots, {}, self.in_flight)

    def receive(self, run: executor_service_pb2.RunAction) -> None:
        """An action arrives; one that it has already is not run twice."""
        delivery = (*parse_attempt_id(run.action_execution_id), run.delivery)
        if delivery in self.in_flight:
            return
        self.running[delivery] = run.action
        if not run.context.safe_to_rerun:
            self.arrivals[run.action_execution_id] += 1

    def finish_one(self, outcomes: Sequence[str] = OUTCOMES) -> bool:
        """Some action comes to its outcome, if it has any."""
        if self.running:
            delivery = self.chance.choice(list(self.running))
            self.running.pop(delivery)
            outcome = TaskOutcome(self.chance.choice(outcomes))
            result = Value(data=delivery[2]) if outcome == "succeeded" else None
            self.finished[delivery] = TaskDone(
                key=delivery[1], outcome=outcome, delivery=delivery[2], result=result, error="broken"
            )
            return True
        return False


class Answer:
    """Stands where a future would: whoever asked reads it, unless they have given up."""

    def __init__(self) -> None:
        self.result: wire.SubmitResponse | None = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self.result is not None or self.error is not None

    def set_result(self, result: wire.SubmitResponse) -> None:
        self.result = result

    def set_exception(self, error: BaseException) -> None:
        self.error = error


@dataclass
class Person:
    """Asks for things with request ids, and asks again until there is an answer."""

    open: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """What is not answered yet: request id to the kind of request and the message."""
    started: dict[str, str] = field(default_factory=dict)
    """The executions that were started or forked: request id to execution id."""
    answers: dict[str, bytes] = field(default_factory=dict)
    """The first answers."""

    def take(self, request_id: str, answer: Answer) -> None:
        """An answer has come. A second one to the same request is the same (request_id)."""
        if isinstance(answer.error, Unavailable) or not answer.done():
            return
        kind, _ = self.open.get(request_id, ("", None))
        self.open.pop(request_id, None)
        if answer.result is None:
            return
        if kind in ("start_execution", "rerun_execution"):
            self.started[request_id] = getattr(answer.result, kind).execution.id
        text = answer.result.SerializeToString()
        assert self.answers.setdefault(request_id, text) == text, "the answer to a repeated request differs"


def _uuid(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128), version=4)
