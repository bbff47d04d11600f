"""Expressions that would run for ever, in workflows that run."""

from __future__ import annotations

import asyncio
import time

import pytest
import pytest_asyncio
from tests.processes import System, state_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("runaway")]

WORKFLOWS = """
version: '2.0'
wide:
  tasks:
    count:
      action: std.noop
      publish: {n: "<% range(0, 1000000000).len() %>"}
deep:
  tasks:
    match:
      action: std.noop
      publish: {found: "<% regex('(a+)+$').matches('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!') %>"}
quick:
  tasks:
    work: {action: std.noop}
calm:
  tasks:
    work:
      with-items: i in <% range(0, 200) %>
      concurrency: 5
      action: std.echo output=<% $.i %> delay=0.05
"""

STOPPED_S = 2.0
"""How long an expression may take to be stopped, by the issue that asked for it; a busy machine adds to that."""
MARGIN_S = 8.0


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(WORKFLOWS)


async def test_others_are_served_while_a_runaway_expression_is_evaluated(system: System) -> None:
    """Executions are started and come to their end before the runaway one does: nobody waits for its expression."""
    for _ in range(5):  # on a busy machine the second may take longer than the expression may
        runaway = await system.begin("deep")
        for _ in range(3):
            assert state_of(await system.run("quick")) == "SUCCESS"
        is_first = state_of(await system.get(runaway)) == "RUNNING"
        assert state_of(await system.wait(runaway)) == "ERROR"
        if is_first:
            return
    raise AssertionError("others always came to their end after the runaway expression")


async def test_a_runaway_expression_is_an_error_and_others_go_on(system: System) -> None:
    """It becomes an expression error of its own execution; an execution beside it succeeds, each item once."""
    calm = await system.begin("calm")
    began = time.monotonic()
    ended = [await system.wait(await system.begin(name)) for name in ("wide", "deep")]
    took_s = time.monotonic() - began

    assert [state_of(execution) for execution in ended] == ["ERROR", "ERROR"]
    assert all("cannot publish" in execution.state_info for execution in ended)
    assert took_s < 2 * STOPPED_S + MARGIN_S
    async with asyncio.timeout(60):
        beside = await system.wait(calm)
    assert state_of(beside) == "SUCCESS"
