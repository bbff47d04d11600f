"""Running: inputs, results, failures, slots and credit."""

from __future__ import annotations

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.line import with_unknown_field
from dalsegno.executor_check.scene import Order
from dalsegno.executor_check.steps import (
    Acknowledge,
    Break,
    Cancel,
    Connect,
    CreditBack,
    InFlight,
    Outcome,
    Quiet,
    Report,
    Run,
    Send,
    Slots,
)
from dalsegno.v1 import executor_service_pb2 as wire

RESULT_BYTES_MAX = 4_000_000
CANCELLED = wire.TASK_OUTCOME_CANCELLED
DELEGATED = wire.TASK_OUTCOME_DELEGATED
FAILED = wire.TASK_OUTCOME_FAILED
PAUSED = wire.TASK_OUTCOME_PAUSED
RUNNING = wire.TASK_OUTCOME_RUNNING
SUCCEEDED = wire.TASK_OUTCOME_SUCCEEDED

EXACT = {
    "numbers": [0, -1, 9_007_199_254_740_991, 0.1, 1.5e300],
    "texts": ["", 'a "quote" \\ and a\ttab', "\u00fcml\u00e4ut \u4e2d\u6587 \U0001f600 \u2028"],
    "nothing": [None, True, False, [], {}],
    "deep": {"a": [{"b": [[1]]}]},
}
"""A value that every language can read and write unchanged."""

LARGE = "x" * 3_900_000

ALIAS = "an alias of the check"


def _find_no_error(done: wire.TaskDone) -> str:
    return "" if done.error.strip() else "FAILED without an `error`"


def _find_large_result(done: wire.TaskDone) -> str:
    fits = done.outcome == SUCCEEDED and len(done.result.encode()) <= RESULT_BYTES_MAX
    return f"a result of {len(done.result):,} characters" if fits else ""


def _find_other_alias(done: wire.TaskDone) -> str:
    return "" if done.alias == ALIAS else f"the alias {done.alias[:40]!r}"


def _pause(label: str, seconds: float, time_left_s: float | None = None) -> Run:
    return Run(Order(label, "pause", {"seconds": seconds}, time_left_s=time_left_s))


_ROUND = (Outcome("a"), Acknowledge("a"))

