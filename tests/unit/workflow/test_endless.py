"""An execution without end takes no more after 400 rounds than after 100 (C19, C20, C22, decision 24)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.benchmarks.texts import (
    ENDLESS,
    ORQUESTA_ENDLESS,
    ORQUESTA_ENDLESS_JOINS,
    ORQUESTA_ENDLESS_ROUND,
)
from tests.world import World

from dalsegno.workflow import machine
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution

TEXTS = {
    "mistral": [("", ENDLESS)],
    "orquesta": [("endless_round", ORQUESTA_ENDLESS_ROUND), ("endless", ORQUESTA_ENDLESS)],
    "orquesta with joins": [("endless_round", ORQUESTA_ENDLESS_ROUND), ("endless", ORQUESTA_ENDLESS_JOINS)],
}
ROUNDS = 400
EARLY = 100


@dataclass
class Measured(World):
    """A world that measures an execution each time that it discards history."""

    sizes: list[dict[str, int]] = field(default_factory=list)

    def tell(self, execution_id: str, event: Event) -> machine.StepResult:
        outcome = super().tell(execution_id, event)
        if outcome.discarded is not None:
            self.sizes.append(measured(self, outcome.execution))
            kept = {attempt.child_id for attempt in outcome.execution.attempts.values() if attempt.child_id}
            for child_id in [each for each in self.executions if each not in kept and each != execution_id]:
                del self.executions[child_id], self.journals[child_id]  # as the store does
        return outcome


def measured(world: World, execution: Execution) -> dict[str, int]:
    """How large everything is that an execution holds."""
    sizes = {
        name: len(found)
        for name in Execution.__slots__
        if isinstance(found := getattr(execution, name), dict | list | set)
    }
    sizes |= {f"by_name {name}": len(numbers) for name, numbers in execution.by_name.items()}
    sizes |= {f"writes of {name}": len(writes.made) for name, writes in execution.global_writes.items()}
    for task in execution.tasks.values():
        for name, cell in (task.base or {}).items():
            heads = len(getattr(cell, "heads", ())) + len(getattr(cell, "versions", ()))
            sizes[f"history of {name}"] = max(sizes.get(f"history of {name}", 0), heads)
    return {**sizes, "journal": sum(map(len, world.journals[execution.id]))}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.long("hundreds of rounds")
def test_an_execution_without_end_stays_small(language: str) -> None:
    """Tasks, attempts, children, indexes, contexts and journal: nothing grows with the rounds; and it comes to its end,
    where its branches join."""
    world = Measured()
    for name, text in TEXTS[language]:
        world.define(text.replace("core.", "std."), name=name)
    execution = world.start("endless", {"rounds": ROUNDS})
    world.run()
    assert (str(execution.state), execution.output and execution.output.data) == ("SUCCESS", {"n": ROUNDS})
    assert len(world.sizes) == ROUNDS - 4
    early, late = world.sizes[EARLY - 20 : EARLY], world.sizes[-30:-10]
    for name in late[-1]:
        most, was = max(each.get(name, 0) for each in late), max(each.get(name, 0) for each in early)
        assert most <= was * (1.1 if name == "journal" else 1), name  # the numbers in it have more digits
    assert len(execution.entries) == 5
    world.check_journals()
