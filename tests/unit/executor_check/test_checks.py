"""The checks: an executor that keeps the contract passes, and each rule that one breaks is found by its check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.executor_check.toy import Toy

from dalsegno.executor_check import checks
from dalsegno.executor_check.checks import CHECKS
from dalsegno.executor_check.child import Child
from dalsegno.executor_check.engine import Engine
from dalsegno.executor_check.player import Played, Verdict, play_all
from dalsegno.executor_check.scene import Scene

BY_NAME = {check.name: check for check in CHECKS}

NEED_MORE = {
    "stop-says-goodbye",
    "stop-loses-nothing",
    "inventory-follows-the-end-of-the-stream",
    "superseded-stream-leaves-the-other",
}
"""Checks that need a process or a second engine: tests/polyglot plays them."""


@asynccontextmanager
async def playing(*faults: str) -> AsyncIterator[Scene]:
    """A scene with a toy that has these faults."""
    engine = Engine("127.0.0.1:0")
    await engine.start()
    toy = asyncio.create_task(Toy(engine.address, *faults).run())
    try:
        yield Scene(engine, None, Child(()), {})
    finally:
        toy.cancel()
        await asyncio.gather(toy, return_exceptions=True)
        await engine.stop()


async def play(name: str, *faults: str) -> Played:
    """Play a check on a toy with these faults."""
    async with playing(*faults) as scene:
        (played,) = [played async for played in play_all([BY_NAME[name]], scene)]
        return played


FAULTS = [
    ("gives up", "reconnect-after-other-errors"),  # the longest begins first
    ("credit first", "hello-comes-first"),
    ("session", "hello-names-the-executor"),
    ("twice described", "hello-describes-actions"),
    ("no slots", "hello-has-slots"),
    ("without sleep", "hello-serves-the-check"),
    ("texts", "result-is-exact"),
    ("null delegates", "result-may-be-null"),
    ("texts", "values-may-be-large"),
    ("no error", "failure-has-an-error"),
    ("long error", "failure-has-an-error"),
    ("swallows", "action-may-be-unknown"),
    ("swallows", "input-may-be-unfit"),
    ("first only", "batch-is-run-whole"),
    ("one at a time", "quick-ones-do-not-wait"),
    ("one at a time", "slots-are-used-at-once"),
    ("no credit", "credit-comes-back"),
    ("empty credit", "credit-comes-back"),
    ("cuts", "result-may-be-too-large"),
    ("one message", "messages-are-limited"),
    ("unknown kinds", "unknown-kinds-are-ignored"),
    ("no credit", "delegated-holds-no-slot"),
    ("no alias", "delegated-is-repeated-too"),
    ("keeps all", "delegated-is-repeated-too"),
    ("percent", "progress-ends-nothing"),
    ("not listed", "paused-ends-nothing"),
    ("no cancel", "paused-ends-nothing"),
    ("ends paused", "paused-has-no-deadline"),
    ("not repeated", "outcome-is-repeated"),
    ("keeps all", "acknowledged-is-forgotten"),
    ("keeps all", "verdicts-are-final"),
    ("any ack", "acknowledgement-names-its-outcome"),
    ("breaks on acks", "acknowledgement-of-nothing"),
    ("no cancel", "cancel-stops-what-runs"),
    ("any cancel", "cancel-names-a-delivery"),
    ("cancels ended", "cancel-after-the-end"),
    ("no deadline", "time-left-is-kept"),
    ("wall clock", "clock-steps-change-nothing"),
    ("no deadline", "deadline-of-an-older-engine"),
    ("runs twice", "delivery-comes-twice-while-it-runs"),
    ("silent on repeats", "delivery-comes-twice-after-its-end"),
    ("first wins", "newer-delivery-replaces"),
    ("new session", "reconnect-keeps-what-runs"),
    ("not listed", "reconnect-keeps-what-runs"),
    ("new session", "reconnect-after-a-cut"),
    ("not repeated", "engine-may-be-away"),
    ("storm", "reconnect-has-pauses"),
    ("superseded", "superseded-is-dropped"),
    ("no heartbeat", "heartbeat-when-idle"),
    ("no heartbeat", "heartbeat-under-load"),
    ("waits for ever", "silent-engine-is-left"),
    ("no inventory", "inventory-lists-what-it-has"),
    ("no inventory", "inventory-of-an-engine-never-met"),
    ("takes ended", "ended-engine-is-refused"),
    ("no goodbye", "drain-ends-with-goodbye"),
    ("no goodbye", "drain-keeps-what-runs"),
    ("comes back", "superseded-session-stays-away"),
]


async def play_all_pairs(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Played]:
    """How checks ended, by fault and name: each on a toy of its own, many at once, because most of them wait."""
    free = asyncio.Semaphore(12)

    async def play_pair(fault: str, name: str) -> Played:
        async with free:
            return await play(name, fault)

    return dict(zip(pairs, await asyncio.gather(*(play_pair(*pair) for pair in pairs)), strict=True))


async def test_an_executor_that_keeps_the_contract_passes() -> None:
    """The checks find nothing where no rule is broken."""
    all_played = await play_all_pairs([("", name) for name in BY_NAME if name not in NEED_MORE])

    assert {
        name: (played.verdict, played.expected, played.came)
        for (_, name), played in all_played.items()
        if played.verdict is not Verdict.PASSED
    } == {}


@pytest.mark.long("waits for many executors")
async def test_each_broken_rule_is_found() -> None:
    """The check of the rule fails, and says what was expected and what came."""
    all_played = await play_all_pairs(FAULTS)

    assert [pair for pair, played in all_played.items() if played.verdict is not Verdict.FAILED] == []
    assert [pair for pair, played in all_played.items() if not (played.expected and played.came)] == []


def test_every_check_can_fail() -> None:
    """No check passes whatever an executor does: each has a fault that it finds."""
    assert {name for _, name in FAULTS} | NEED_MORE == set(BY_NAME)


def test_names_are_unique_and_rules_are_sentences() -> None:
    """A report names each check once, with a rule that ends like a sentence; the page says how many there are."""
    page = (Path(str(checks.__file__)).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"\n{len(CHECKS)} checks: " in page
    assert len(BY_NAME) == len(CHECKS) >= 40
    assert [check.name for check in CHECKS if not check.rule.rstrip(")").endswith((".", '."'))] == []
