"""Stories of items that fail: a task says why with a line for each cause, however many there are."""

from __future__ import annotations

from tests.unit.workflow.stories.test_course import world
from tests.world import Played, task

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt

MANY = """
version: '2.0'
wf:
  input: [count]
  tasks:
    t: {with-items: "i in <% range(0, $.count) %>", action: std.echo output=<% $.i %>}
"""


def told(count: int, causes: dict[int, str]) -> str:
    """What a task of so many items says when those of these remainders by ten fail for these causes."""

    def play(execution: Execution, attempt: Attempt) -> Played:
        cause = causes.get(attempt.key[1] % 10)
        return Played("failed", error=cause) if cause else Played(result=attempt.key[1])

    here = world(MANY, player=play)
    execution = here.start("wf", {"count": count})
    here.run()
    here.check_journals()
    return task(execution, "t").info


def test_items_that_fail_for_one_cause_are_one_line() -> None:
    """Sixty items of which six fail alike are told as one line, with the first five of them."""
    assert told(60, {3: "no crane"}).splitlines() == [
        "One or more actions had failed:",
        "  6 of 60 failed: 3, 13, 23, 33, 43, …: no crane",
    ]


def test_each_cause_has_a_line_the_most_frequent_first() -> None:
    """Two causes are two lines; a failure with many lines is told by its last one when others caused it."""
    nested = "Failure caused by error in tasks: lift\n  lift: no hook"
    assert told(12, {1: "no crane", 5: nested}).splitlines() == [
        "One or more actions had failed:",
        "  2 of 12 failed: 1, 11: no crane",
        "  1 of 12 failed: 5: lift: no hook",
    ]


def test_more_causes_than_are_told_are_counted() -> None:
    """Of many causes five are told, and then how many items have failed in all."""
    lines = told(20, {number: f"cause {number}" for number in range(8)}).splitlines()

    assert len(lines) == 7
    assert lines[-1] == "  16 of 20 failed in all"
