"""A scope over plain values, for the tests of this room."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class PlainScope:
    """Variables as given; the records of tasks and executions are small and fixed. Counts what it is asked."""

    values: dict[str, object] = field(default_factory=dict)
    at_s: float = 1_000_000_000.0
    seed: str = "event 1"
    asked: list[str] = field(default_factory=list)

    def variable(self, name: str) -> object:
        self.asked.append(name)
        return self.values[name]

    def variables(self) -> dict[str, object]:
        self.asked.append("*")
        return dict(self.values)

    def task(self, name: str | None) -> dict[str, object] | None:
        return None if name == "nope" else {"name": name or "current", "result": {"a": [1, 2]}, "state": "SUCCESS"}

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
