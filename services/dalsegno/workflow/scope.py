"""What an expression may see. The core implements Scope and the package of expressions reads it; neither imports the
other.
"""

from __future__ import annotations

from typing import Protocol

from dalsegno.workflow.secrets import Cipher


class EvaluationError(Exception):
    """An expression failed: bad reference, wrong type, budget exceeded. The text names the expression and the cause."""


class Suspended(BaseException):
    """A value is not known yet: the caller steps the event again when it is.

    It is not an Exception, so that no handler takes it for an error of an expression. Do not store it in a variable:
    its frames refer to everything that they have evaluated, which would stay until the garbage collector runs.
    """


class Unanswered(BaseException):
    """A question of an expression has no answer, because the store failed: the step fails with `cause`.

    It is not an Exception, so that no handler takes it for an error of the expression.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


EVENT_STEPS = 200_000
"""The steps of evaluation that one event has, for all its expressions."""


CALLBACK_URL = "dalsegno:callback-url:5f0b1c86d2e74a39"
"""The value of `callback_url()`. It stands for the address where a third party completes an action: the engine puts the
address in its place when it hands out an action with this text in its input, so that the token in the address is
stored nowhere. Everywhere else it is a text like any other."""


class Scope(Protocol):
    """Everything that one evaluation can ask for. Values are plain JSON data that nobody may change in place."""

    @property
    def steps_left(self) -> int:
        """Return how many steps of evaluation the event has left; negative when it has used too many."""
        ...

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """Count steps of evaluation that the event has used; `is_moved`: in vain, because the value comes from
        elsewhere."""
        ...

    @property
    def secrets(self) -> Cipher | None:
        """Return what decrypts the secrets that may be in the answers; None: there are none."""
        ...

    def lasting(self) -> Scope:
        """Return the same scope for another thread, with the present variables; later evaluations do not change it."""
        ...

    @property
    def at_s(self) -> float:
        """Return the time of the event, in seconds since 1970: the value of `now()`."""
        ...

    @property
    def seed(self) -> str:
        """Return a text that differs for each scope of each event. `uuid()` and `random()` derive from it, so that they
        are the same when the event is stepped again."""
        ...

    def variable(self, name: str) -> object:
        """Return the value of a variable. Raise KeyError when it has none. The cost is the same in any context."""
        ...

    def variables(self) -> dict[str, object]:
        """Return a new dict of all variables. The cost is the size of the context, so it is called only when needed."""
        ...

    def task(self, name: str | None) -> dict[str, object] | None:
        """Return the record for `task(name)`; without a name that of the current task. None when there is none."""
        ...

    def item(self) -> object:
        """Return the item of a with-items task that this is evaluated for. None where there is none."""
        ...

    def result(self) -> object:
        """Return the result of the current task. Raise EvaluationError where there is no task."""
        ...

    def status(self, name: str | None, route: int | None) -> str | None:
        """Return the state of the named task (None: the current one) on a route (None: the current one, then those that
        it came from, the latest first), in the words of states.py. None when it was never run there."""
        ...

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """Return the record for Orquesta's `task(name)`: `{id, execution_id, name, route, result, items, state,
        started_s, ended_s}`, on that route, or (None) on the current one and those that it came from. `items` is
        None, or a list of (result, state) of the items that have begun. None when it was never run."""
        ...

    def stored(self, environment: str, key: str) -> object:
        """Return a value of a stored environment as it is now. Raise KeyError when there is none, and SecretFound for a
        secret if this scope has no `secrets`; it has them from then on."""
        ...

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Return the records for `tasks(...)`, at most 1,000."""
        ...

    def execution(self) -> dict[str, object]:
        """Return the record for `execution()`."""
        ...

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """Return the records for `executions(...)`, at most 1,000."""
        ...

    def environment(self) -> dict[str, object]:
        """Return the environment that the root execution was started with."""
        ...

    def global_variable(self, name: str) -> object:
        """Return the global variable of this name; None when there is none."""
        ...


class Template(Protocol):
    """A value of a definition, compiled: a constant, or an expression that is ready to evaluate."""

    def evaluate(self, scope: Scope) -> object:
        """Return the value in this scope. Raise EvaluationError."""
        ...


class Constant:
    """A template without expressions. Its value is shared and never copied: nobody may change it in place."""

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
