"""Limits of actions: what is over a limit waits in the engine, or a moment in the worker, and disturbs nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worker.scripted import WAITS_S, Engine, Line, order

from dalsegno.actions.limits import Limits
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker import ActionContext, Worker, action
from dalsegno.worker.pace import Pace

STARTS: list[float] = []


@action("limited.sleep", concurrency=2)
async def sleep() -> None:
    """Sleeps."""
    await asyncio.sleep(60)


@action("limited.send", rate="5/s")
async def send() -> None:
    """Notes when it starts."""
    STARTS.append(time.monotonic())


@action("limited.hourly", rate="1/h")
def run_hourly() -> None:
    """Runs once an hour."""


@action("limited.hold", concurrency=1)
async def hold(context: ActionContext) -> str:
    """Says that it has begun, and goes on for a moment."""
    context.report("begun")
    await asyncio.sleep(2)
    return "held"


@action("free.quick")
async def quick() -> str:
    """Returns at once."""
    return "done"


@pytest.fixture
async def lines(engine: Engine) -> AsyncIterator[dict[str, Line]]:
    """Provide the streams of a worker of all these actions, by the id that each says."""
    STARTS.clear()
    worker = Worker(sleep, send, run_hourly, quick, engine=engine.address, id="w", slots=50)
    serving = asyncio.create_task(worker.serve())
    found = [await engine.line() for _ in range(4)]
    yield {line.hello.executor_id: line for line in found}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_an_action_with_limits_has_a_session_of_its_own(lines: dict[str, Line]) -> None:
    """Its slots are its concurrency, its credit also what may start soon; the label names the worker."""
    hellos = {name: line.hello for name, line in lines.items()}

    told = {name: ([each.name for each in hello.actions], hello.slots, hello.credit) for name, hello in hellos.items()}
    assert told == {
        "w": (["free.quick"], 50, 50),
        "w/limited.sleep": (["limited.sleep"], 2, 2),
        "w/limited.send": (["limited.send"], 50, 5),
        "w/limited.hourly": (["limited.hourly"], 50, 1),
    }  # fmt: skip
    assert [dict(hellos[name].labels) for name in ("w", "w/limited.send")] == [{}, {"executor": "w"}]


async def test_more_credit_comes_with_time(lines: dict[str, Line], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that uses all credit never makes more start than the rate allows, and keeps the rate up."""
    noted: list[float] = []
    note = Pace.note

    def note_start(pace: Pace, at_s: float) -> None:
        noted.append(at_s)  # exactly; what the action itself reads may be later on a busy machine
        note(pace, at_s)

    monkeypatch.setattr(Pace, "note", note_start)
    line = lines["w/limited.send"]
    credit, number = line.hello.credit, 0
    start_s = time.monotonic()
    async with asyncio.timeout(20):
        while len(STARTS) < 18:
            while credit:
                credit, number = credit - 1, number + 1
                await line.run(order(number, "limited.send"))
            credit = (await line.next("credit")).more

    assert len(noted) >= len(STARTS)  # what is noted begins a moment later
    assert all(later - earlier >= 1 - 1e-6 for earlier, later in zip(noted, noted[5:], strict=False))
    assert 3 <= STARTS[17] - start_s < 12


async def test_an_action_that_waits_for_its_turn_can_be_stopped(lines: dict[str, Line]) -> None:
    """Its deadline counts while it waits, and a cancel reaches it; neither has ever run."""
    line = lines["w/limited.hourly"]
    late = order(2, "limited.hourly")
    late.time_left.FromMilliseconds(200)
    await line.run(order(1, "limited.hourly"), late, order(3, "limited.hourly"))
    first, second = sorted(await line.outcomes(2), key=lambda each: each.action_execution_id)
    assert (first.outcome, second.error) == (wire.TASK_OUTCOME_SUCCEEDED, "timed out after 0.200 s")

    await line.send(cancel_action=wire.CancelAction(action_execution_id="e.3.0.1", delivery=1, reason="enough"))

    (third,) = await line.outcomes(1)
    assert (third.outcome, third.error) == (wire.TASK_OUTCOME_CANCELLED, "enough")
    await line.silence("credit")


async def test_a_worker_with_limits_leaves_in_order(engine: Engine) -> None:
    """What runs ends and is acknowledged on the stream of its session; all sessions say Goodbye."""
    worker = Worker(quick, hold, engine=engine.address, id="w", grace_s=600)
    serving = asyncio.create_task(worker.serve())
    first = {line.hello.executor_id: line for line in [await engine.line(), await engine.line()]}
    await first["w/limited.hold"].run(order(1, "limited.hold"))
    assert (await first["w/limited.hold"].outcomes(1))[0].progress.text == "begun"

    worker.stop()
    for line in first.values():
        assert not (await line.next("goodbye")).release
    last = {line.hello.executor_id: line for line in [await engine.line(), await engine.line()]}
    assert {name: line.in_flight for name, line in last.items()} == {"w": [], "w/limited.hold": [("e.1.0.1", 1)]}
    (done,) = await last["w/limited.hold"].outcomes(1)
    assert done.result == '"held"'
    await last["w/limited.hold"].acknowledge(done)

    for line in last.values():
        assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(serving, WAITS_S) is False


async def test_the_limits_of_a_worker_replace_those_of_an_action(engine: Engine) -> None:
    """Also with none; a limit for an action that it does not serve is refused."""
    worker = Worker(
        sleep, quick, engine=engine.address, id="w", limits={"limited.sleep": Limits(), "free.quick": Limits(3)}
    )
    serving = asyncio.create_task(worker.serve())
    slots = {line.hello.executor_id: line.hello.slots for line in [await engine.line(), await engine.line()]}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert slots == {"w": 1000, "w/free.quick": 3}
    with pytest.raises(ValueError, match=r"a limit for free\.slow, which the worker does not serve"):
        Worker(quick, limits={"free.slow": Limits(1)})


def test_a_worker_has_no_more_labels_than_an_engine_takes() -> None:
    """An engine takes 64, and the session of an action with limits has one more than the worker."""
    labels = {f"label-{number}": "x" for number in range(64)}
    Worker(quick, labels=labels)
    for actions, many in (((quick,), labels | {"more": "x"}), ((quick, sleep), labels)):
        with pytest.raises(ValueError, match=f"{len(many)} labels: a worker has at most 64, one less if"):
            Worker(*actions, labels=many)


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"rate": "10"}, {"rate": "0/s"}, {"rate": "ten/s"}])
def test_a_limit_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    """The error names the action."""
    with pytest.raises(TypeError, match=r"free\.quick: the "):
        action("free.quick", **wrong)  # type: ignore[arg-type]


@given(starts=st.integers(1, 5), gaps=st.lists(st.floats(0, 3), max_size=40))
def test_no_period_has_more_starts(starts: int, gaps: list[float]) -> None:
    """Whoever waits as long as it says keeps the pace; what may start ahead is never more than the starts."""
    pace = Pace(starts, 2.0)
    at_s = 0.0
    noted: list[float] = []
    for gap in gaps:
        at_s += gap
        at_s += pace.wait_s(at_s)
        assert 0 <= pace.ahead(at_s) <= starts
        pace.note(at_s)
        noted.append(at_s)
    assert all(later - earlier >= 2.0 - 1e-9 for earlier, later in zip(noted, noted[starts:], strict=False))
