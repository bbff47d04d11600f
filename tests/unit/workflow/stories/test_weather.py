"""Stories that random weather told first (see tests/unit/workflow/test_properties.py): rare orders of events."""

from __future__ import annotations

from tests.unit.workflow.stories.test_course import hold, world
from tests.world import Played, states, task


def test_a_join_selected_twice_at_once_starts_once() -> None:
    """Two clauses of one task that lead to the same join are one arrival, and one running of it (S7)."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: j, on-complete: j}
    j: {join: all, action: std.noop}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run()
    here.finish(execution, execution.attempts[1, 0, 1], Played())
    assert (task(execution, "j").attempt, len(execution.attempts)) == (1, 2)
    here.run()
    here.finish(execution, execution.attempts[2, 0, 1], Played())
    assert (execution.state, states(execution)) == ("SUCCESS", {"a": "SUCCESS", "j": "SUCCESS"})
    here.check_journals()
