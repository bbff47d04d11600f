"""What an expression may see. The core implements Scope, the expressions room reads it; neither knows the other."""

from __future__ import annotations

from typing import Protocol


class EvaluationError(Exception):
    """An expression failed: bad reference, wrong type, budget exceeded. The text names the expression and the cause."""


class Suspended(BaseException):
    """A value is not there yet: whoever steps the event steps it again when it is.

    No Exception: nothing on the way may take it for a fault of an expression. Do not store it in a variable: its
    frames refer to what they have evaluated, and all of that would stay until the collector runs.
    """


EVENT_STEPS = 200_000
"""Steps of evaluation that one event has, over all its expressions."""


class Scope(Protocol):
    """Everything one evaluation can ask. Values are plain JSON data that nobody may change in place."""

    @property
    def steps_left(self) -> int:
        """What is left to the event of its steps of evaluation; less than nothing when more was spent."""
        ...

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """The event has used so many steps of evaluation; `is_moved`: in vain, the value comes from elsewhere."""
        ...

    @property
    def at_s(self) -> float:
        """The time of the event, in seconds since 1970: what `now()` answers."""
        ...

    @property
    def seed(self) -> str:
        """Differs for each scope of each event; `uuid()` and `random()` derive from it: stepped again, the same."""
        ...

    def variable(self, name: str) -> object:
        """The value that the bare name has in this scope. KeyError when it has none. Costs the same in any context."""
        ...

    def variables(self) -> dict[str, object]:
        """A fresh dict of all variables: costs as much as the context is large, so it is asked for only when needed."""
        ...

    def task(self, name: str | None) -> dict[str, object] | None:
        """The record that `task(name)` shows; without a name that of the current task. None when there is none."""
        ...

    def item(self) -> object:
        """The item of a with-items task that this is evaluated for. None where there is none."""
        ...

    def result(self) -> object:
        """The result of the current task. EvaluationError where there is no task."""
        ...

    def status(self, name: str | None, route: int | None) -> str | None:
        """The state of the named task (None: the current one) on a route (None: the current one, then those that it
        came from, the latest first), in DESIGN.md's words. None when it was never run there."""
        ...

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """The record that Orquesta's `task(name)` shows: `{id, execution_id, name, route, result, items, state,
        started_s, ended_s}`, on that route, or (None) on the current one and those that it came from.
        `items` is None, or a list of (result, state) of the items that have begun. None when it was never run."""
        ...

    def stored(self, environment: str, key: str) -> object:
        """A value of a stored environment as it is now. KeyError when there is none."""
        ...

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """The records that `tasks(...)` shows, at most 1,000."""
        ...

    def execution(self) -> dict[str, object]:
        """The record that `execution()` shows."""
        ...

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """The records that `executions(...)` shows, at most 1,000."""
        ...

    def environment(self) -> dict[str, object]:
        """The environment that the root execution was started with."""
        ...

    def global_variable(self, name: str) -> object:
        """The global variable of this name, None when there is none."""
        ...


class Template(Protocol):
    """A value of a definition, compiled: constants as they are, expressions ready to evaluate."""

    def evaluate(self, scope: Scope) -> object:
        """The value in this scope. Raises EvaluationError."""
        ...


class Constant:
    """A template without expressions. Its value is shared, never copied: nobody may change it in place."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def evaluate(self, scope: Scope) -> object:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(repr(self.value))

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"
