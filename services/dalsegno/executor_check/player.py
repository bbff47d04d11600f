"""Plays checks, one after the other, on one executor."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import Enum

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.scene import Scene, Skipped, Unmet
from dalsegno.executor_check.steps import Connect


class Verdict(Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Played:
    """A check that has been played."""

    check: Check
    verdict: Verdict
    seconds: float
    expected: str = ""
    came: str = ""
    """What came instead; of a skipped check the reason."""


async def play_all(checks: Iterable[Check], scene: Scene) -> AsyncIterator[Played]:
    """Play each check, and yield how it ended. A check without `Connect` at its beginning goes on with the stream that
    is open, if the last check left it in order."""
    in_order = False
    for check in checks:
        begun_s = time.monotonic()
        verdict, expected, came = Verdict.PASSED, "", ""
        scene.begin()
        try:
            await _play(check, scene, in_order)
        except Unmet as unmet:
            verdict, expected, came = Verdict.FAILED, unmet.expected, unmet.came
        except Skipped as skipped:
            verdict, came = Verdict.SKIPPED, str(skipped)
        in_order = verdict is Verdict.PASSED and scene.is_ordinary
        if scene.second is not None and scene.second.is_listening:
            await scene.second.stop()
            in_order = False
        yield Played(check, verdict, time.monotonic() - begun_s, expected, came)


async def _play(check: Check, scene: Scene, in_order: bool) -> None:
    if not isinstance(check.steps[0], Connect) and not (in_order and scene.is_open):
        await Connect().play(scene)
    for step in check.steps:
        await step.play(scene)
        if broken := scene.take_broken_rules():
            raise Unmet("messages that keep the rules of their fields", "; ".join(broken[:3]))
