"""The engine as a process: what it says, and the code with which it ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from dalsegno import core_files
from dalsegno.engine import __main__ as process
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings
from dalsegno.rpc import logs
from dalsegno.store.memory import MemoryStore
from dalsegno.store.opening import open_store
from dalsegno.store.store import StoreLocked


class Process:
    """What the process does to itself, in order, and the store that it opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.store = MemoryStore()
        self.is_newer = False
        for owner, name in (
            (process, "share_one_arena"),
            (core_files, "write_none"),
            (logs, "set_up"),
            (self.store, "hold_engine_lock"),
            (self.store, "close"),
        ):
            monkeypatch.setattr(owner, name, self._note(name))
        monkeypatch.setattr(self.store, "upgrade", lambda: not self.is_newer)
        monkeypatch.setattr(process, "open_store", lambda url: self.store)

    def _note(self, name: str) -> Any:
        return lambda *_: self.done.append(name)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


@pytest.mark.parametrize("is_newer", [False, True])
def test_an_engine_runs_until_it_is_stopped(
    own: Process, is_newer: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It prepares the process, holds the lock of the store while it runs, and closes the store at the end; tables of a
    later version are told."""

    async def serve(settings: Settings, store: object) -> int:
        assert (settings.listen, store) == ("127.0.0.1:1", own.store)
        own.done.append("serve")
        return 7

    own.is_newer = is_newer
    monkeypatch.setattr(process, "_serve", serve)
    with caplog.at_level(logging.INFO):
        assert process.main(["--listen", "127.0.0.1:1", "--database", "memory://"]) == 7
    assert own.done == ["share_one_arena", "write_none", "set_up", "hold_engine_lock", "serve", "close"]
    assert ("later version" in caplog.text) == is_newer


def test_an_engine_that_cannot_begin_says_why(
    own: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, and it ends with 1: another engine has the store, or the URL is none."""

    def locked() -> None:
        raise StoreLocked("another engine has it")

    monkeypatch.setattr(own.store, "hold_engine_lock", locked)
    assert process.main(["--database", "memory://"]) == 1
    assert capsys.readouterr().err == "another engine has it\n"
    assert own.done[-1] == "close"
    monkeypatch.setattr(process, "open_store", open_store)
    assert process.main(["--database", "nonsense:"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_database_that_is_not_meant_for_this_is_warned_of(
    own: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is in the log; without one nothing is."""

    async def serve(*_: object) -> int:
        return 0

    monkeypatch.setattr(process, "_serve", serve)
    for warning in ("a password can be seen", ""):
        monkeypatch.setattr(process, "warning_of", lambda _, told=warning: told)
        assert process.main(["--database", "memory://"]) == 0
    assert [record.getMessage() for record in caplog.records] == ["a password can be seen"]


@pytest.mark.parametrize("ended", [False, True])
async def test_it_serves_until_a_signal_or_its_end(
    ended: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It prints where it listens, serves its metrics meanwhile, and says with its code whether another engine has ended
    it."""
    done: list[str] = []
    stopped = asyncio.Event()
    engines: list[Engine] = []
    start = Engine.start

    async def started(engine: Engine) -> None:
        await start(engine)
        engines.append(engine)
        (engine.ended if ended else stopped).set()

    def serve_metrics(host: str, port: int) -> Any:
        done.append(f"metrics on {host}:{port}")
        return None, lambda: done.append("end of metrics")

    monkeypatch.setattr(Engine, "start", started)
    monkeypatch.setattr(process, "stop_event", lambda: stopped)
    monkeypatch.setattr(process, "collect_garbage_rarely", lambda: done.append("rarely"))
    monkeypatch.setattr(process, "serve_metrics", serve_metrics)
    monkeypatch.setattr(sys, "setswitchinterval", lambda switch_s: done.append(f"switch {switch_s}"))
    settings = Settings(listen="127.0.0.1:0", database="memory://", grace_s=5.0, metrics_port=9)
    with caplog.at_level(logging.INFO):
        assert await process._serve(settings, MemoryStore()) == (1 if ended else 0)
    (engine,) = engines
    assert capsys.readouterr().out == f"engine listening on 127.0.0.1:{engine.port}\n"
    assert done == ["rarely", "switch 0.001", "metrics on 127.0.0.1:9", "end of metrics"]
    assert {"listening", "stopping"} <= {record.getMessage() for record in caplog.records}
    assert not engine._is_shared
    if ended:  # such an engine does not wait for its conductor
        engine.conductor._thread.join(5.0)
    assert not engine.conductor._thread.is_alive()
