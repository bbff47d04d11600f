"""An environment's own expressions: its values may refer to each other through `env()`."""

from __future__ import annotations

from collections.abc import Mapping

from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.workflow.scope import EVENT_STEPS, Constant, EvaluationError


class EnvironmentScope:
    """The scope of an environment: nothing but the environment as it was given."""

    def __init__(self, environment: Mapping[str, object], at_s: float, seed: str) -> None:
        self._environment = dict(environment)
        self.at_s = at_s
        self.seed = seed
        self.steps_left = EVENT_STEPS

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        """All expressions of an environment have as much as an event."""
        self.steps_left -= steps

    def variable(self, name: str) -> object:
        """Only `__env` is there."""
        return {"__env": self._environment}[name]

    def variables(self) -> dict[str, object]:
        """Only `__env` is there."""
        return {"__env": self._environment}

    def task(self, name: str | None) -> dict[str, object] | None:
        """There is no task yet."""
        return None

    def item(self) -> object:
        """There is no task yet."""
        raise EvaluationError("there is no item here")

    def result(self) -> object:
        """There is no task yet."""
        raise EvaluationError("there is no task here")

    def status(self, name: str | None, route: int | None) -> str | None:
        """There is no task yet."""
        return None

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        """There is no task yet."""
        return None

    def stored(self, environment: str, key: str) -> object:
        """An environment does not refer to others."""
        raise KeyError(key)

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        """There are no tasks yet."""
        return []

    def execution(self) -> dict[str, object]:
        """There is no execution yet."""
        return {}

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        """There is no execution yet."""
        return []

    def environment(self) -> dict[str, object]:
        """The environment as it was given."""
        return self._environment

    def global_variable(self, name: str) -> object:
        """There are no globals yet."""
        return None


def evaluate_environment(environment: Mapping[str, object], at_s: float, seed: str) -> dict[str, object]:
    """The environment with its expressions evaluated, once, against itself as given. Raises EvaluationError."""
    problems: list[ExpressionProblem] = []
    template = compile_template(dict(environment), problems.append, ())
    if problems:
        raise EvaluationError("; ".join(problem.message for problem in problems))
    if isinstance(template, Constant):
        return dict(environment)
    evaluated = template.evaluate(EnvironmentScope(environment, at_s, seed))
    assert isinstance(evaluated, dict)
    return evaluated
