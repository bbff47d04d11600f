"""In which order a batch locks rows: in the same one always, so that no two engines wait for each other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engine.test_conductor import Rig, Start
from tests.unit.engine.test_sessions import LEASE_S, Executors, let_lease_pass

from dalsegno.engine.executors.sessions import CloseSession, Greeting, KeepLeases, OpenSession
from dalsegno.store.memory import MemoryTransaction

ORDER = (
    ("take_messages",),
    ("claim",),
    ("adopt_messages", "adopt_attempts"),
    ("save_all", "add_messages"),
    ("lock_sessions",),
    ("renew_sessions", "save_session", "end_sessions"),
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
    assert {"claim", "save_all", "lock_sessions", "renew_sessions", "save_session", "end_sessions"} <= set(called)


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
