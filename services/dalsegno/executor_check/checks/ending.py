"""The end of a stream, of a session and of the executor; the last check of each kind starts it again."""

from __future__ import annotations

import grpc

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.scene import Order
from dalsegno.executor_check.steps import (
    Acknowledge,
    Break,
    Connect,
    Drain,
    Goodbye,
    InFlight,
    Leaves,
    NoStream,
    Outcome,
    Run,
    Stop,
)


def _sleep(label: str, seconds: float) -> Run:
    return Run(Order(label, "sleep", {"seconds": seconds}))


CHECKS = (
    Check(
        "drain-ends-with-goodbye",
        "Drain: the executor sends what outcomes it has, waits for their acknowledgement, and says Goodbye without "
        "`release`.",
        (
            *(Run(Order("a", "echo", {"output": 1})), Outcome("a"), Drain(10)),
            *(Acknowledge("a"), Goodbye(release=False, within_s=8)),
            *(Connect(), InFlight(())),
        ),
    ),
    Check(
        "drain-keeps-what-runs",
        "Drain: without `release`, what runs stays with the session, which connects again.",
        (
            *(_sleep("a", 1.6), Drain(1), Goodbye(release=False, within_s=2)),
            *(Connect(), InFlight(("a",)), Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "stop-says-goodbye",
        "ExecutorService: before it ends a stream on purpose an executor sends Goodbye.",
        (Connect(acknowledges=True), Stop(), Leaves(), Connect()),
    ),
    Check(
        "stop-loses-nothing",
        "Goodbye.release: what it has not ended is given back, or its outcome is sent before.",
        (Connect(acknowledges=True), _sleep("a", 1.0), Stop(), Leaves(owed="a"), Connect()),
    ),
    Check(
        "superseded-session-stays-away",
        "ExecutorService.Connect: after ABORTED with SESSION_SUPERSEDED do not reconnect with this session.",
        (Break(grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED"), NoStream(1.5)),
    ),
)
