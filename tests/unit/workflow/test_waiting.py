"""A step that needs a value which is not known yet: it asks for all that it can name, and is discarded as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.world import World

from dalsegno.definitions.document import read
from dalsegno.workflow.scope import Suspended


@dataclass
class Waits:
    """A template whose value is known after so many evaluations."""

    evaluations: int = 1
    asked: list[object] = field(default_factory=list)

    def evaluate(self, scope: Any) -> dict[str, object]:
        self.asked.append(scope)
        if len(self.asked) <= self.evaluations:
            raise Suspended
        return {}


def world(**inputs: Waits) -> World:
    """A world with a workflow `wf`, whose tasks `t` and `u` have these inputs."""
    document = read("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n    u: {action: std.noop}\n")
    workflow = document.members[0].workflow
    assert workflow is not None
    tasks = {name: replace(task, input=inputs.get(name)) for name, task in workflow.tasks.items()}
    made = World()
    made.add(replace(workflow, tasks=tasks, shape={}))
    return made


def test_a_step_asks_for_all_values_before_it_waits() -> None:
    """The first value that is not known holds no other question back; nothing of the step counts until it is whole."""
    first, second = Waits(), Waits()
    here = world(t=first, u=second)
    with pytest.raises(Suspended):
        here.start("wf")
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert here.executions == {}
    execution = here.start("wf")
    here.run()
    assert execution.state == "SUCCESS"
    here.check_journals()


@pytest.mark.parametrize("waiting", ["t", "u"])
def test_one_value_that_is_not_known_is_enough_to_wait(waiting: str) -> None:
    """Whichever task needs it, and whatever else the step could do."""
    here = world(**{waiting: Waits()})
    with pytest.raises(Suspended):
        here.start("wf")
    assert here.executions == {}
