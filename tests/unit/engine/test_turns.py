"""How many works a batch takes, and in which order."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable

import pytest
from tests.unit.engine.test_conductor import Rig, Start

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.turns import next_window, pick, take_turns
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.desk.standalone import RunAction
from dalsegno.engine.desk.starts import StartExecution
from dalsegno.engine.executors.sessions import KeepLeases
from dalsegno.engine.timers import Poll, Timers
from dalsegno.v1.action_service_pb2 import RunActionRequest
from dalsegno.v1.execution_service_pb2 import StartExecutionRequest
from dalsegno.workflow.events import PauseRequested


def test_a_batch_takes_about_as_many_works_as_it_can_do() -> None:
    """What is left is claimed again, so the next batch takes no more than twice what this one has done; as many as ever
    when all were done, or when slow works were the reason."""
    assert next_window(500, 500, 100) == 200
    assert next_window(500, 500, 3) == 64
    assert next_window(200, 500, None) == 400
    assert next_window(400, 500, None) == 500


class Silent:
    """Connected executors, of which none is there; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def take_heard(self) -> set[str]:
        self.asked += 1
        return set()

    def connected(self) -> dict[str, str]:
        return {}


def test_works_that_are_repeated_each_second_are_never_left() -> None:
    """A batch without time leaves other works; looks into the store, which it has made already, it does not leave to be
    made again with those of the next second."""
    rig = Rig(work_max_s=0.0)
    rig.define()
    silent = Silent()
    leases = KeepLeases(silent, 1.0, lambda: False)  # type: ignore[arg-type]
    poll = Poll(Timers(rig.conductor.clock, rig.conductor.put), rig.dispatcher, lambda: None)
    starts = [Start(number) for number in range(3)]
    (result,) = rig.carry_out(*starts, leases, poll)
    assert isinstance(result, Committed)
    assert silent.asked == 1
    assert leases in result.works
    assert poll in result.works
    assert result.left
    assert not {leases, poll} & set(result.left)


class Waiting(Work):
    """A periodic work that waits for the store."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.refusal = None
        self.wait = wait

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        self.wait()


class Slow(Work):
    """A work that takes 7 ms of processor time."""

    def __init__(self) -> None:
        self.refusal = None

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        until_s = time.thread_time() + 0.007
        while time.thread_time() < until_s:
            pass


@pytest.mark.parametrize("more", [[], [Slow()]], ids=["quick", "slow"])
@pytest.mark.parametrize("wait_s", [0.0, 20.0])
def test_a_batch_is_as_long_without_what_periodic_works_wait(
    monkeypatch: pytest.MonkeyPatch, wait_s: float, more: list[Work]
) -> None:
    """A poll of a distant store leaves the works after it no less time, whether one of them is slow or not."""
    rig = Rig(work_max_s=10.0)
    rig.define()
    starts = [Start(number) for number in range(3)]
    rig.carry_out_together(*starts)
    waited = [0.0]
    # Processor time: other processes take none of it.
    monkeypatch.setattr(time, "perf_counter", lambda: time.thread_time() + waited[0])
    works = [DeliverEvent(start.execution_id, PauseRequested()) for start in starts]
    gc.disable()  # a collection is slow, too
    try:
        result, *others = rig.carry_out(Waiting(lambda: waited.__setitem__(0, wait_s)), *more, *works)
    finally:
        gc.enable()
    assert isinstance(result, Committed)
    assert not others
    assert (len(result.works), list(result.left)) == (4 + len(more), [])


def test_a_look_into_the_store_waits_for_no_deep_queue() -> None:
    """What an ended engine has left is adopted in the next batch, also by an engine with more works than that takes."""
    conductor = Rig().conductor
    for number in range(1_000):
        conductor.put(Start(number))
    poll = Poll(Timers(conductor.clock, conductor.put), Rig().dispatcher, lambda: None)
    conductor.put_first(poll)
    assert conductor._next_works()[0] is poll


class Turned(Start):
    """A start of a workflow."""

    def __init__(self, workflow: str) -> None:
        super().__init__(0)
        self.workflow = workflow

    @property
    def turn(self) -> str:
        return StartExecution().turn(StartExecutionRequest(namespace="n", workflow=self.workflow))


def test_many_starts_of_one_workflow_do_not_delay_others() -> None:
    """Starts of a workflow that the last batch has left take turns with those of other workflows and with events."""
    wide, quick, event = [Turned("wide") for _ in range(5)], Turned("quick"), DeliverEvent("e", None)
    works: list[Work] = [*wide, quick, event]
    take_turns(works, {wide[0].turn})
    assert works == [wide[0], quick, event, *wide[1:]]


def test_starts_of_a_workflow_or_an_action_share_their_turns() -> None:
    """By the namespace and the name; those of a definition's id by the id."""
    start, run = StartExecution(), RunAction()
    assert start.turn(StartExecutionRequest(namespace="n", workflow="w")) == "n/w"
    assert start.turn(StartExecutionRequest(definition_id="d", execution_id="e")) == "/d"
    assert run.turn(RunActionRequest(namespace="n", action="a")) == "n/a"


def test_what_waits_behind_thousands_of_slow_works_has_its_turn() -> None:
    """Half of a batch are the next works of others, wherever they stand; the rest are the first ones. Each execution's
    works keep their order, and nothing is lost."""
    slow = [DeliverEvent(f"slow {number % 3}", None) for number in range(3_000)]
    start, event = Turned("quick"), DeliverEvent("e", None)
    queue: deque[Work] = deque([*slow, start, event])
    picked = list(pick(queue, 64, {each.turn for each in slow}))
    assert picked == [slow[0], start, event, *slow[1:62]]
    assert list(queue) == slow[62:]

    others = [DeliverEvent(f"other {number % 50}", None) for number in range(5_000)]
    queue = deque([*slow, *others])
    picked = list(pick(queue, 64, {each.turn for each in slow}))
    assert picked == [slow[0], *others[:32], *slow[1:32]]
    assert list(queue) == [*slow[32:], *others[32:]]

    queue = deque(slow[:10])
    assert list(pick(queue, 64, {"slow 0"})) == [slow[0], *(each for each in slow[1:10] if each.turn != "slow 0")] + [
        each for each in slow[1:10] if each.turn == "slow 0"
    ]
    assert not queue


def test_a_start_does_not_wait_for_thousands_of_works_that_take_long() -> None:
    """After a batch that has done one work of its window, the next one does the start that stands at the end."""
    rig = Rig(work_max_s=0.0)
    conductor = rig.conductor
    for number in range(2_000):
        conductor.put(DeliverEvent(f"slow {number % 5}", None))
    start = Turned("quick")
    conductor.put(start)
    works = conductor._next_works()
    assert start not in works
    conductor._committed(Committed(works=works[:1], left=works[1:]))
    assert conductor._next_works()[1] is start
