"""The scope of a job, seen from the process that does it: asked over its channel, each question once."""

from __future__ import annotations

import json
from typing import Any

from dalsegno.expressions.pool.frames import Channel, Frame, Kind
from dalsegno.expressions.pool.limits import QUESTIONS_MAX
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.value import decode


class Unanswered(BaseException):
    """Nobody can answer now, so that this job is given up. No Exception: no expression may go on after it."""


class PoolGone(BaseException):
    """Nobody is there any more who could answer."""


class RemoteScope:
    """The owner's scope."""

    def __init__(self, channel: Channel, at_s: float, seed: str) -> None:
        self.steps_left = 0
        self.at_s = at_s
        self.seed = seed
        self._channel = channel
        self._variables: dict[str, object] = {}
        self._answers: dict[bytes, object] = {}
        """Values, and exceptions in the place of those that there are not, by their questions."""

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """What is done here takes no time of the owner's event."""

    def variable(self, name: str) -> object:
        """Loops ask for it again and again."""
        if name not in self._variables:
            self._variables[name] = self._ask("variable", name)
        return self._variables[name]

    def variables(self) -> dict[str, object]:
        found: dict[str, object] = self._ask("variables")
        return found

    def task(self, name: str | None) -> dict[str, object] | None:
        found: dict[str, object] | None = self._ask("task", name)
        return found

    def item(self) -> object:
        return self._ask("item")

    def result(self) -> object:
        return self._ask("result")

    def status(self, name: str | None, route: int | None) -> str | None:
        found: str | None = self._ask("status", name, route)
        return found

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        found: dict[str, object] | None = self._ask("run", name, route)
        return found

    def stored(self, environment: str, key: str) -> object:
        return self._ask("stored", environment, key)

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self._ask("tasks", execution_id, recursive, state, flat)
        return found

    def execution(self) -> dict[str, object]:
        found: dict[str, object] = self._ask("execution")
        return found

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self._ask("executions", **criteria)
        return found

    def environment(self) -> dict[str, object]:
        found: dict[str, object] = self._ask("environment")
        return found

    def global_variable(self, name: str) -> object:
        return self._ask("global_variable", name)

    def _ask(self, name: str, *arguments: object, **named: object) -> Any:
        question = json.dumps([name, arguments, named]).encode()
        if question not in self._answers:
            if len(self._answers) >= QUESTIONS_MAX:
                raise EvaluationError(f"it asks for more than {QUESTIONS_MAX:,} things of its execution")
            self._channel.send(Kind.QUESTION, question)
            self._answers[question] = _read(self._channel.receive(), arguments)
        found = self._answers[question]
        if isinstance(found, Exception):
            raise type(found)(*found.args)  # one of its own each time, for they gather where they have been
        return found


def _read(frame: Frame | None, arguments: tuple[object, ...]) -> object:
    if frame is None:
        raise PoolGone
    if frame.kind is Kind.VALUE:
        return decode(frame.payload.decode())
    if frame.kind is Kind.MISSING:
        return KeyError(*arguments)
    if frame.kind is Kind.ERROR:
        return EvaluationError(frame.payload.decode())
    raise Unanswered
