"""How processes begin and end: nothing that happens to one of them is lost on the others, and none is left over."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import Known, yaql
from tests.unit.expressions.pool.family import PATIENCE_S, children, is_alive, templates, until

from dalsegno.expressions.pool import process_group, protocol
from dalsegno.expressions.pool.jobs import JobOutcome
from dalsegno.expressions.pool.limits import Limits
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.processes import is_runnable
from dalsegno.expressions.pool.spawning import Spawner
from dalsegno.workflow.scope import EvaluationError

ROOT = Path(__file__).resolve().parents[4]


def pid_of(pool: Pool) -> int:
    """The process id of one of its processes."""
    pid = pool.evaluate(yaql("planted_pid()"))
    assert isinstance(pid, int)
    return pid


def template_of(pid: int) -> int:
    """The process id of the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Sleeper:
    """A job that continues for a while."""

    def __init__(self, pool: Pool, duration_s: float) -> None:
        self._outcomes: queue.SimpleQueue[JobOutcome] = queue.SimpleQueue()
        self.ticket = pool.submit(yaql(f"planted_sleep({duration_s})"), Known(), "sleeper", self._outcomes.put)

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end."""
        return not self._outcomes.empty()

    def outcome(self) -> JobOutcome:
        """What it has come to."""
        return self._outcomes.get(timeout=60)


def test_start_does_not_wait(own_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns before there is a process; the first job waits for it."""
    has_returned = threading.Event()
    waits: list[bool] = []

    def spawn(modules: Sequence[str]) -> Spawner:
        waits.append(has_returned.wait(PATIENCE_S))
        return Spawner(modules)

    monkeypatch.setattr(process_group, "Spawner", spawn)
    own_pool.start()
    has_returned.set()
    assert own_pool.evaluate(yaql("1 + 1")) == 2
    assert waits == [True]


def test_all_processes_are_ready_before_they_are_asked(own_pool: Pool) -> None:
    """A pool that was started has its processes without a job."""
    before = set(templates())
    own_pool.start()
    until(lambda: any(children(template) for template in set(templates()) - before))
    (template,) = set(templates()) - before
    assert children(template) == [pid_of(own_pool)]


def test_a_killed_process_is_replaced_and_its_job_done_again(own_pool: Pool) -> None:
    """Somebody else may kill a process: no expression is to blame for it."""
    pid = pid_of(own_pool)
    sleeper = Sleeper(own_pool, 0.5)
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    assert sleeper.outcome() == JobOutcome(0.5)
    assert pid_of(own_pool) != pid


def test_an_idle_process_that_is_killed_is_replaced(own_pool: Pool) -> None:
    """The next job finds another one."""
    pid = pid_of(own_pool)
    template = template_of(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: children(template) not in ([], [pid]))
    assert pid_of(own_pool) != pid


def test_a_job_whose_process_is_killed_again_and_again_ends(own_pool: Pool) -> None:
    """Where memory is short, the system may kill it each time."""
    template = template_of(pid_of(own_pool))
    sleeper = Sleeper(own_pool, 60)
    killed: set[int] = set()
    while not sleeper.is_done:
        for pid in set(children(template)) - killed:
            time.sleep(0.1)
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
    assert sleeper.outcome().error == ("<% planted_sleep(60) %>: its process was killed, each time that it was tried")
    assert sleeper.ticket.tries == 3
    assert own_pool.evaluate(yaql("1 + 1")) == 2


def test_a_template_that_crashes_is_started_again(own_pool: Pool) -> None:
    """Its processes end with it; what they did is done again, and what waited is done."""
    pid = pid_of(own_pool)
    template = template_of(pid)
    running, waiting = Sleeper(own_pool, 0.5), Sleeper(own_pool, 0.01)
    time.sleep(0.1)
    os.kill(template, signal.SIGSEGV)
    assert running.outcome() == JobOutcome(0.5)
    assert waiting.outcome() == JobOutcome(0.01)
    until(lambda: not is_alive(pid) and not is_alive(template))
    assert template_of(pid_of(own_pool)) != template


