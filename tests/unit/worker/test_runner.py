"""Runs of actions: async, blocking and instant ones, their results and their failures."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.worker.scripted import order

from dalsegno.actions.action import (
    DELEGATED,
    ActionCancelled,
    ActionContext,
    ActionFailed,
    AnyAction,
    Delegated,
    action,
)
from dalsegno.actions.registry import Registry, load_registry
from dalsegno.v1.executor_service_pb2 import TaskDone, TaskOutcome
from dalsegno.worker import runner
from dalsegno.worker.runner import Run, Runner

SUCCEEDED = TaskOutcome.TASK_OUTCOME_SUCCEEDED
FAILED = TaskOutcome.TASK_OUTCOME_FAILED
CANCELLED = TaskOutcome.TASK_OUTCOME_CANCELLED
KEY = ("e.1.0.1", 1)


@dataclass
class Bench:
    """A runner and its reports."""

    runner: Runner
    done: list[TaskDone] = field(default_factory=list)
    freed: list[Run] = field(default_factory=list)

    def start(self, name: str, timeout_s: float | None = None, **given: object) -> None:
        self.runner.start(order(1, name, json.dumps(given)), "engine", timeout_s)

    async def ended(self, name: str, timeout_s: float | None = None, **given: object) -> TaskDone:
        """Return the outcome of the action."""
        self.start(name, timeout_s, **given)
        await self.until(lambda: bool(self.done))
        return self.done.pop()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110 (what is waited for is not ours to signal)
                await asyncio.sleep(0.005)


MakeBench = Callable[..., Bench]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    """Provide a function that makes a runner of the built-in actions and the given ones."""
    made: list[Bench] = []

    def make(*actions: AnyAction, threads: int = 2) -> Bench:
        done: list[TaskDone] = []
        freed: list[Run] = []
        registry = Registry([*load_registry(plugins=()), *actions])
        running = Runner(
            registry, threads, lambda message, run: done.append(message), freed.append, report_progress=print
        )
        made.append(Bench(running, done, freed))
        return made[-1]

    yield make
    for bench in made:
        await bench.runner.close(1)


async def test_an_instant_action_has_ended_when_start_returns(make_bench: MakeBench) -> None:
    """An instant action needs no task, no thread and no turn of the event loop."""
    bench = make_bench()

    bench.start("std.echo", output={"city": "Port Ellis"})

    assert [(each.outcome, each.result) for each in bench.done] == [(SUCCEEDED, '{"city":"Port Ellis"}')]
    assert len(bench.freed) == 1


async def test_null_is_a_result(make_bench: MakeBench) -> None:
    """An action that returns None succeeds with null (dalsegno/README.md#executors)."""
    done = await make_bench().ended("std.noop")

    assert (done.outcome, done.result) == (SUCCEEDED, "")


async def test_async_actions_run_beside_each_other(make_bench: MakeBench) -> None:
    """A hundred sleeping actions take as long as one."""
    bench = make_bench()
    start_s = time.monotonic()

    for number in range(100):
        bench.runner.start(order(number, "std.sleep", '{"seconds": 0.5}'), "engine", None)
    assert len(bench.runner) == 100
    await bench.until(lambda: len(bench.done) == 100)

    assert time.monotonic() - start_s < 20  # one after another they take 50 s


async def test_blocking_actions_run_in_threads_and_no_more_than_there_are(make_bench: MakeBench) -> None:
    """A blocking action blocks neither the event loop nor more threads than there are."""
    names: set[str] = set()
    most = 0
    running = 0
    changed = threading.Condition()

    @action("test.block")
    def block() -> None:
        nonlocal most, running
        with changed:
            running += 1
            most = max(most, running)
            changed.notify_all()
            changed.wait_for(lambda: most > 1, 20)  # the other thread may begin later
        names.add(threading.current_thread().name)
        time.sleep(0.05)
        with changed:
            running -= 1

    bench = make_bench(block, threads=2)
    for number in range(6):
        bench.runner.start(order(number, "test.block"), "engine", None)
    bench.start("std.noop")  # the loop is free
    assert len(bench.done) == 1
    await bench.until(lambda: len(bench.done) == 7)

    assert most == 2
    assert all(name.startswith("action") for name in names)


async def test_what_an_action_raises_is_its_failure_without_a_traceback(make_bench: MakeBench) -> None:
    """The error names the action and the exception; the log has the traceback."""

    @action("test.broken")
    async def broken() -> None:
        raise KeyError("pressure")

    @action("test.broken_in_thread")
    def broken_in_thread() -> None:
        raise ValueError("no \ud800 text\0")

    @action("test.exits", blocking=False)
    def exits() -> None:
        raise SystemExit(3)

    bench = make_bench(broken, broken_in_thread, exits)

    done = await bench.ended("test.broken")
    assert (done.outcome, done.result) == (FAILED, "")
    assert done.error == "The action raised an exception [action=test.broken, msg=''pressure'']"
    assert "no \\ud800 text\\0" in (await bench.ended("test.broken_in_thread")).error
    assert (await bench.ended("test.exits")).outcome == FAILED


async def test_a_failure_may_carry_data(make_bench: MakeBench) -> None:
    """The text of ActionFailed is the error, and its result is sent too."""

    @action("test.refuse", blocking=False)
    def refuse(data: object) -> None:
        raise ActionFailed("out of paper", {"tray": data})

    @action("test.unfit", blocking=False)
    def unfit() -> None:
        raise ActionFailed("out of paper", {1, 2})

    bench = make_bench(refuse, unfit)

    done = await bench.ended("test.refuse", data=2)
    assert (done.outcome, done.error, done.result) == (FAILED, "out of paper", '{"tray":2}')
    done = await bench.ended("test.unfit")
    assert done.outcome == FAILED
    assert done.error.startswith("out of paper (its data is omitted: ")


async def test_a_delegate_says_so_and_may_choose_an_alias(make_bench: MakeBench) -> None:
    """P7, P10: the action decides that another program completes it."""

    @action("test.ask")
    async def ask(alias: str) -> Delegated:
        return Delegated(alias)

    @action("test.ask_anybody")
    def ask_anybody() -> object:
        return DELEGATED

    bench = make_bench(ask, ask_anybody)

    done = await bench.ended("test.ask", alias="order-17")
    assert (done.outcome, done.alias) == (TaskOutcome.TASK_OUTCOME_DELEGATED, "order-17")
    done = await bench.ended("test.ask_anybody")
    assert (done.outcome, done.alias) == (TaskOutcome.TASK_OUTCOME_DELEGATED, "")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("std.echo", {}, "std.echo: input missing: output"),
        ("std.noop", {"a": 1, "b": 2}, "std.noop: input unknown: a, b"),
        ("test.nowhere", {}, "this executor has no action named test.nowhere"),
        (
            "std.ssh",
            {},
            "std.ssh is off on this executor; its operator turns it on with --allow std.ssh or "
            "DALSEGNO_EXECUTOR_ALLOW=std.ssh",
        ),
        ("std.mistral_http", {"url": "http://127.0.0.1:9/", "context": 1}, "std.mistral_http: input unknown: context"),
    ],
)
async def test_an_input_that_does_not_fit_is_a_failure(
    make_bench: MakeBench, name: str, given: dict[str, Any], words: str
) -> None:
    """The error names all missing and unknown inputs; the context cannot be an input."""
    done = await make_bench().ended(name, **given)

    assert (done.outcome, done.error) == (FAILED, words)


