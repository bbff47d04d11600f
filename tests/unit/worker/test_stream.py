"""The stream: batches, acknowledgements, reconnects, credit, heartbeats and the end."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from tests.integration.engines import until
from tests.unit.worker.scripted import WAITS_S, Engine, MakeExecutor, order

from dalsegno.actions.action import Action, action
from dalsegno.v1 import executor_service_pb2 as wire


def make_gated() -> tuple[Action[..., object], asyncio.Event, list[int]]:
    """Return an action that waits for an event, the event, and the numbers of actions that began."""
    gate = asyncio.Event()
    begun: list[int] = []

    @action("test.gated")
    async def gated(number: int = 0) -> int:
        begun.append(number)
        await gate.wait()
        return number

    return gated, gate, begun


async def test_hello_says_who_the_executor_is_and_what_it_can_do(engine: Engine, make_executor: MakeExecutor) -> None:
    """Hello has the id, session, actions with parameters and defaults, slots, labels and the first credit."""
    executor = make_executor(slots=7)

    hello = (await engine.line()).hello

    assert (hello.executor_id, hello.session_id) == ("executor-of-the-test", executor.session.id)
    assert (hello.slots, hello.credit, dict(hello.labels)) == (7, 7, {"zone": "north"})
    actions = {each.name: each for each in hello.actions}
    echo = [(each.name, each.required, each.default) for each in actions["std.echo"].parameters]
    assert echo == [("output", True, ""), ("delay", False, "0")]
    assert actions["std.echo"].safe_to_rerun
    assert not actions["std.http"].safe_to_rerun


async def test_a_batch_of_instant_actions_is_answered_by_one_message(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """Actions that run together are reported in one message: a message costs as much as twenty outcomes."""
    make_executor()
    line = await engine.line()

    await line.run(*(order(number, "std.echo", f'{{"output": {number}}}') for number in range(50)))

    batch = (await line.next("task_done")).outcomes
    assert [(each.action_execution_id, each.result) for each in batch] == [(f"e.{n}.0.1", str(n)) for n in range(50)]
    assert {each.outcome for each in batch} == {wire.TaskOutcome.TASK_OUTCOME_SUCCEEDED}


async def test_batches_stay_below_the_limit_of_a_message(engine: Engine, make_executor: MakeExecutor) -> None:
    """Large results travel in several messages, none of which is over 4,000,000 bytes unless one result alone is."""
    make_executor()
    line = await engine.line()
    text = "x" * 900_000

    for number in range(8):
        await line.run(order(number, "std.echo", f'{{"output": "{text}"}}'))

    sizes, count = [], 0
    while count < 8:
        batch = await line.next("task_done")
        count += len(batch.outcomes)
        sizes.append(batch.ByteSize())
    assert max(sizes) < 4 * 1024 * 1024


async def test_an_outcome_is_sent_again_until_it_is_acknowledged(engine: Engine, make_executor: MakeExecutor) -> None:
    """After a broken stream the executor lists unacknowledged outcomes and sends them again, until each is
    acknowledged."""
    executor = make_executor()
    first = await engine.line()
    await first.run(order(1), order(2))
    (kept, gone) = await first.outcomes(2)
    await first.acknowledge(gone)

    first.end(grpc.StatusCode.UNAVAILABLE)
    second = await engine.line()

    assert second.in_flight == [("e.1.0.1", 1)]
    assert await second.outcomes(1) == [kept]
    await second.acknowledge(kept)
    async with asyncio.timeout(WAITS_S):
        await executor.session.wait_idle()
    second.end(grpc.StatusCode.UNAVAILABLE)
    third = await engine.line()
    assert third.in_flight == []
    await third.silence("task_done")


async def test_an_engine_that_comes_back_gets_the_outcomes(engine: Engine, make_executor: MakeExecutor) -> None:
    """An engine that is killed and started again gets all outcomes (dalsegno/README.md#executors)."""
    gated, gate, begun = make_gated()
    executor = make_executor(gated)
    line = await engine.line()
    await line.run(order(1, "test.gated", '{"number": 41}'))
    await until(lambda: begun == [41])

    await engine.stop()
    gate.set()
    await asyncio.sleep(0.3)
    await engine.start()

    line = await engine.line()
    assert line.hello.session_id == executor.session.id
    assert line.in_flight == [("e.1.0.1", 1)]
    (done,) = await line.outcomes(1)
    assert done.result == "41"


async def test_what_runs_is_listed_and_what_is_superseded_is_dropped(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """Hello lists running deliveries; the superseded ones of the Welcome are stopped and not reported."""
    gated, gate, begun = make_gated()
    make_executor(gated)
    line = await engine.line()
    await line.run(order(1, "test.gated"), order(2, "test.gated"))
    await until(lambda: len(begun) == 2)
    engine.superseded = [("e.1.0.1", 1)]

    line.end(grpc.StatusCode.UNAVAILABLE)
    line = await engine.line()

    assert sorted(line.in_flight) == [("e.1.0.1", 1), ("e.2.0.1", 1)]
    gate.set()
    assert [each.action_execution_id for each in await line.outcomes(1)] == ["e.2.0.1"]
    await line.silence("task_done")


async def test_an_outcome_goes_by_another_engine_when_its_own_is_gone(
    engine: Engine, other_engine: Engine, make_executor: MakeExecutor
) -> None:
    """An outcome belongs to the session of the executor, which every engine knows."""
    gated, gate, _ = make_gated()
    make_executor(gated, others=[other_engine])
    line, other = await engine.line(), await other_engine.line()
    await line.run(order(1, "test.gated"), order(2))
    await line.outcomes(1)

    await engine.stop()
    gate.set()

    assert {each.action_execution_id for each in await other.outcomes(2)} == {"e.1.0.1", "e.2.0.1"}


async def test_a_delivery_that_is_repeated_runs_once(engine: Engine, make_executor: MakeExecutor) -> None:
    """A repeated delivery does not start again; when it has ended, it is answered again."""
    gated, gate, begun = make_gated()
    make_executor(gated)
    line = await engine.line()

    await line.run(order(1, "test.gated"), order(1, "test.gated"))
    await line.silence("task_done", 0.1)
    gate.set()
    (done,) = await line.outcomes(1)
    await line.run(order(1, "test.gated"))

    assert await line.outcomes(1) == [done]
    assert begun == [0]


async def test_a_newer_delivery_takes_the_place_of_the_one_that_runs(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """Only the current delivery is reported: the older one is stopped."""
    gated, gate, begun = make_gated()
    make_executor(gated)
    line = await engine.line()

    await line.run(order(1, "test.gated", '{"number": 1}'))
    await until(lambda: begun == [1])
    await line.run(order(1, "test.gated", '{"number": 2}', delivery=2))
    await until(lambda: begun == [1, 2])
    gate.set()

    (done,) = await line.outcomes(1)
    assert (done.delivery, done.result) == (2, "2")
    assert begun == [1, 2]
    await line.silence("task_done")


async def test_credit_never_exceeds_the_slots(engine: Engine, make_executor: MakeExecutor) -> None:
    """Credit and running actions are at most the slots; an ended action gives credit back."""
    gated, gate, _ = make_gated()
    make_executor(gated, slots=4)
    line = await engine.line()
    assert line.hello.credit == 4

    await line.run(*(order(number, "test.gated") for number in range(4)))
    await line.silence("credit", 0.3)
    gate.set()
    await line.outcomes(4)

    more = 0
    while more < 4:
        more += (await line.next("credit")).more
    assert more == 4
    await line.silence("credit", 0.3)


async def test_engines_share_the_slots(engine: Engine, other_engine: Engine, make_executor: MakeExecutor) -> None:
    """Two engines have equal shares, at most the slots in all."""
    make_executor(slots=5, others=[other_engine])

    credits = [(await engine.line()).hello.credit, (await other_engine.line()).hello.credit]

    assert sum(credits) == 5
    assert sorted(credits) == [2, 3]


async def test_heartbeats_come_as_often_as_the_engine_asks(engine: Engine, make_executor: MakeExecutor) -> None:
    """An idle executor sends heartbeats: proxies close silent streams, and leases end."""
    engine.heartbeat_s = 0.1
    make_executor()
    line = await engine.line()

    async with asyncio.timeout(10):  # an executor that is not asked for them sends fewer in this time
        for _ in range(5):
            await line.next("heartbeat")


async def test_a_silent_engine_is_given_up(engine: Engine, make_executor: MakeExecutor) -> None:
    """An engine that is silent for a lease counts as gone: the executor connects again."""
    engine.heartbeat_s, engine.lease_s = 0.1, 0.4
    make_executor()
    line = await engine.line()

    again = await engine.line()

    assert again.hello.session_id == line.hello.session_id


async def test_cancel_stops_an_action(engine: Engine, make_executor: MakeExecutor) -> None:
    """CancelAction stops a running action, which is reported as cancelled with the reason; an unknown one has no
    effect."""
    make_executor()
    line = await engine.line()
    await line.run(order(1, "std.sleep", '{"seconds": 60}'))

    await line.send(cancel_action=wire.CancelAction(action_execution_id="e.9.0.1", delivery=1))
    await line.send(cancel_action=wire.CancelAction(action_execution_id="e.1.0.1", delivery=2))
    await line.silence("task_done", 0.1)
    await line.send(cancel_action=wire.CancelAction(action_execution_id="e.1.0.1", delivery=1, reason="enough"))

    (done,) = await line.outcomes(1)
    assert (done.outcome, done.error) == (wire.TaskOutcome.TASK_OUTCOME_CANCELLED, "enough")


@pytest.mark.parametrize("step_s", [7200, -7200])
async def test_time_left_is_counted_from_the_receipt(
    engine: Engine, make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """The time left counts from the receipt, whatever the clocks show, before and after Welcome."""
    make_executor()
    line = await engine.line()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step_s)
    quick, slow = order(1, "std.sleep", '{"seconds": 0.2}'), order(2, "std.sleep", '{"seconds": 60}')
    late = order(3, "std.sleep", '{"seconds": 60}')
    for each, left_ms in ((quick, 30_000), (slow, 1_000), (late, 0)):
        each.time_left.FromMilliseconds(left_ms)
        each.deadline.FromSeconds(1)

    await line.run(quick, slow, late)

    done = {each.action_execution_id: each for each in await line.outcomes(3)}
    assert done["e.1.0.1"].outcome == wire.TaskOutcome.TASK_OUTCOME_SUCCEEDED
    assert done["e.2.0.1"].outcome == wire.TaskOutcome.TASK_OUTCOME_FAILED
    assert done["e.2.0.1"].error == "timed out after 1.000 s"
    assert 0.9 < done["e.2.0.1"].elapsed.ToMilliseconds() / 1000 < 30
    assert done["e.3.0.1"].outcome == wire.TaskOutcome.TASK_OUTCOME_FAILED
    assert done["e.3.0.1"].error == "timed out before it was started"


@pytest.mark.parametrize("step_s", [0, 7200, -7200])
async def test_an_older_engines_deadline_is_by_its_clock(
    engine: Engine, make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """Without `time_left` an executor with a clock that is an hour off stops the action in time."""
    engine.clock_offset_s = 3600
    make_executor()
    line = await engine.line()
    slow = order(1, "std.sleep", '{"seconds": 60}')
    slow.deadline.GetCurrentTime()
    slow.deadline.seconds += 3600 + 3
    began_s = time.monotonic()
    late = order(2, "std.noop")
    late.deadline.GetCurrentTime()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step_s)

    await line.run(slow, late)

    done = {each.action_execution_id: each for each in await line.outcomes(2)}
    assert {each.outcome for each in done.values()} == {wire.TaskOutcome.TASK_OUTCOME_FAILED}
    assert done["e.1.0.1"].error.startswith("timed out after")
    assert time.monotonic() - began_s > 2.5
    assert done["e.1.0.1"].elapsed.ToMilliseconds() / 1000 < 30
    assert done["e.2.0.1"].error == "timed out before it was started"


async def test_a_drained_engine_hears_goodbye_after_the_last_acknowledgement(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """An engine that stops gets the remaining outcomes, and the executor tries it again later."""
    gated, _, _ = make_gated()
    make_executor(gated)
    line = await engine.line()
    await line.run(order(1), order(2, "test.gated"))
    (done,) = await line.outcomes(1)

    drain = wire.Drain()
    drain.grace.FromSeconds(20)
    await line.send(drain=drain)
    await line.silence("goodbye")
    await line.acknowledge(done)

    goodbye = await line.next("goodbye")
    assert not goodbye.release
    assert (await engine.line()).in_flight == [("e.2.0.1", 1)]


async def test_a_superseded_session_does_not_come_back(engine: Engine, make_executor: MakeExecutor) -> None:
    """After ABORTED the executor does not connect again: another process has its id.

    grpc loses the status of a stream when a write fails at the same moment (grpc/grpc#36066). The executor then hears
    ABORTED at its next Hello.
    """
    executor = make_executor()
    line = await engine.line()

    line.end(grpc.StatusCode.ABORTED)

    async with asyncio.timeout(WAITS_S):
        await executor.session.superseded.wait()
        await asyncio.gather(*executor.tasks)
    assert engine.lines.empty()


async def test_an_executor_tries_until_an_engine_is_there(engine: Engine, make_executor: MakeExecutor) -> None:
    """An executor connects to an engine that starts later."""
    await engine.stop()
    make_executor()
    await asyncio.sleep(0.5)
    await engine.start()

    line = await engine.line()

    await line.run(order(1))
    assert len(await line.outcomes(1)) == 1


async def test_a_message_that_breaks_us_costs_the_stream_and_not_the_executor(
    engine: Engine, make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while a message is read ends the stream; the executor connects again."""
    executor = make_executor()
    line = await engine.line()

    def fail(*arguments: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(executor.session, "accept", fail)
        await line.run(order(1))
        line = await engine.line()

    await line.run(order(1))
    assert len(await line.outcomes(1)) == 1