CHECKS = (
    Check(
        "result-is-exact",
        "README: values are JSON text; TaskDone names the action execution and the delivery.",
        (
            Run(Order("a", "echo", {"output": EXACT}, delivery=3)),
            *(Outcome("a", result=EXACT, delivery=3), Acknowledge("a", delivery=3)),
        ),
    ),
    Check(
        "result-may-be-null",
        "TaskDone.result: empty is null; nothing but DELEGATED means that a third party completes it.",
        (Run(Order("a", "echo", {"output": None})), Outcome("a", result=None), Acknowledge("a")),
    ),
    Check(
        "values-may-be-large",
        "ExecutorService: a message with one action is below 4 MiB, and a result has at most 4,000,000 bytes.",
        (Run(Order("a", "echo", {"output": LARGE})), Outcome("a", result=LARGE, within_s=10), Acknowledge("a")),
    ),
    Check(
        "failure-has-an-error",
        'TaskDone.error: "The error, as a message without a traceback", at most 65,536 characters.',
        (
            Run(Order("a", "fail", {"message": "as the check asks"})),
            Outcome("a", (FAILED,), problem=_find_no_error),
            Run(Order("b", "fail", {"message": "long " * 20_000})),
            Outcome("b", (FAILED,), problem=_find_no_error),
            *(Acknowledge("a"), Acknowledge("b")),
        ),
    ),
    Check(
        "action-may-be-unknown",
        "RunAction: each is reported; an action that the executor does not serve it reports as FAILED.",
        (
            Run(Order("a", "check.nobody-serves-this")),
            Outcome("a", (FAILED,), problem=_find_no_error),
            Acknowledge("a"),
        ),
    ),
    Check(
        "input-may-be-unfit",
        "RunAction: each is reported, also one whose input the action does not accept.",
        (
            Run(Order("a", "sleep", {"seconds": "soon"})),
            Outcome("a", (FAILED,), problem=_find_no_error),
            Acknowledge("a"),
        ),
    ),
    Check(
        "batch-is-run-whole",
        "RunActionBatch: every action of it is run, and reported once.",
        (Run(Order("a", "echo", {"output": "x"}), times=50), *_ROUND, Quiet("a", 0.2)),
    ),
    Check(
        "quick-ones-do-not-wait",
        "Hello.slots: actions run at once; a long one does not hold up the others, nor their reports.",
        (
            Slots(2),
            Run(Order("long", "sleep", {"seconds": 1.0})),
            Run(Order("a", "echo", {"output": 1})),
            Outcome("a", within_s=0.9),
            *(Outcome("long"), Acknowledge("a"), Acknowledge("long")),
        ),
    ),
    Check(
        "slots-are-used-at-once",
        "Hello.slots: it runs so many actions at once.",
        (
            Slots(4),
            *(Run(Order("a", "sleep", {"seconds": 0.6}), times=8), Outcome("a", within_s=2), Acknowledge("a")),
        ),
    ),
    Check(
        "credit-comes-back",
        "Credit: each RunAction uses one up; the executor gives more as actions end.",
        (
            *(Run(Order("a", "echo", {"output": 1}), times=1000), Outcome("a"), Acknowledge("a"), CreditBack()),
            *(Run(Order("b", "echo", {"output": 1}), times=1000), Outcome("b"), Acknowledge("b"), CreditBack()),
        ),
    ),
    Check(
        "result-may-be-too-large",
        "ExecutorService: an outcome with a result over 4,000,000 bytes is REFUSED; report it as FAILED. An executor "
        "goes on, and does not send it again.",
        (
            Run(Order("big", "big", {"size": 5_000_000})),
            Outcome("big", (FAILED, SUCCEEDED), within_s=10, problem=_find_large_result),
            *(Acknowledge("big", wire.ACK_VERDICT_REFUSED), Run(Order("a", "echo", {"output": 1})), *_ROUND),
            Quiet("big", 0.2),
        ),
    ),
    Check(
        "messages-are-limited",
        "ExecutorService: a message has at most 16 MiB; results that end together go in several.",
        (
            Slots(5),
            Run(Order("big", "big", {"size": 3_900_000}), times=6),
            *(Outcome("big", within_s=15), Acknowledge("big")),
        ),
    ),
    Check(
        "unknown-kinds-are-ignored",
        "ExecutorService: the engine ignores messages of a kind that it does not know, and an executor does the same.",
        (
            Send(wire.ConnectResponse()),
            Send(with_unknown_field(wire.ConnectResponse())),
            *(Run(Order("a", "echo", {"output": 1}), unknown_fields=True), *_ROUND),
        ),
    ),
    Check(
        "delegated-holds-no-slot",
        "TaskOutcome: a third party completes what is DELEGATED; it holds no slot and no lease.",
        (
            Run(Order("a", "delegate", {"alias": ALIAS}), times=1000),
            *(Outcome("a", (DELEGATED,)), Acknowledge("a"), CreditBack()),
            *(Run(Order("b", "echo", {"output": 1})), Outcome("b"), Acknowledge("b")),
        ),
    ),
    Check(
        "delegated-is-repeated-too",
        "TaskOutcome: DELEGATED, with its `alias`, is stored until it is acknowledged; after that the executor has "
        "nothing of the action, and a cancel changes nothing.",
        (
            *(Run(Order("a", "delegate", {"alias": ALIAS})), Outcome("a", (DELEGATED,), problem=_find_other_alias)),
            *(Break(), Connect(), InFlight(("a",)), Outcome("a", (DELEGATED,), problem=_find_other_alias)),
            *(Acknowledge("a"), Cancel("a"), Quiet("a", 0.2), Run(Order("b", "echo", {"output": 1}))),
            *(Outcome("b"), Acknowledge("b"), Break(), Connect(), InFlight(())),
        ),
    ),
    Check(
        "progress-ends-nothing",
        "TaskOutcome: RUNNING has not ended, `progress` says how far it is, its `fraction` is from 0 to 1.",
        (
            Run(Order("a", "progress", {"text": "half", "fraction": 0.5, "seconds": 0.4})),
            *(Report("a"), Outcome("a"), Acknowledge("a")),
        ),
    ),
    Check(
        "paused-ends-nothing",
        "TaskOutcome: PAUSED has not ended: the action keeps its delivery, a cancel stops it, and RUNNING says that it "
        "runs again.",
        (
            *(_pause("a", 0.3), Report("a", PAUSED), Report("a", RUNNING), Outcome("a"), Acknowledge("a")),
            *(_pause("b", 30), Report("b", PAUSED), Break(), Connect(), InFlight(("b",))),
            *(Cancel("b"), Outcome("b", (CANCELLED,), within_s=3), Acknowledge("b")),
        ),
    ),
    Check(
        "paused-has-no-deadline",
        "RunAction.time_left: an action that it has reported as PAUSED it leaves alone: the engine stops it.",
        (_pause("a", 1.6, time_left_s=1.0), Report("a", PAUSED), Outcome("a"), Acknowledge("a")),
    ),
)
