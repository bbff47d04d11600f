"""A scope over plain values, for the tests of this room."""

from __future__ import annotations

from dataclasses import dataclass, field

from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import Cipher


@dataclass
class PlainScope:
    """Variables as given; the records of tasks and executions are small and fixed. Counts what it is asked."""

    values: dict[str, object] = field(default_factory=dict)
    at_s: float = 1_000_000_000.0
    seed: str = "event 1"
    asked: list[str] = field(default_factory=list)
    items: list[object] = field(default_factory=list)
    """The item, in a list when there is one."""
    states: dict[str, str] = field(default_factory=lambda: {"current": "SUCCESS", "t1": "ERROR", "t2 1": "RUNNING"})
    """States of tasks by name, of the current one too, or by name and route."""
    keys: dict[str, object] = field(default_factory=dict)
    """Stored values, by environment and key with a space between."""
    steps_left: int = 10**12
    """Unlike an event a test has as many as it likes."""

    @property
    def secrets(self) -> Cipher | None:
        return None

    def lasting(self) -> PlainScope:
        return self

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        self.steps_left -= steps

    def variable(self, name: str) -> object:
        self.asked.append(name)
        return self.values[name]

    def variables(self) -> dict[str, object]:
        self.asked.append("*")
        return dict(self.values)

    def task(self, name: str | None) -> dict[str, object] | None:
        return None if name == "nope" else {"name": name or "current", "result": {"a": [1, 2]}, "state": "SUCCESS"}

    def item(self) -> object:
        if not self.items:
            raise EvaluationError("there is no item here")
        return self.items[0]

    def result(self) -> object:
        return {"a": [1, 2]}

    def status(self, name: str | None, route: int | None) -> str | None:
        name = name or "current"
        return self.states.get(f"{name} {route}", self.states.get(name))

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        state = self.status(name, route)
        if state is None:
            return None
        return {
            "id": f"run of {name}",
            "execution_id": "execution-1",
            "name": name or "current",
            "route": route or 0,
            "result": {"a": [1, 2]},
            "items": None if name != "each" else [({"a": 1}, "SUCCESS"), (None, "READY")],
            "state": state,
            "started_s": 0.0,
            "ended_s": 1.5,
        }

    def stored(self, environment: str, key: str) -> object:
        return self.keys[f"{environment} {key}"]

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        return [{"name": "first", "asked": [execution_id, recursive, state, flat]}, {"name": "second"}]

    def execution(self) -> dict[str, object]:
        return {"id": "execution-1", "input": {"x": 1}}

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        return [{"id": "execution-1", "asked": dict(criteria)}]

    def environment(self) -> dict[str, object]:
        return {"k": "value", "n": 7}

    def global_variable(self, name: str) -> object:
        return {"g": 5}.get(name)
