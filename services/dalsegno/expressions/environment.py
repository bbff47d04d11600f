"""An environment's own expressions: its values may refer to each other through `env()`."""

from __future__ import annotations

from collections.abc import Mapping

from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.workflow.scope import EVENT_STEPS, Constant, EvaluationError
from dalsegno.workflow.secrets import Cipher


class EnvironmentScope:
    """The scope of an environment: it has only the given environment."""

    def __init__(
        self, environment: Mapping[str, object], at_s: float, seed: str, secrets: Cipher | None = None
    ) -> None:
        """`secrets`: what decrypts the secrets in it; None: there are none."""
        self.secrets = secrets
        self._environment = dict(environment)
        self.at_s = at_s
        self.seed = seed
        self.steps_left = EVENT_STEPS

    def lasting(self) -> EnvironmentScope:
        """Return this scope: nothing alters it."""
        return self

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """Return the budget of all expressions of an environment: that of an event."""
        self.steps_left -= steps

    def variable(self, name: str) -> object:
        """Return `__env`; there is no other variable."""
        return {"__env": self._environment}[name]

    def variables(self) -> dict[str, object]:
        """Return `__env`; there is no other variable."""
        return {"__env": self._environment}

    def task(self, name: str | None) -> dict[str, object] | None:
        """Raise: there is no task."""
        return None

    def item(self) -> object:
        """Raise: there is no task."""
        raise EvaluationError("there is no item here")

    def result(self) -> object:
        """Raise: there is no task."""
        raise EvaluationError("there is no task here")

    def status(self, name: str | None, route: int | None) -> str | None:
        """Raise: there is no task."""
        return None

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """Raise: there is no task."""
        return None

    def stored(self, environment: str, key: str) -> object:
        """Raise: an environment does not refer to others."""
        raise KeyError(key)

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """Raise: there are no tasks."""
        return []

    def execution(self) -> dict[str, object]:
        """Raise: there is no execution."""
        return {}

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """Raise: there is no execution."""
        return []

    def environment(self) -> dict[str, object]:
        """Return the given environment."""
        return self._environment

    def global_variable(self, name: str) -> object:
        """Raise: there are no globals."""
        return None


def evaluate_environment(
    environment: Mapping[str, object], at_s: float, seed: str, secrets: Cipher | None = None
) -> dict[str, object]:
    """Return the environment with its expressions evaluated, once, against itself as given. `secrets`: what decrypts
    the secrets in it; None: there are none. Raises EvaluationError."""
    problems: list[ExpressionProblem] = []
    template = compile_template(dict(environment), problems.append, ())
    if problems:
        raise EvaluationError("; ".join(problem.message for problem in problems))
    if isinstance(template, Constant):
        return dict(environment)
    evaluated = template.evaluate(EnvironmentScope(environment, at_s, seed, secrets))
    assert isinstance(evaluated, dict)
    return evaluated
