"""Random workflows in random weather end the same with `keep` or a discard anywhere as without (decision 24).

C8, C19-C24, C32. More of it: DALSEGNO_SIMULATION_STEPS=5000 (examples).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.simulation.random_loops import looped_mistral, looped_orquesta, meeting_mistral, meeting_orquesta
from tests.simulation.twins import Parted, Twins
from tests.unit.workflow.stories.operating import Stage
from tests.unit.workflow.test_properties import EXAMPLES

from dalsegno.workflow.events import ContextUpdated
from dalsegno.workflow.journal import replay
from dalsegno.workflow.value import Value


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@settings(
    max_examples=EXAMPLES or 80,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.one_of(looped_mistral(), looped_orquesta(), meeting_mistral(), meeting_orquesta()),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=80),
    st.integers(0, 2**16),
)
def test_an_execution_ends_the_same_whatever_is_discarded(
    looped: tuple[list[str], dict[str, Any]], script: list[tuple[int, int]], seed: int
) -> None:
    """Whatever is kept and discarded, by count, by age and by order, at any time: what is there is the same, and so is
    every end. Each execution is made again from its journal now and then."""
    texts, params = looped
    note("\n---\n".join(texts))
    twins = Twins(texts, params, seed)
    try:
        for kind, choice in script:
            twins.happen(kind, choice)
            if choice % 4 == 0:
                twins.check_seen()
        if twins.comes_to_rest():
            twins.check_rest()
    except Parted:
        return  # where failures lead back to is all that a discard may change
    twins.world.check_journals()


EDITED = """
version: 1.0
name: wf
vars: [{v0: {a: 0, z: 9}}, {n: 0}]
output: [{v0: <% ctx(v0) %>}]
tasks:
  begin: {action: std.noop, next: [{do: [turn, slow]}]}
  slow: {action: std.noop, next: [{publish: [{v0: {s: 1}}], do: last}]}
  turn:
    action: std.noop
    checkpoint: {name: turn, keep: {count: 1}}
    next:
      - {when: <% ctx(n) < 3 %>, publish: [{n: <% ctx(n) + 1 %>}, {v0: {b: <% ctx(n) %>}}], do: turn}
      - {when: <% ctx(n) >= 3 %>, do: last}
  last: {join: all, action: std.noop}
"""


@pytest.mark.parametrize("keeps", [True, False])
def test_an_edit_of_a_variable_counts_behind_a_discard(keeps: bool) -> None:
    """Decision 14: what branches have published over the value at the start lies over the edited value then, in what is
    kept of the branches too."""
    stage = Stage(EDITED if keeps else EDITED.replace(", keep: {count: 1}", ""))
    stage.end("begin")
    for _ in range(3):
        stage.end("turn")
    stage.pause()
    stage.end("turn")
    stage.end("slow")
    stage.tell(ContextUpdated(values={"v0": Value(data={"a": 7, "y": 8})}))
    stage.check()
    stage.world.executions[stage.execution.id] = stage.execution = replay(stage.world.journal(stage.execution.id))
    stage.resume()
    stage.end("last")
    assert (stage.execution.first_sequence > 1) is keeps
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"v0": {"a": 7, "y": 8, "b": 3, "s": 1}})
    stage.check()