def test_a_stopped_process_is_replaced() -> None:
    """It is killed when its job takes too long, like any other."""
    pool = Pool(1, modules=[planted.MODULE], limits=Limits(clock_s=0.3))
    try:
        pid = pid_of(pool)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EvaluationError, match=r"it takes more than 0\.3 s"):
            pool.evaluate(yaql("1 + 1"))
        assert pid_of(pool) != pid
        until(lambda: not is_alive(pid))
    finally:
        pool.close()


def test_a_value_that_comes_while_its_process_is_looked_at_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that had to wait for a processor may end between the end of its time and the look whether it still waits:
    it has its value, and is not taken for one that takes too long."""

    def look_late(pid: int) -> bool:
        until(lambda: not is_runnable(pid))
        return False

    monkeypatch.setattr(protocol, "is_runnable", look_late)
    with closing(Pool(1, modules=[planted.MODULE], limits=Limits(clock_s=0.5))) as pool:
        pid = pid_of(pool)
        assert pool.evaluate(yaql("planted_busy(0.7)")) == 0.7
        assert pid_of(pool) == pid


@pytest.mark.alone("measures how long a kill takes")
def test_a_kill_costs_little(own_pool: Pool) -> None:
    """The time from the end of a process to the value that another one gives, without a new start of Python."""
    pid_of(own_pool)
    taken_s = []
    for _ in range(20):
        began_s = time.monotonic()
        with pytest.raises(EvaluationError, match="SIGABRT"):
            own_pool.evaluate(yaql("planted_abort()"))
        assert own_pool.evaluate(yaql("1 + 1")) == 2
        taken_s.append(time.monotonic() - began_s)
    taken_s.sort()
    print(f"a crash and the next value took {taken_s[10] * 1000:.1f} ms, at most {taken_s[-1] * 1000:.1f} ms")
    assert taken_s[10] < 0.2


@pytest.mark.long("kills processes for seconds")
def test_nothing_is_lost_in_a_storm(pool: Pool) -> None:
    """While somebody kills processes, now and then the template, and jobs are withdrawn, every other job has its value,
    and once. (A job whose process is killed each time has an error.)"""
    before = set(templates())
    outcomes: dict[int, list[JobOutcome]] = {number: [] for number in range(600)}
    ended = threading.Event()

    def count_told() -> int:
        return sum(map(len, outcomes.values()))

    def kill() -> None:
        for count in range(10_000):
            done_before = count_told()
            if ended.wait(0.1):
                return
            # Where processes start more slowly than they are killed, no job would end.
            while count_told() == done_before:
                if ended.wait(0.01):
                    return
            for template in before:
                for pid in [template] if count % 10 == 9 else children(template)[:1]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            before.update(templates())

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        tickets = [
            pool.submit(yaql(f"[planted_sleep(0.002), $.a + {number}]"), Known({"a": 1}), str(number % 7), told.append)
            for number, told in outcomes.items()
        ]
        withdrawn = set(range(0, 600, 13))
        for number in withdrawn:
            pool.withdraw(tickets[number])
        until(lambda: all(told or number in withdrawn for number, told in outcomes.items()), within_s=60)
    finally:
        ended.set()
        thread.join()
    for number, told in outcomes.items():
        if number not in withdrawn or told:
            (outcome,) = told
            assert outcome.value == [0.002, number + 1] or outcome.error.endswith("each time that it was tried")
    assert sum(bool(told and told[0].error) for told in outcomes.values()) < 10


def test_what_nobody_wants_any_more_is_not_done(own_pool: Pool) -> None:
    """In the queue it is dropped; while it runs its process is killed. Nobody is told of it."""
    pid = pid_of(own_pool)
    running, waiting = Sleeper(own_pool, 60), Sleeper(own_pool, 60)
    until(lambda: running.ticket.tries)
    own_pool.withdraw(waiting.ticket)
    own_pool.withdraw(running.ticket)
    assert pid_of(own_pool) != pid
    assert not running.is_done
    assert not waiting.is_done
    own_pool.withdraw(running.ticket)  # once more changes nothing
    assert own_pool.evaluate(yaql("1 + 1")) == 2


@pytest.mark.alone("it counts the open files and threads of its process")
def test_a_closed_pool_leaves_nothing(own_pool: Pool) -> None:
    """No process, no zombie and no open file; and the handling of ended children was left alone."""
    open_before = set(os.listdir("/proc/self/fd"))
    handled_before = signal.getsignal(signal.SIGCHLD)
    threads_before = threading.active_count()
    for _ in range(3):
        pool = Pool(2, modules=[planted.MODULE])
        pid = pid_of(pool)
        template = template_of(pid)
        for _ in range(3):
            with pytest.raises(EvaluationError):
                pool.evaluate(yaql("planted_abort()"))
        family = children(template)
        pool.close()
        assert not any(is_alive(each) for each in (template, pid, *family))
        with pytest.raises(ChildProcessError):
            os.waitpid(template, os.WNOHANG)
    assert set(os.listdir("/proc/self/fd")) == open_before
    assert signal.getsignal(signal.SIGCHLD) == handled_before
    assert threading.active_count() == threads_before


def test_who_waits_for_a_pool_that_is_closed_gets_an_error(own_pool: Pool) -> None:
    """Nobody waits for ever, and whoever comes later is told the same. What was submitted is dropped."""
    pid_of(own_pool)
    silent = Sleeper(own_pool, 60)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wait() -> None:
        with pytest.raises(EvaluationError) as failure:
            own_pool.evaluate(yaql("planted_sleep(60)"))
        told.put(str(failure.value))

    thread = threading.Thread(target=wait)
    thread.start()
    call = own_pool.call(f"{planted.MODULE}:show_process", b"60", shown="this")
    time.sleep(0.2)
    own_pool.close()
    thread.join(PATIENCE_S)
    assert told.get_nowait() == "<% planted_sleep(60) %>: the evaluation processes have been stopped"
    assert str(call.exception(PATIENCE_S)) == "this: the evaluation processes have been stopped"
    assert not silent.is_done
    with pytest.raises(EvaluationError, match="have been stopped"):
        own_pool.evaluate(yaql("1 + 1"))


def test_a_pool_may_be_closed_by_one_who_is_told(own_pool: Pool) -> None:
    """That is in the pool's own thread."""
    pid = pid_of(own_pool)
    own_pool.submit(yaql("1 + 1"), Known(), "", lambda outcome: own_pool.close())
    until(lambda: not is_alive(pid))


