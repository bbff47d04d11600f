"""What the processes of services have in common."""

from __future__ import annotations

import os
import threading

import pytest

from dalsegno.rpc.process import interrupt_nobody


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has it")
def test_a_thread_interrupts_nobody() -> None:
    """The system takes it for one that computes."""
    found: list[int] = []

    def look() -> None:
        interrupt_nobody()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [os.SCHED_BATCH]


def test_a_container_may_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the process runs as others do."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    interrupt_nobody()
