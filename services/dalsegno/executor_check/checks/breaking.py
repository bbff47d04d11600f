"""Streams that break, heartbeats, and engines that go."""

from __future__ import annotations

import grpc

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.scene import Order, Scene
from dalsegno.executor_check.steps import (
    Acknowledge,
    Answers,
    Ask,
    Break,
    Connect,
    ConnectSecond,
    CreditBack,
    Cut,
    Heartbeats,
    Hello,
    InFlight,
    Left,
    NoStream,
    Outcome,
    Quiet,
    Refuse,
    Run,
    Slots,
)


def _sleep(label: str, seconds: float) -> Run:
    return Run(Order(label, "sleep", {"seconds": seconds}))


def _echo(label: str) -> Run:
    return Run(Order(label, "echo", {"output": label}))


def _find_other_session(scene: Scene) -> str:
    now, before = scene.line.hello, scene.before
    if before is None or (now.executor_id, now.session_id) == (before.hello.executor_id, before.hello.session_id):
        return ""
    return f"{now.executor_id} {now.session_id}"


SAME = Hello("the same executor_id and session_id", _find_other_session)

CHECKS = (
    Check(
        "reconnect-keeps-what-runs",
        "ExecutorService.Connect: to resume after a break, call again with the same session id and the deliveries "
        "still in flight.",
        (
            *(_sleep("a", 0.7), Break(), Connect(), SAME, InFlight(("a",))),
            *(Outcome("a"), Quiet("a", 0.2), Acknowledge("a")),
        ),
    ),
    Check(
        "reconnect-after-a-cut",
        "ExecutorService.Connect: a connection that breaks without a status is a break like another.",
        (
            *(_sleep("a", 0.8), Cut(), Connect(), SAME, InFlight(("a",))),
            *(Outcome("a"), Quiet("a", 0.2), Acknowledge("a")),
        ),
    ),
    Check(
        "engine-may-be-away",
        "ExecutorService: outcomes of the time in which no engine is there are stored, and sent when one is.",
        (
            *(_sleep("a", 0.3), Cut(0.7), Connect(), SAME, InFlight(("a",))),
            *(Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "reconnect-has-pauses",
        "README, Writing an executor: after a break it opens the stream again, with pauses that grow.",
        (Refuse(1.0, at_most=20), Connect(), SAME, InFlight(())),
    ),
    Check(
        "reconnect-after-other-errors",
        "ExecutorService.Connect: after INTERNAL (also by a proxy that cuts the stream) and RESOURCE_EXHAUSTED an "
        "executor connects again, too.",
        (
            *(_sleep("a", 1.2), Break(grpc.StatusCode.INTERNAL, "INTERNAL"), Connect(), SAME, InFlight(("a",))),
            *(Break(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"), Connect(), SAME, InFlight(("a",))),
            *(Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "superseded-is-dropped",
        "Welcome.superseded: deliveries that no longer count: stop them, or drop their outcomes.",
        (
            *(_sleep("a", 0.7), _echo("b"), Outcome("b")),
            *(Break(), Connect(superseded=("a", "b")), Quiet("b", 0.2), Quiet("a", 0.8), CreditBack()),
            *(Break(), Connect(), InFlight(())),
        ),
    ),
    Check(
        "heartbeat-when-idle",
        "Welcome.heartbeat: both sides send a Heartbeat at least so often (the check allows twice the time).",
        (Connect(heartbeat_s=0.5, lease_s=5), Heartbeats(1.5, apart_s=1.0)),
    ),
    Check(
        "heartbeat-under-load",
        "Welcome.heartbeat: also while slots are in use and large values travel (the check allows 1 s for 0.4 s).",
        (
            Connect(heartbeat_s=0.4, lease_s=5),
            _sleep("long", 1.3),
            Run(Order("a", "echo", {"output": "x" * 500_000}), times=3),
            Run(Order("b", "echo", {"output": 1}), times=500),
            Heartbeats(1.2, apart_s=1.0),
            *(Outcome(each) for each in ("a", "b", "long")),
            *(Acknowledge(each) for each in ("a", "b", "long")),
        ),
    ),
    Check(
        "silent-engine-is-left",
        "Welcome.lease: an engine that is silent for as long is gone: the executor cancels the call and opens a new "
        "stream.",
        (
            *(Connect(heartbeat_s=0.3, lease_s=1.0, beats=False), _sleep("a", 0.3), Outcome("a")),
            *(Connect(within_s=5, ends_open=False), SAME, InFlight(("a",)), Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "inventory-lists-what-it-has",
        "Inventory: all deliveries that run or are not acknowledged; each request is answered with the whole list.",
        (
            *(Connect(engine_id="ended-1"), Answers(), _sleep("a", 1.0), _echo("b"), Outcome("b")),
            *(Break(), Connect(engine_id="heir"), Outcome("b")),
            *(Ask("ended-1", ("a", "b")), Ask("ended-1", ("a", "b")), Acknowledge("b"), Ask("ended-1", ("a",))),
            *(Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "inventory-of-an-engine-never-met",
        "InventoryRequest.engine_id: an executor that has never met it answers, too.",
        (Answers(), _sleep("a", 0.4), Ask("never-met", ("a",)), Outcome("a"), Acknowledge("a")),
    ),
    Check(
        "ended-engine-is-refused",
        "InventoryRequest: from then on it ends at once a stream whose Welcome has this engine id, and connects again "
        "later.",
        (
            *(Connect(engine_id="ended-2"), Answers(), Break(), Connect(engine_id="heir"), Ask("ended-2")),
            *(Break(), Connect(engine_id="ended-2"), Left(is_present=True), Connect(), SAME),
        ),
    ),
    Check(
        "inventory-follows-the-end-of-the-stream",
        "InventoryRequest: the executor ends its stream to that engine first; what it reported there and what was not "
        "acknowledged goes out on another stream.",
        (
            *(Connect(engine_id="ended-3"), Answers(), Slots(2), _sleep("a", 1.0), _echo("b"), Outcome("b")),
            *(ConnectSecond("heir"), Ask("ended-3", ("a", "b")), Left(within_s=1.0)),
            *(Outcome("b"), Outcome("a"), Acknowledge("a"), Acknowledge("b")),
        ),
    ),
    Check(
        "superseded-stream-leaves-the-other",
        "ExecutorService.Connect: after ABORTED with STREAM_SUPERSEDED do not reconnect while the newer stream of the "
        "session to the same engine is open; the session goes on.",
        (
            *(Connect(engine_id="twice"), Slots(2), _sleep("a", 0.5), ConnectSecond("twice"), InFlight(("a",))),
            *(Break(grpc.StatusCode.ABORTED, "STREAM_SUPERSEDED", is_present=False), _echo("b"), Outcome("b")),
            *(Outcome("a"), Acknowledge("a"), Acknowledge("b"), NoStream(1.5, "STREAM_SUPERSEDED")),
            *(Break(), Connect(), SAME, InFlight(())),
        ),
    ),
)
