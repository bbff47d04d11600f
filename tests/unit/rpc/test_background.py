"""What runs beside the calls of a service goes on after a failure."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.integration.engines import until
from tests.unit.rpc.conftest import World

from dalsegno.rpc import background
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.peers import Peer, Peers


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has failed begins again without a wait."""
    monkeypatch.setattr(background, "AGAIN_S", 0.0)


async def test_what_fails_is_logged_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    """Else a service would say nothing and, for example, keep no lease any more."""
    begun = asyncio.Queue[int]()

    async def work() -> None:
        begun.put_nowait(0)
        if begun.qsize() < 3:
            raise ValueError("a mistake")
        await asyncio.Event().wait()

    task = keep_running(work, "keeping leases")
    await until(lambda: begun.qsize() == 3)
    assert [each.message for each in caplog.records if each.levelno == logging.ERROR] == [
        "keeping leases has failed; it begins again in 0 s"
    ] * 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_a_server_is_asked_on_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in one question does not make a server unreachable for ever."""
    ask, failures = Peer._ask, [OSError("too many open files"), RuntimeError("a mistake")]

    async def ask_or_fail(peer: Peer) -> object:
        if failures:
            raise failures.pop()
        return await ask(peer)

    monkeypatch.setattr(Peer, "_ask", ask_or_fail)
    peers = Peers("engine", [f"127.0.0.1:{world.server.port}"])
    await peers.start()
    await until(lambda: peers.is_ready)
    assert not failures
    await peers.stop()