@pytest.mark.parametrize("text", ["[1]", "{", "17"])
async def test_an_input_that_is_no_object_is_a_failure(make_bench: MakeBench, text: str) -> None:
    """An input that is no object, or no JSON, is a failure and is reported."""
    bench = make_bench()

    bench.runner.start(order(1, "std.echo", text), "engine", None)

    assert [each.outcome for each in bench.done] == [FAILED]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (float("nan"), "the result is not JSON: $: nan is not JSON"),
        ({"a": [1, {2}]}, "the result is not JSON: $.a[1]: a set is not JSON"),
        ("a\0b", "the result is not JSON: $: holds a NUL character"),
        (["\ud800"], "the result is not JSON: $[0]: holds a lone surrogate"),
        ("x" * 4_000_000, "result too large: 4,000,002 bytes, at most 4,000,000"),
    ],
)
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_result_that_cannot_be_carried_is_a_failure(
    make_bench: MakeBench, result: object, words: str, blocking: bool
) -> None:
    """A result that no message can carry is a failure with the place of the value."""

    @action("test.give", blocking=blocking)
    def give() -> object:
        return result

    done = await make_bench(give).ended("test.give")

    assert (done.outcome, done.error) == (FAILED, words)


async def test_results_are_exact(make_bench: MakeBench) -> None:
    """Integers beyond 64 bits and texts that look like escapes are sent exactly."""
    value = {"n": 2**70, "text": r"\u0000 is written so", "null": None}

    done = await make_bench().ended("std.echo", output=value)

    assert json.loads(done.result) == value


