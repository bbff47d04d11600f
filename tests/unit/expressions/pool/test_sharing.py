"""Many jobs at once: in parallel, in turn for each owner, and quickly."""

from __future__ import annotations

import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import SCOPE, Known, most_at_once, yaql
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.pool.fairness import FairQueue
from dalsegno.expressions.pool.jobs import JobOutcome
from dalsegno.expressions.pool.pool import Pool

pytestmark = pytest.mark.xdist_group("pool-sharing")


def test_each_owner_has_its_turn() -> None:
    """In the order in which the owners came, and each one's things in the order in which those came."""
    things: FairQueue[str] = FairQueue()
    for thing in ("a1", "a2", "a3", "b1", "c1", "c2"):
        things.put(thing[0], thing)
    assert len(things) == 6
    assert [things.take() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    things.put("b", "b2")
    assert [things.take() for _ in range(4)] == ["c2", "a3", "b2", None]
    assert len(things) == 0


def test_what_is_put_back_is_next() -> None:
    """Before all others, and before all of its owner."""
    things: FairQueue[str] = FairQueue()
    for thing in ("a1", "a2", "b1"):
        things.put(thing[0], thing)
    assert things.take() == "a1"
    things.put_back("a", "a1")
    assert [things.take() for _ in range(4)] == ["a1", "b1", "a2", None]


def test_one_with_much_to_do_holds_up_nobody(own_pool: Pool) -> None:
    """10,000 jobs of one owner are before the one of another, which is done among the first all the same."""
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert own_pool.evaluate(yaql("1 + 1")) == 2
    tickets = [
        own_pool.submit(yaql("planted_sleep(0.01)"), Known(), "many", lambda outcome: done.put("many"))
        for _ in range(10_000)
    ]
    own_pool.submit(yaql("planted_sleep(0.01)"), Known(), "one", lambda outcome: done.put("one"))
    first = [done.get(timeout=60)]
    while first[-1] != "one":
        first.append(done.get(timeout=60))
    began_s = time.monotonic()
    for ticket in tickets:
        own_pool.withdraw(ticket)
    assert own_pool.evaluate(yaql("1 + 1")) == 2
    print(f"{len(first) - 1} of 10,000 came first; withdrawing them took {time.monotonic() - began_s:.2f} s")
    assert len(first) < 500


def test_jobs_run_in_parallel(pool: Pool) -> None:
    """As many jobs run at once as there are processes."""
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    for _ in range(4):
        pool.submit(yaql("planted_span(0.5)"), Known(), "", outcomes.put)
    spans: list[Any] = [outcomes.get(timeout=60).value for _ in range(4)]
    assert most_at_once([(begun_s, ended_s) for begun_s, ended_s in spans]) == 2


@pytest.mark.alone("measures how long many jobs take")
def test_a_slice_of_items_is_soon_done(pool: Pool) -> None:
    """275 jobs of one owner that take 0.05 s each are done in little more than half of their time. (They sleep, so that
    other tests do not count; 275 regular expressions are the same on a quiet machine.)"""
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    began_s = time.monotonic()
    for _ in range(275):
        pool.submit(yaql("planted_sleep(0.05)"), Known(), "one", outcomes.put)
    assert [outcomes.get(timeout=100).value for _ in range(275)] == [0.05] * 275
    took_s = time.monotonic() - began_s
    print(f"275 jobs of 0.05 s took {took_s:.1f} s")
    assert 6.8 < took_s < 15


@pytest.mark.long("many jobs")
def test_small_jobs_are_quick(pool: Pool) -> None:
    """1,000 of them at once, and one after the other with a question each: around a millisecond or less."""
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    began_s = time.monotonic()
    for number in range(1_000):
        pool.submit(yaql("regex('a').matches($.s)"), Known({"s": "a"}), str(number % 10), outcomes.put)
    assert all(outcomes.get(timeout=60).value is True for _ in range(1_000))
    at_once_s = time.monotonic() - began_s
    began_s = time.monotonic()
    for _ in range(1_000):
        pool.evaluate(yaql("$.s =~ 'a'"), SCOPE)
    in_turn_s = time.monotonic() - began_s
    print(f"1,000 small jobs: at once {at_once_s:.2f} ms each, in turn {in_turn_s:.2f} ms each")
    assert at_once_s + in_turn_s < 60


def test_many_jobs_ask_for_the_same_large_data(pool: Pool) -> None:
    """Many jobs that ask for the same large variable each get it, and their digests are equal."""
    big = {"items": [{"name": f"host-{number}.example.com", "up": number % 3 == 0} for number in range(20_000)]}
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    began_s = time.monotonic()
    for _ in range(20):
        pool.submit(yaql("$.big.items.where($.up).len()"), Known({"big": big}), "", outcomes.put)
    results = [outcomes.get(timeout=60) for _ in range(20)]
    print(f"20 jobs over a variable of 0.9 MB took {time.monotonic() - began_s:.2f} s")
    assert {result.value for result in results} == {6667}
    assert len({asked.digest for result in results for asked in result.asked}) == 1


def test_a_job_may_ask_for_and_give_much(pool: Pool) -> None:
    """Messages are larger than what a socket takes at once, in both directions."""
    text = "é" * 4_000_000
    assert pool.evaluate(yaql("$.s"), scope_of(text)) == text


def scope_of(text: str) -> PlainScope:
    """A scope with this variable."""
    return PlainScope({"s": text})


def test_callers_in_many_threads_get_their_own_values(pool: Pool) -> None:
    """Nobody is told what another has asked for."""
    wrong: list[object] = []

    def ask(number: int) -> None:
        for count in range(50):
            value = pool.evaluate(yaql(f"$.s + {number} * 1000 + {count}"), PlainScope({"s": 0}))
            if value != number * 1000 + count:
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_a_pool_has_a_process_for_each_core(tmp_path: Path) -> None:
    """Up to the memory that all of them may have together. Each job waits for the others, so that all run at once."""
    pool = Pool(modules=[planted.MODULE])
    try:
        assert pool.size == min(5, len(os.sched_getaffinity(0)))
        outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
        for _ in range(pool.size):
            pool.submit(yaql(f"planted_meeting('{tmp_path}', {pool.size})"), Known(), "", outcomes.put)
        assert {str(outcomes.get(timeout=60).value) for _ in range(pool.size)} == set(os.listdir(tmp_path))
        assert len(os.listdir(tmp_path)) == pool.size
    finally:
        pool.close()
