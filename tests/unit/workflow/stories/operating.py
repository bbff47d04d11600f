"""What the stories of operations have in common: worlds in which every action runs until the story ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.world import ABSENT, HOLD, Played, World, task

from dalsegno.workflow import machine
from dalsegno.workflow.events import (
    CancelRequested,
    Choice,
    DiscardRequested,
    GoToRequested,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.value import Value


class Stage:
    """A world, and one execution of its workflow `wf`."""

    def __init__(self, text: str, input: object = None, *, others: tuple[str, ...] = (), **start: Any) -> None:
        self.world = World(player=lambda execution, attempt: HOLD)
        for other in others:
            self.world.define(other)
        self.world.define(text)
        self.execution = self.world.start("wf", input, **start)
        self.world.run(until_s=0)

    def end(
        self, name: str, result: object = ABSENT, *, error: str = "", item: int = 0, outcome: str = "", on: Any = None
    ) -> None:
        """End the running action of the newest task of this name."""
        execution = on or self.execution
        found = execution.latest(name)
        assert found is not None, f"no task {name}"
        attempt = execution.current(found, item)
        assert attempt is not None, f"{name} runs nothing"
        played = Played(outcome or ("failed" if error else "succeeded"), result, error)
        self.world.finish(execution, attempt, played)
        self.world.run(until_s=0)

    def tell(self, event: Any, on: Execution | None = None) -> machine.StepResult:
        """Ask something of the execution."""
        outcome = self.world.tell((on or self.execution).id, event)
        self.world.run(until_s=0)
        return outcome

    def resume(self, *choices: TaskChoice, on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Resume, with what is chosen for failed tasks."""
        return self.tell(ResumeRequested(at_s=self.world.now_s, actor="ann", choices=choices, **fields), on)

    def rerun(self, *choices: TaskChoice, on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Rerun tasks, or all that failed."""
        return self.tell(RerunRequested(at_s=self.world.now_s, actor="ann", choices=choices, **fields), on)

    def pause(self, on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Ask for quiet."""
        return self.tell(PauseRequested(at_s=self.world.now_s, **fields), on)

    def cancel(self, on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Ask for an end."""
        return self.tell(CancelRequested(at_s=self.world.now_s, **fields), on)

    def go_to(self, name: str = "", on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Go to a checkpoint."""
        return self.tell(GoToRequested(at_s=self.world.now_s, actor="ann", name=name, **fields), on)

    def discard(self, name: str = "", on: Execution | None = None, **fields: Any) -> machine.StepResult:
        """Discard what came before an entry."""
        return self.tell(DiscardRequested(at_s=self.world.now_s, actor="ann", name=name, **fields), on)

    def entries(self) -> list[str]:
        """The names of the entries that stand, oldest first."""
        return [entry.name for entry in self.execution.entries.values() if not entry.is_undone]

    def stands_at(self) -> str:
        """The checkpoint at which the execution stands; empty: it stands at none."""
        entry = self.execution.entries.get(self.execution.paused_at)
        return "" if entry is None else entry.name

    def task(self, name: str, nth: int = 1) -> TaskExecution:
        """The nth task execution of this name, superseded ones included."""
        return task(self.execution, name, nth)

    def attempts(self, name: str, nth: int = 1, item: int = 0) -> list[Attempt]:
        """All attempts of an item, oldest first."""
        number = self.task(name, nth).number
        return [one for key, one in sorted(self.execution.attempts.items()) if key[:2] == (number, item)]

    def standing(self) -> dict[str, str]:
        """The state of the newest task execution of each name that counts."""
        found = {name: self.execution.latest(name) for name in self.execution.by_name}
        return {name: str(one.state) for name, one in found.items() if one is not None}

    def output(self) -> Any:
        """The execution's output."""
        return None if self.execution.output is None else self.execution.output.data

    def child(self, newest: bool = True) -> Execution:
        """The execution's newest child."""
        children = self.world.children(self.execution)
        return children[-1 if newest else 0]

    def check(self) -> None:
        """Every journal, read back, gives the same."""
        self.world.check_journals()


def run(name: str, **fields: Any) -> TaskChoice:
    """Run it again; `input` and inputs of `items` are plain data."""
    given = fields.pop("input", None)
    items: Mapping[int, object] = fields.pop("items", {})
    return TaskChoice(
        task=name,
        input=None if given is None else Value(data=given),
        items={item: None if one is None else Value(data=one) for item, one in items.items()},
        **fields,
    )


def skip(name: str, output: object, **fields: Any) -> TaskChoice:
    """Continue after it with this output."""
    return TaskChoice(task=name, choice=Choice.SKIP, output=Value(data=output), **fields)
