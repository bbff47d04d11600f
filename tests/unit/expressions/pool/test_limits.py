"""What ends a job, and that nothing else ends with it."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.tied import tied
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import SCOPE, Known, yaql
from tests.unit.expressions.pool.family import children, resident_mib, templates

from dalsegno.expressions.pool.jobs import JobOutcome
from dalsegno.expressions.pool.limits import Limits, limits_of_evaluations, processes_of_machine
from dalsegno.expressions.pool.pool import Pool
from dalsegno.workflow.scope import EvaluationError

pytestmark = [pytest.mark.xdist_group("pool-limits"), pytest.mark.long("starts processes, which the system limits")]

SLOW = "regex('(a+)+$').matches('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')"


@pytest.mark.parametrize(
    ("notation", "text"),
    [
        ("yaql", SLOW),
        ("yaql", "sequence().where(false).len()"),
        ("yaql", "[1] * 1000000000"),
        ("jinja", "{{ 'a' * 10000000000 }}"),
        ("jinja text", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        ("jinja text", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"),
    ],
)
def test_runaways_end(pool: Pool, notation: str, text: str) -> None:
    """What never ends, needs too much or crashes is an error that says so, and the next expression has its value."""
    told = r"takes more than|needs more than|too much memory|too deeply|builds more than|crashed \(SIGSEGV,"
    with pytest.raises(EvaluationError, match=told):
        pool.evaluate(replace(yaql(text), notation=notation), SCOPE)
    assert pool.evaluate(yaql("$.s.matches('^a')"), SCOPE) is True


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (SLOW, "it takes more than 1 s of processor time"),
        ("planted_busy(5)", "it takes more than 1 s of processor time"),
        ("planted_memory(400)", "it needs more than 300 MiB of memory"),
        ("planted_abort()", "its process crashed (SIGABRT, with N of 300 MiB of memory)"),
        ("planted_segv()", "its process crashed (SIGSEGV, with N of 300 MiB of memory)"),
        ("planted_text(70 * 1024 * 1024)", "its process crashed (SIGSEGV, with N of 300 MiB of memory)"),
    ],
)
def test_what_ends_a_job_is_told(pool: Pool, text: str, cause: str) -> None:
    """The error names the expression and the limit. No other job is touched: one that runs beside has its value."""
    outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
    pool.submit(yaql("planted_sleep(1.5)"), Known(), "beside", outcomes.put)
    with pytest.raises(EvaluationError) as failure:
        pool.evaluate(yaql(text))
    assert re.sub("with [1-9][0-9]+ of", "with N of", str(failure.value)) == f"<% {text} %>: {cause}"
    assert outcomes.get(timeout=60).value == 1.5
    assert pool.evaluate(yaql("1 + 1")) == 2


def test_the_clock_ends_what_only_waits() -> None:
    """What uses no processor time ends too; its process is replaced."""
    pool = Pool(1, modules=[planted.MODULE], limits=Limits(clock_s=0.5))
    try:
        pid = pool.evaluate(yaql("planted_pid()"))
        with pytest.raises(EvaluationError, match=r"planted_sleep\(60\) %>: it takes more than 0\.5 s$"):
            pool.evaluate(yaql("planted_sleep(60)"))
        assert pool.evaluate(yaql("planted_pid()")) != pid
    finally:
        pool.close()


@pytest.fixture
def load() -> Iterator[None]:
    """Others use all cores."""
    loops = (os.cpu_count() or 1) + 1
    busy = [subprocess.Popen(tied(sys.executable, "-c", "while True: pass")) for _ in range(loops)]
    yield
    for each in busy:
        each.kill()
        each.wait()


@pytest.mark.alone("it makes all cores busy")
@pytest.mark.usefixtures("load")
def test_only_its_own_processor_time_counts() -> None:
    """On a busy machine 0.1 s of work take longer than the job has by the clock, and are no error: it does not count
    that others have the processor."""
    pool = Pool(1, modules=[planted.MODULE], limits=Limits(clock_s=0.1))
    try:
        assert pool.evaluate(yaql("1 + 1")) == 2
        began_s = time.monotonic()
        assert pool.evaluate(yaql("planted_busy(0.1)")) == 0.1
        took_s = time.monotonic() - began_s
        print(f"0.1 s of work took {took_s:.1f} s beside busy loops")
        assert took_s > 0.1
    finally:
        pool.close()


def test_others_go_first(pool: Pool) -> None:
    """Evaluations have a lower priority than the engine, and calls a lower one still."""
    here = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.nice(0))"]))
    assert pool.evaluate(yaql("planted_nice()")) == min(19, here + 10)
    assert pool.call(f"{planted.MODULE}:show_process", b"", shown="").result(60).split()[1] == b"%d" % min(
        19, here + 15
    )


def test_what_has_used_much_memory_is_replaced(own_pool: Pool) -> None:
    """So that the memory goes back; what uses little keeps its process."""
    pids = [own_pool.evaluate(yaql("planted_pid()")) for _ in range(10)]
    assert own_pool.evaluate(yaql("planted_memory(20)"))
    pids.append(own_pool.evaluate(yaql("planted_pid()")))
    assert len(set(pids)) == 1
    assert own_pool.evaluate(yaql("planted_memory(150)"))
    assert own_pool.evaluate(yaql("planted_pid()")) not in pids


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 64])
def test_a_pool_stays_below_a_gigabyte(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its evaluation processes at their limit, and the template, take less, however many cores there are."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(cores))
    size = processes_of_machine()
    assert size == min(cores, 5)
    assert size * limits_of_evaluations(size).memory_mib + 100 < 1e9 / 1024 / 1024


def test_a_pool_at_its_limits_stays_below_a_gigabyte() -> None:
    """Measured while both processes hold as much as they may."""
    before = set(templates())
    pool = Pool(2, modules=[planted.MODULE])
    try:
        outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
        held = yaql("[planted_memory(100), planted_text(100 * 1024 * 1024), planted_sleep(2)].len()")
        for number in range(2):
            pool.submit(held, Known(), str(number), outcomes.put)
        most_mib = 0.0
        while outcomes.empty():
            processes = [pid for template in set(templates()) - before for pid in (template, *children(template))]
            most_mib = max(most_mib, sum(map(resident_mib, processes)))
            time.sleep(0.02)
        assert outcomes.get().value == 3
        print(f"at most {most_mib:.0f} MiB")
        assert 200 < most_mib < 953
    finally:
        pool.close()