async def test_a_deadline_stops_an_async_action(make_bench: MakeBench) -> None:
    """An async action is cancelled at its deadline and fails, whatever it returns after its cleanup."""
    cleaned = []

    @action("test.stubborn")
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cleaned.append(True)
        return "late"

    done = await make_bench(stubborn).ended("test.stubborn", timeout_s=0.05)

    assert (done.outcome, done.error, done.result) == (FAILED, "timed out after 0.050 s", "")
    assert cleaned


async def test_an_async_action_that_cannot_be_cancelled_is_reported(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An async action that does not end after its deadline is reported without its outcome, and keeps its slot until it
    ends."""
    monkeypatch.setattr(runner, "CLEANUP_S", 0.1)
    gate = asyncio.Event()

    @action("test.stubborn")
    async def stubborn() -> str:
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await gate.wait()
        return "late"

    bench = make_bench(stubborn)
    done = await bench.ended("test.stubborn", timeout_s=0.05)
    assert (done.outcome, done.error, done.result) == (FAILED, "timed out after 0.050 s", "")
    assert (bench.runner.stuck, bench.freed) == (1, [])
    gate.set()
    await bench.until(lambda: len(bench.freed) == 1)
    assert (bench.runner.stuck, bench.done) == (0, [])


@pytest.mark.parametrize("how", ["async", "thread", "inline"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_nothing_that_an_action_raises_ends_the_worker(
    make_bench: MakeBench, how: str, kind: type[BaseException]
) -> None:
    """Also what is no Exception ends the action that raises it, and no other."""

    async def raise_later() -> None:
        raise kind()

    def raise_now() -> None:
        raise kind()

    made = action("test.raises", blocking=how != "inline")(raise_later if how == "async" else raise_now)
    bench = make_bench(made)
    bench.runner.start(order(2, "std.sleep", '{"seconds": 0.1}'), "engine", None)
    bench.start("test.raises")
    await bench.until(lambda: len(bench.done) == 2)

    expected = CANCELLED if (how, kind) == ("async", asyncio.CancelledError) else FAILED
    done = {each.action_execution_id: each for each in bench.done}  # whichever ends first
    assert (done["e.1.0.1"].outcome, done["e.2.0.1"].outcome) == (expected, SUCCEEDED)
    assert done["e.1.0.1"].error


async def test_a_deadline_drops_the_outcome_of_a_thread_which_keeps_its_slot(make_bench: MakeBench) -> None:
    """The failure is reported at the deadline; the slot is free when the thread ends, since a thread cannot be
    stopped."""
    begun, gate = threading.Event(), threading.Event()
    asked: list[bool] = []

    @action("test.block")
    def block(context: ActionContext) -> str:
        begun.set()
        gate.wait(60)
        asked.append(context.cancelled.is_set())
        return "late"

    bench = make_bench(block)
    try:
        bench.start("test.block", timeout_s=0.05)
        assert begun.wait(20)  # the event loop stands still until then: the time is not over before it has begun
        await bench.until(lambda: bool(bench.done))
        done = bench.done.pop()
        assert (done.outcome, done.error) == (FAILED, "timed out after 0.050 s")
        assert (bench.runner.stuck, bench.freed) == (1, [])
    finally:
        gate.set()
    await bench.until(lambda: len(bench.freed) == 1)
    assert asked == [True]
    assert (bench.runner.stuck, bench.done) == (0, [])


async def test_an_action_that_waits_for_a_thread_can_be_stopped(make_bench: MakeBench) -> None:
    """A stopped action that waits for a thread never runs, and its slot is free at once."""
    gate = threading.Event()
    ran: list[int] = []

    @action("test.block")
    def block(number: int) -> None:
        ran.append(number)
        gate.wait(60)

    bench = make_bench(block, threads=1)
    try:
        bench.runner.start(order(2, "test.block", '{"number": 2}'), "engine", None)
        bench.start("test.block", number=1)
        assert bench.runner.stop(KEY, "enough")
        await bench.until(lambda: len(bench.done) == 1)
        assert (bench.done[0].outcome, bench.done[0].action_execution_id) == (CANCELLED, KEY[0])
    finally:
        gate.set()
    await bench.until(lambda: len(bench.freed) == 2)
    assert ran == [2]


async def test_stopping_before_the_first_step_is_reported_too(make_bench: MakeBench) -> None:
    """An action that is cancelled right after its start is reported."""
    bench = make_bench()

    bench.start("std.sleep", seconds=60)
    assert bench.runner.stop(KEY, "enough")
    assert not bench.runner.stop(KEY, "again")
    await bench.until(lambda: bool(bench.done))

    assert [(each.outcome, each.error) for each in bench.done] == [(CANCELLED, "enough")]
    assert len(bench.freed) == 1


async def test_an_action_may_say_that_it_was_stopped(make_bench: MakeBench) -> None:
    """An action may end as cancelled, which is neither a success nor a failure."""

    @action("test.stopped", blocking=False)
    def stopped() -> None:
        raise ActionCancelled("the printer was switched off")

    done = await make_bench(stopped).ended("test.stopped")

    assert (done.outcome, done.error) == (CANCELLED, "the printer was switched off")


async def test_the_error_of_an_action_with_secrets_is_not_logged(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may quote one: the log has only the type, the report to the engine has it all, and the action knows."""
    seen: list[ActionContext] = []

    @action("test.leaks", blocking=False)
    def leaks(about: ActionContext, password: str) -> None:
        seen.append(about)
        raise ValueError(f"no such user: {password}")

    bench = make_bench(leaks)
    with caplog.at_level("INFO"):
        for number, has_secrets in enumerate((True, False), 1):
            given = json.dumps({"password": f"hidden-{number}"})
            bench.runner.start(order(number, "test.leaks", given, has_secrets=has_secrets), "engine", None)

    assert ["hidden-1" in each.error for each in bench.done] == [True, False]
    assert "hidden-1" not in caplog.text
    assert "raised: ValueError, not shown because it was given secrets" in caplog.text
    assert "no such user: hidden-2" in caplog.text
    assert [each.has_secrets for each in seen] == [True, False]


async def test_an_action_can_know_where_it_runs(make_bench: MakeBench) -> None:
    """The context has the data of the engine and does not print the token."""
    seen: list[ActionContext] = []

    @action("test.where", blocking=False)
    def where(about: ActionContext, word: str = "") -> None:
        seen.append(about)

    bench = make_bench(where)
    sent = order(1, "test.where", task_token="secret-token", trace_context={"traceparent": "00-1-2-01"})
    sent.context.execution_id = "e"
    sent.context.task_name = "print"
    sent.context.attempt = 3
    sent.deadline.FromMilliseconds(1_700_000_000_500)

    bench.runner.start(sent, "engine", 30.0)

    (context,) = seen
    assert (context.action_execution_id, context.execution_id, context.task_name) == ("e.1.0.1", "e", "print")
    assert (context.attempt, context.deadline_s, context.task_token) == (3, 1_700_000_000.5, "secret-token")
    assert context.timeout_s == 30.0
    assert context.trace_context == {"traceparent": "00-1-2-01"}
    assert "secret-token" not in repr(context)
