"""Random workflows that go back from their end to each entry and on again come to the same end (C6, decision 19)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st
from tests.simulation.random_checkpoints import marked_mistral, marked_orquesta
from tests.unit.workflow.test_properties import EXAMPLES
from tests.world import Played, World

from dalsegno.definitions.document import read
from dalsegno.workflow.events import GoToRequested
from dalsegno.workflow.execution import Execution


def ended(texts: list[str], params: dict[str, Any]) -> tuple[World, Execution]:
    """A world in which every action succeeds with the same result, when nothing is left to do by itself."""
    world = World(player=lambda execution, attempt: Played(result=1))
    for text in texts:
        assume(not read(text).problems)
        world.define(text)
    execution = world.start("wf", params=params)
    world.run()
    return world, execution


def outcome(execution: Execution) -> tuple[object, ...]:
    """What the execution came to, without what reverts have published."""
    output = None if execution.output is None else execution.output.data
    if isinstance(output, dict):
        output = {name: value for name, value in output.items() if name != "reverted"}
    return str(execution.state), output


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.one_of(marked_mistral(), marked_orquesta()))
def test_every_entry_leads_to_the_same_end(marked: tuple[list[str], dict[str, Any]]) -> None:
    """C6, C17, decision 19: at every entry of every journal: restore, go on, same end; and once more."""
    texts, params = marked
    note("\n---\n".join(texts))
    _, first = ended(texts, params)
    assume(first.is_completed)
    sequences = [first.start_sequence, *(entry.sequence for entry in first.entries.values() if not entry.is_undone)]
    for sequence in sequences if first.start_sequence else []:
        world, execution = ended(texts, params)
        assert outcome(execution) == outcome(first)
        for _ in range(2):
            world.tell(execution.id, GoToRequested(at_s=world.now_s, sequence=sequence, resumes=True))
            world.run()
            assert outcome(execution) == outcome(first), f"from {sequence}"
        world.check_journals()


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.one_of(marked_mistral(), marked_orquesta()))
def test_every_fork_comes_to_the_same_end(marked: tuple[list[str], dict[str, Any]]) -> None:
    """C32, decision 21: forked at every entry of every journal, and forked from there again: same end, and the other
    execution, which is deleted then, is as it was."""
    texts, params = marked
    note("\n---\n".join(texts))
    _, first = ended(texts, params)
    assume(first.is_completed)
    for sequence in [entry.sequence for entry in first.entries.values() if not entry.is_undone]:
        world, execution = ended(texts, params)
        journal = list(world.journals[execution.id])
        fork = world.fork(execution, sequence=sequence)
        assert world.journals[execution.id] == journal
        world.delete(execution)
        again = world.fork(fork, sequence=sequence)
        world.run()
        assert outcome(fork) == outcome(first), f"from {sequence}"
        assert outcome(again) == outcome(first), f"from {sequence}, twice"
        world.check_journals()
