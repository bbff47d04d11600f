"""The workload W13 in small: many delegates that wait, through a restart of everything, and are completed at once."""

from __future__ import annotations

import pytest
from tests.benchmarks import delegates, services
from tests.benchmarks.services import Services, running_services
from tests.benchmarks.texts import LANGUAGES


async def answer(running: Services) -> None:
    """Return once the services answer."""
    client = running.open_client()
    try:
        await client.define("version: '2.0'\nnothing:\n  tasks:\n    nothing: {action: std.noop}\n")
    finally:
        await client.close()


async def test_many_delegates_wait_and_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that wait are there after a restart of everything, and those that 50 callers complete end in SUCCESS (P12,
    P20). RuntimeError in the workload for any that does not."""
    for module in (services, delegates):  # a measurement would wait until the machine is at rest
        monkeypatch.setattr(module, "settle", answer)
    monkeypatch.setattr(delegates, "AT_REST_S", 0.0)
    monkeypatch.setattr(delegates, "LOOK_S", 0.05)
    monkeypatch.setattr(delegates, "FIRST", 10)
    async with running_services() as (running, client):
        measured = delegates.measure_delegates(running, client, LANGUAGES["mistral"], waiting=300, completed=150)
        results = [each async for each in measured]

    assert [result.n for result in results] == [0, 300, 300, 150]
    assert all(result.rss_mb for result in results)
