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
from tests.unit.workflow.test_properties import EXAMPLES


@pytest.mark.timeout(0 if EXAMPLES else 120)
@settings(
    max_examples=EXAMPLES or 120,
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
