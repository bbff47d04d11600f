"""What the engine decides: acknowledgements, cancels, time, and deliveries that come again."""

from __future__ import annotations

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.scene import Order
from dalsegno.executor_check.steps import (
    Acknowledge,
    Break,
    Cancel,
    Connect,
    InFlight,
    Outcome,
    Quiet,
    Run,
)
from dalsegno.v1 import executor_service_pb2 as wire

CANCELLED = wire.TASK_OUTCOME_CANCELLED
FAILED = wire.TASK_OUTCOME_FAILED
RUNNING = wire.TASK_OUTCOME_RUNNING
SUCCEEDED = wire.TASK_OUTCOME_SUCCEEDED

HOUR_S = 3600.0


def _echo(label: str, delivery: int = 1) -> Run:
    return Run(Order(label, "echo", {"output": label}, delivery=delivery))


def _sleep(label: str, seconds: float, time_left_s: float | None = None, deadline_s: float | None = None) -> Run:
    return Run(Order(label, "sleep", {"seconds": seconds}, time_left_s=time_left_s, deadline_s=deadline_s))


def _find_early_end(done: wire.TaskDone) -> str:
    return "" if done.error.strip() else "FAILED without an `error`"


_ALIVE = (_echo("alive"), Outcome("alive"), Acknowledge("alive"))
"""The stream is as it was."""

CHECKS = (
    Check(
        "outcome-is-repeated",
        "ExecutorService: it stores the report until it is acknowledged, and sends it again after a reconnect.",
        (_echo("a"), Outcome("a"), Break(), Connect(), InFlight(("a",)), Outcome("a"), Acknowledge("a")),
    ),
    Check(
        "acknowledged-is-forgotten",
        "Ack: the executor may delete it; Hello lists only what runs or is not acknowledged.",
        (
            *(_echo("a"), Outcome("a"), Acknowledge("a"), _echo("b"), Outcome("b")),
            *(Break(), Connect(), InFlight(("b",)), Outcome("b"), Quiet("a", 0.2), Acknowledge("b")),
        ),
    ),
    Check(
        "verdicts-are-final",
        "AckVerdict: what is DUPLICATE, SUPERSEDED or REFUSED is not sent again.",
        (
            *(_echo("a"), Outcome("a"), Acknowledge("a", wire.ACK_VERDICT_DUPLICATE)),
            *(_echo("b"), Outcome("b"), Acknowledge("b", wire.ACK_VERDICT_SUPERSEDED)),
            *(_echo("c"), Outcome("c"), Acknowledge("c", wire.ACK_VERDICT_REFUSED)),
            *(*_ALIVE, Break(), Connect(), InFlight(())),
            *(Quiet(each, 0.1) for each in "abc"),
        ),
    ),
    Check(
        "acknowledgement-names-its-outcome",
        "Ack.outcome: an executor keeps the outcome that ends its action until an Ack names that outcome.",
        (
            *(_echo("a"), Outcome("a"), Acknowledge("a", outcome=RUNNING)),
            *(Break(), Connect(), InFlight(("a",)), Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "acknowledgement-of-nothing",
        "Ack: the executor may delete the outcome; an Ack for what it does not have changes nothing.",
        (_echo("a"), Outcome("a"), Acknowledge("a"), Acknowledge("a"), Acknowledge("a", delivery=7), *_ALIVE),
    ),
    Check(
        "cancel-stops-what-runs",
        "CancelAction: the executor stops it as well as it can and reports CANCELLED.",
        (_sleep("a", 30), Cancel("a"), Outcome("a", (CANCELLED,), within_s=3), Acknowledge("a")),
    ),
    Check(
        "cancel-names-a-delivery",
        "CancelAction.delivery: only that delivery; an unknown one changes nothing.",
        (_sleep("a", 0.6), Cancel("a", delivery=2), Outcome("a"), Acknowledge("a"), Cancel("a", delivery=9), *_ALIVE),
    ),
    Check(
        "cancel-after-the-end",
        "TaskDone: a delivery has one outcome; a cancel that comes after its end does not change it.",
        (_echo("a"), Outcome("a"), Cancel("a"), Quiet("a", 0.3), Break(), Connect(), Outcome("a"), Acknowledge("a")),
    ),
    Check(
        "time-left-is-kept",
        "RunAction.time_left: the executor counts it from the receipt, stops the action and reports FAILED.",
        (
            *(_sleep("a", 30, time_left_s=0.5), Outcome("a", (FAILED,), within_s=3, problem=_find_early_end)),
            *(_sleep("b", 30, time_left_s=0), Outcome("b", (FAILED,), within_s=1, problem=_find_early_end)),
            *(Acknowledge("a"), Acknowledge("b")),
        ),
    ),
    Check(
        "clock-steps-change-nothing",
        "RunAction.deadline is for people to read: an executor counts by `time_left`, by a monotonic clock.",
        (
            Connect(clock_offset_s=-HOUR_S),
            *(_sleep("a", 0.1, time_left_s=20, deadline_s=20), Outcome("a"), Acknowledge("a")),
            *(_sleep("b", 0.1, time_left_s=20, deadline_s=-2 * HOUR_S), Outcome("b"), Acknowledge("b")),
            _sleep("c", 30, time_left_s=0.3, deadline_s=2 * HOUR_S),
            *(Outcome("c", (FAILED,), within_s=3), Acknowledge("c")),
        ),
    ),
    Check(
        "deadline-of-an-older-engine",
        "RunAction.deadline: without `time_left` an executor counts by it, from the `now` of the Welcome on.",
        (
            Connect(clock_offset_s=HOUR_S),
            *(_sleep("a", 30, deadline_s=0.5), Outcome("a", (FAILED,), within_s=3), Acknowledge("a")),
            *(_sleep("b", 0.1, deadline_s=20), Outcome("b"), Acknowledge("b")),
            *(Connect(clock_offset_s=-HOUR_S), _sleep("c", 0.1, deadline_s=20), Outcome("c"), Acknowledge("c")),
        ),
    ),
    Check(
        "delivery-comes-twice-while-it-runs",
        "RunAction: it may come twice: an executor runs a delivery once, and it has one outcome.",
        (
            Run(Order("a", "sleep", {"seconds": 0.3}), copies=2),
            *(Outcome("a"), Quiet("a", 0.4), Acknowledge("a"), *_ALIVE),
        ),
    ),
    Check(
        "delivery-comes-twice-after-its-end",
        "RunAction: it may come twice: an executor sends its outcome again if it has one.",
        (_echo("a"), Outcome("a"), _echo("a"), Outcome("a", nth=2), Acknowledge("a"), *_ALIVE),
    ),
    Check(
        "newer-delivery-replaces",
        "RunAction: a newer delivery of an action execution replaces an older one, which the executor stops.",
        (_sleep("a", 0.5), _echo("a", delivery=2), Outcome("a", delivery=2, result="a"), Acknowledge("a", delivery=2)),
    ),
)