def test_a_fault_of_whoever_is_told_stops_nobody(own_pool: Pool) -> None:
    """It is logged."""

    def fail(outcome: JobOutcome) -> None:
        raise ZeroDivisionError

    own_pool.submit(yaql("1 + 1"), Known(), "", fail)
    assert own_pool.evaluate(yaql("1 + 1")) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_for_all_processes_are_left_to_the_owner(own_pool: Pool, number: signal.Signals) -> None:
    """Ctrl-C and the end of a service reach all its processes: those of the pool end after their owner, not before."""
    pid = pid_of(own_pool)
    for each in (pid, template_of(pid)):
        os.kill(each, number)
    assert pid_of(own_pool) == pid


def run(program: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What a Python program of these tests came to."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


PRELUDE = """
import os, signal, sys, time
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import Known, yaql
from dalsegno.expressions.pool.pool import Pool
pool = Pool(2, modules=[planted.MODULE])
"""


@pytest.mark.parametrize(
    "end",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "pass", "os.kill(os.getpid(), signal.SIGTERM)"],
)
def test_processes_do_not_outlive_their_owner(end: str) -> None:
    """However it ends, they vanish, also those in the middle of a job, and those of a call."""
    ended = run(f"""
pid = pool.evaluate(yaql("planted_pid()"))
from tests.unit.expressions.pool.family import children, templates
pool.submit(yaql("sequence().where(false)"), Known(), "", lambda outcome: None)
pool.submit(yaql("planted_sleep(60)"), Known(), "", lambda outcome: None)
pool.call(planted.MODULE + ":show_process", b"60", shown="")
while len(family := [*templates(), *children(*templates())]) != 4:
    time.sleep(0.01)
print(*family, flush=True)
{end}
""")
    pids = [int(word) for word in ended.stdout.split()]
    assert len(pids) == 4, ended.stderr
    until(lambda: not any(map(is_alive, pids)))


