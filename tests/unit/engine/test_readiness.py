"""Whether the store is written: it may be lost, or hang."""

from __future__ import annotations

from dalsegno.engine.batches.readiness import HANGS_S, Readiness
from dalsegno.store.stalls import NO_STALL, Stall


def test_a_slow_commit_does_not_hang() -> None:
    """A commit of 2 s is slow, and nothing is refused for it."""
    readiness = Readiness(lambda: 7.0)
    readiness.look(Stall(2.0, "a commit does not end"))
    assert readiness.is_ready
    assert readiness.told == ""


def test_a_hang_ends_with_its_batch() -> None:
    """When the batch has ended, the store is ready at once, and leases count anew from then."""
    readiness = Readiness(lambda: 7.0)
    readiness.look(Stall(HANGS_S, "a commit does not end"))
    assert not readiness.is_ready
    assert readiness.told == ": a commit does not end"
    readiness.note_end(wrote=False)
    assert readiness.is_ready
    assert readiness.recovered_s == 7.0


def test_a_lost_store_is_ready_once_something_was_written() -> None:
    """Neither a look nor a batch without works shows that a lost store can be written."""
    readiness = Readiness(lambda: 7.0)
    readiness.look(Stall(HANGS_S, "a commit does not end"))
    readiness.lose("the server is gone")
    readiness.look(NO_STALL)
    readiness.note_end(wrote=False)
    assert not readiness.is_ready
    assert readiness.recovered_s == 0.0
    readiness.note_end(wrote=True)
    assert readiness.is_ready
    assert readiness.recovered_s == 7.0


def test_operators_are_told_why_and_callers_no_hosts() -> None:
    """The reason is one text as long as it lasts, so that it is logged once; refusals name no host."""
    readiness = Readiness(lambda: 7.0)
    assert readiness.reason == ""
    readiness.look(Stall(HANGS_S, "a commit does not end"))
    assert readiness.reason == "the store is not written at present: a commit does not end"
    readiness.lose("cannot write postgresql://one: refused")
    readiness.lose("cannot write postgresql://two: refused")
    assert readiness.reason == "cannot write postgresql://one: refused"
    assert readiness.told == ""
    readiness.note_end(wrote=True)
    assert readiness.reason == ""
