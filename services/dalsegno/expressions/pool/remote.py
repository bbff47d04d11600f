"""The scope of a job in its process: each question is sent once over the channel."""

from __future__ import annotations

import json
from typing import Any

from dalsegno.expressions.pool.frames import Channel, Frame, Kind
from dalsegno.expressions.pool.limits import QUESTIONS_MAX
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import Cipher
from dalsegno.workflow.value import decode


class Unanswered(BaseException):
    """There is no answer now, so this job stops. Not an Exception: no expression may catch it."""


class PoolGone(BaseException):
    """The pool has ended."""


class RemoteScope:
    """The owner's scope."""

    def __init__(self, channel: Channel, at_s: float, seed: str) -> None:
        self.steps_left = 0
        self.at_s = at_s
        self.seed = seed
        self._channel = channel
        self._variables: dict[str, object] = {}
        self._answers: dict[bytes, object] = {}
        """Values, or exceptions, by their questions."""

    @property
    def secrets(self) -> Cipher | None:
        """Return None: the owner of the scope has decrypted the answers."""
        return None

    def lasting(self) -> RemoteScope:
        return self

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """Return the process's own budget: it does not use the owner's event."""

    def variable(self, name: str) -> object:
        """Return the stored answer, because loops read it often."""
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
            raise type(found)(*found.args)  # a new one each time, because exceptions collect tracebacks
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
