"""What sessions run now: reports count when they come, stored or not, and what other engines did is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dalsegno.engine.batches.staged import StagedExecution
from dalsegno.engine.executors.occupancy import Name, Occupancy
from dalsegno.workflow.changes import AttemptMoved, TaskMoved
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import AttemptState, TaskState

ONE: Name = ("e", (1, 0, 1))
TWO: Name = ("e", (2, 0, 1))


def handed(*names: Name) -> Occupancy:
    occupancy = Occupancy()
    for name in names:
        occupancy.hand(name, "s")
    occupancy.commit()
    return occupancy


def test_what_a_failed_batch_handed_out_does_not_count() -> None:
    """Within the batch it does, for the next to be handed out."""
    occupancy = handed(ONE)
    occupancy.hand(TWO, "s")
    assert occupancy.count("s") == 2
    occupancy.roll_back()
    assert occupancy.count("s") == 1


def test_a_report_makes_room_before_it_is_stored() -> None:
    """It may have to wait for values; its executor has the slot free. Told twice, it makes room once; and what the
    store still calls running counts no more."""
    occupancy = handed(ONE, TWO)
    occupancy.report(ONE, "s")
    occupancy.report(ONE, "s")
    assert occupancy.count("s") == 1
    occupancy.recount({"s": [ONE, TWO]})
    assert occupancy.count("s") == 1
    occupancy.recount({"s": [TWO]})
    occupancy.hand(ONE, "s")
    occupancy.commit()
    assert occupancy.count("s") == 2


def test_another_session_reports_nothing_of_ours() -> None:
    """What a session does not run takes no room of it, so that its report makes none."""
    occupancy = handed(ONE)
    occupancy.report(ONE, "other")
    assert (occupancy.count("s"), occupancy.count("other")) == (1, 0)


def test_what_other_engines_did_is_counted() -> None:
    """A recount says exactly what a session runs: more that others handed out, less that ended there."""
    occupancy = handed(ONE)
    occupancy.recount({"s": [TWO, ("f", (1, 0, 1))]})
    assert occupancy.count("s") == 2
    occupancy.hand(ONE, "other")
    occupancy.commit()
    assert (occupancy.count("s"), occupancy.count("other")) == (2, 1)
    occupancy.forget(["s"])
    assert (occupancy.count("s"), occupancy.count("other")) == (0, 1)


class OnlyLookedUp(dict[AttemptKey, Any]):
    """Attempts that nobody may walk through."""

    def __iter__(self) -> Any:
        raise AssertionError("an execution may have very many")

    keys = values = items = __iter__


def test_what_a_batch_costs_has_nothing_to_do_with_how_large_its_executions_are() -> None:
    """Only the attempts that have moved are looked at: here one of each execution, which has ended."""
    occupancy = handed(*((f"e{number}", (1, 0, 1)) for number in range(500)))
    ended = SimpleNamespace(session_id="s", is_active=False, child_id="")
    moved = AttemptMoved(at_s=0.0, key=(1, 0, 1), state=AttemptState.SUCCESS)
    staged = [
        SimpleNamespace(
            copy=SimpleNamespace(execution=SimpleNamespace(id=f"e{number}", attempts=OnlyLookedUp({(1, 0, 1): ended}))),
            changes=[moved, TaskMoved(at_s=0.0, task=1, state=TaskState.SUCCESS)],
        )
        for number in range(500)
    ]
    occupancy.take_in(cast("list[StagedExecution]", staged))
    assert occupancy.count("s") == 0
    occupancy.commit()
    assert occupancy.count("s") == 0