def test_processes_end_although_a_fork_of_their_owner_lives() -> None:
    """A fork of it holds nothing open, and has a pool of its own when it needs one."""
    ended = run("""
from tests.unit.expressions.pool.family import children, templates
mine = pool.evaluate(yaql("planted_pid()"))
(template,) = templates()
child = os.fork()
if child == 0:
    other = pool.evaluate(yaql("planted_pid()"))
    print(mine != other, mine in children(template), flush=True)
    pool.close()
    print(len(templates()), flush=True)
    os.close(1)
    os.close(2)
    time.sleep(60)
    os._exit(0)
time.sleep(0.1)
while len(templates(child)) != 0 or os.path.exists(f"/proc/{child}/fd/1"):
    time.sleep(0.05)
print(pool.evaluate(yaql("1 + 1")), template, *children(template), child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    lines = ended.stdout.splitlines()
    assert lines[:2] == ["True True", "0"], ended.stderr
    value, *pids, child = lines[2].split()
    assert value == "2"
    assert is_alive(int(child))
    until(lambda: not any(is_alive(int(pid)) for pid in pids))
    os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("closed", ["0, 1, 2", "0", "1, 2", "2", "0, 2"])
def test_a_pool_needs_no_standard_streams(closed: str) -> None:
    """Its owner may have closed them, and its own sockets have their numbers."""
    ended = run(f"""
report = os.dup(1)
for descriptor in ({closed},):
    os.close(descriptor)
value = pool.evaluate(yaql("$.s =~ 'a.c'"), __import__("tests.unit.expressions.pool.asking", fromlist=["x"]).SCOPE)
os.write(report, str(value).encode())
pool.close()
os._exit(0)
""")
    assert ended.stdout == "True", ended.stderr


def test_a_pool_writes_no_files(tmp_path: Path) -> None:
    """It works where no file can be written and no program can be found."""
    ended = run(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
value = pool.evaluate(yaql("regex('a').matches('a')"))
pool.close()
sys.exit(0 if value is True else 3)
""",
        {"TMPDIR": "/proc", "HOME": "/proc", "PATH": "", "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr


def test_a_pool_works_whatever_its_owner_does_with_signals() -> None:
    """Ignored and blocked signals are inherited by processes: not by those of the pool."""
    ended = run("""
for number in (signal.SIGCHLD, signal.SIGPROF):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
try:
    pool.evaluate(yaql("planted_busy(5)"))
except Exception as error:
    print(error)
try:
    pool.evaluate(yaql("planted_abort()"))
except Exception as error:
    print(error)
pool.close()
""")
    first, second = ended.stdout.splitlines()
    assert first.endswith("it takes more than 1 s of processor time")
    assert "SIGABRT" in second


def test_where_no_process_can_be_started_jobs_wait() -> None:
    """It is said once in the log, tried again, and once there can be processes the job has its value."""
    ended = run("""
import logging, resource
told = []
class Telling(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.basicConfig(level=logging.WARNING, handlers=[Telling()])
sys_executable, sys.executable = sys.executable, "/nonexistent"
outcomes = []
pool.submit(yaql("1 + 1"), Known(), "", outcomes.append)
while not told:
    time.sleep(0.05)
time.sleep(1)  # it is tried again meanwhile
print(*told, sep="\\n")
print(outcomes)
sys.executable = sys_executable
while not outcomes:
    time.sleep(0.05)
print(outcomes[0].value)
pool.close()
""")
    told, before, after = ended.stdout.splitlines()
    assert told.startswith("no process can be started: ")
    assert (before, after) == ("[]", "2")
