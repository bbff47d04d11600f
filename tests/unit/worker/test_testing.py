"""The harness by which authors test their actions."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time

import pytest

from dalsegno.worker import ActionCancelled, ActionContext, ActionFailed, Delegated, action
from dalsegno.worker.testing import Outcome, call, call_async


@dataclasses.dataclass
class Box:
    """A box."""

    width: int


@action("test.widen")
def widen(box: Box, by: int = 1) -> Box:
    """Widens a box."""
    return Box(box.width + by)


@action("test.copy")
async def copy(context: ActionContext, count: int) -> int:
    """Copies, with progress."""
    for number in range(count):
        context.report(f"copied {number}", number / count)
        await asyncio.sleep(0)
    return context.attempt


BEGUN = threading.Event()
"""Whether the action below waits."""


@action("test.wait")
def wait(context: ActionContext) -> None:
    """Waits until it is stopped."""
    context.report("waiting")
    BEGUN.set()
    context.cancelled.wait(60)


def test_an_action_is_called_with_json_and_gives_json() -> None:
    """The input is checked and converted, the result is what the workflow sees."""
    assert call(widen, {"box": {"width": 2}}) == Outcome("succeeded", {"width": 3})
    assert call(widen, {"box": {"width": "2"}}) == Outcome(
        "failed", error="test.widen: input $.box.width: expected `int`, got `str`"
    )


def test_progress_and_context() -> None:
    """All reports are in the outcome, in order; the context is the one of the test."""
    outcome = call(copy, {"count": 3}, context=ActionContext("e.1.0.7", attempt=7))

    assert outcome.result == 7
    assert outcome.progress == (("copied 0", 0.0), ("copied 1", 1 / 3), ("copied 2", 2 / 3))


def test_a_thread_that_reports_without_a_pause_loses_nothing() -> None:
    """Reports of a thread arrive in order, and before the outcome."""

    @action("test.count")
    def count(context: ActionContext) -> None:
        for number in range(5_000):
            context.report(str(number))

    assert [text for text, _ in call(count).progress] == [str(number) for number in range(5_000)]


@pytest.mark.parametrize(("options", "word", "error"), [
    ({"timeout_s": 0.1}, "failed", "timed out after 0.100 s"),
    ({"cancel_after_s": 0.1}, "cancelled", "cancelled by the test"),
])  # fmt: skip
async def test_a_deadline_and_a_cancel_reach_the_action(options: dict[str, float], word: str, error: str) -> None:
    """A thread sees it by `context.cancelled`, so that it does not run on."""
    BEGUN.clear()
    start_s = time.monotonic()
    calling = asyncio.create_task(call_async(wait, **options))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert BEGUN.wait(20)  # the event loop stands still until then: it cannot be stopped before it has begun
    outcome = await calling

    assert (outcome.word, outcome.error, outcome.progress) == (word, error, (("waiting", None),))
    assert time.monotonic() - start_s < 40


async def test_other_ends_within_an_event_loop() -> None:
    """Failures have their data, a delegated action its alias."""

    @action("test.end")
    async def end(how: str) -> Delegated:
        if how == "fail":
            raise ActionFailed("out of paper", {"tray": 2})
        if how == "stop":
            raise ActionCancelled("switched off")
        return Delegated("order-17", 60, heartbeat_timeout_s=5)

    assert await call_async(end, {"how": "fail"}) == Outcome("failed", {"tray": 2}, "out of paper")
    assert await call_async(end, {"how": "stop"}) == Outcome("cancelled", error="switched off")
    delegated = await call_async(end, {"how": "ask"})
    assert delegated == Outcome("delegated", alias="order-17", completion_timeout_s=60, heartbeat_timeout_s=5)
