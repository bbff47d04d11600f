"""In which order a batch locks rows: in the same one always, so that no two engines wait for each other."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from tests.unit.engine.test_conductor import FragileStore, Rig, Start
from tests.unit.engine.test_sessions import LEASE_S, Executors, let_lease_pass

from dalsegno.engine.batches.work import DropUnusedWorkflows, Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.executors.sessions import CloseSession, Greeting, KeepLeases, OpenSession
from dalsegno.store.memory import MemoryTransaction

ORDER = (
    ("take_messages",),
    ("claim",),
    ("adopt_messages", "adopt_attempts"),
    ("save_all", "add_messages"),
    ("save_session", "end_sessions"),
    ("renew_sessions",),
    ("note_time",),
)
"""dalsegno/README.md#durability: methods of a transaction that lock rows, in the order of its text."""


def test_a_batch_locks_executions_before_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed and end, executors come and go, and executions begin, in one batch: whatever the order of
    these works, executions are locked first, sessions after what is decided of them, and the clock's row last."""
    rig = Rig()
    rig.define()
    rig.carry_out(OpenSession(Greeting("x", "s", {"std.noop": "{}"}, 10, {}), "engine", LEASE_S, lambda *_: None))
    let_lease_pass(rig, "silent")
    called = note_calls(monkeypatch)
    hello = OpenSession(Greeting("y", "new", {"std.noop": "{}"}, 10, {}), "engine", LEASE_S, lambda *_: None)
    rig.carry_out(KeepLeases(Executors("s"), LEASE_S, lambda: True), hello, CloseSession("s", "x"), Start(2))
    ranks = [next(rank for rank, names in enumerate(ORDER) if name in names) for name in called]
    assert ranks == sorted(ranks), called
    assert {"claim", "save_all", "renew_sessions", "save_session", "end_sessions"} <= set(called)


@pytest.mark.parametrize(
    ("work", "which"),
    [
        (Start(2), 1),
        (KeepLeases(Executors("s"), LEASE_S, lambda: True), 0),
        (DropUnusedWorkflows(lambda: None), 0),
    ],
)
def test_the_time_is_stored_by_the_batch_that_stores_something(work: Work, which: int) -> None:
    """A start waits for one commit, not for another one before it that stores the time: a commit may take seconds.
    Where a batch may have nothing to store, the comparison of the clocks stores the time."""
    store = FragileStore()
    rig = Rig(store)
    rig.define()
    now_s = [1.0]
    rig.conductor.clock = Clock(lambda: now_s[0], is_shared=True)
    rig.conductor.clock.begin(store)
    now_s[0] += 2.0
    noted: list[int] = []
    before = store.commits
    with patch.object(MemoryTransaction, "note_time", lambda *_: noted.append(store.commits - before)):
        rig.carry_out(work)
    assert noted == [which]
    assert store.commits - before == 2


def note_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note from now on which of these methods are called."""
    called: list[str] = []
    for name in (name for names in ORDER for name in names):
        method = getattr(MemoryTransaction, name)

        def noted(*arguments: Any, name: str = name, method: Any = method, **more: Any) -> Any:
            called.append(name)
            return method(*arguments, **more)

        monkeypatch.setattr(MemoryTransaction, name, noted)
    return called
