"""Isolated actions: runs in processes that can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tied import tied
from tests.unit.worker import isolated

from dalsegno.worker import ActionContext, Worker, action
from dalsegno.worker.testing import Outcome, call, call_async

ROOT = Path(__file__).parents[3]


def until(true: Callable[[], bool]) -> None:
    """Wait at most 40 s."""
    ends_s = time.monotonic() + 40
    while not true():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and is not waited for yet does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_an_isolated_action_runs_in_another_process() -> None:
    """It gets input and context, reports progress, and its result comes back; each run has a process of its own."""
    first, second = (call(isolated.tell_pid, context=ActionContext("e.1.0.3", attempt=3)) for _ in range(2))

    assert first.word == "succeeded", first.error
    assert len({os.getpid(), first.result["pid"], second.result["pid"]}) == 3
    assert (first.result["attempt"], first.progress) == (3, (("running", 0.5),))
    assert call(isolated.double, {"number": 21}).result == 42


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("raise", Outcome("failed", {"tray": 2}, "out of paper")),
        ("exit", Outcome("failed", error="the process of isolated.end ended with exit code 3 before it had a result")),
        ("signal", Outcome("failed", error="the process of isolated.end was ended by SIGSEGV before it had a result")),
        ("large", Outcome("failed", error="result too large: 5,000,002 bytes, at most 4,000,000")),
        ("set", Outcome("failed", error="the result is not JSON: $: a set is not JSON")),
        ("thread", Outcome("failed", error="The action raised an exception [action=isolated.end, msg='4']")),
        ("alias", Outcome("delegated", alias="order-17")),
    ],
)
def test_the_end_of_a_process_is_an_outcome(how: str, expected: Outcome) -> None:
    """Failures, exits, signals, results that cannot be sent and delegation: each has its clear outcome."""
    assert call(isolated.end, {"how": how}) == expected


def test_the_log_has_the_traceback_of_a_process(capfd: pytest.CaptureFixture[str]) -> None:
    """What an isolated action raises is logged as what any other raises."""
    pid = subprocess.run(
        tied(sys.executable, "-c", "from tests.unit.worker import isolated; from dalsegno.worker.testing import call; "
             "print(call(isolated.end, {'how': 'thread'}).error)"),
        cwd=ROOT, check=True,
    )  # fmt: skip
    assert pid.returncode == 0
    shown = capfd.readouterr()
    assert "msg='4'" in shown.out
    assert '"message":"action isolated.end of ' in shown.err
    assert "return exit(4)" in shown.err


def test_an_input_that_does_not_fit_starts_no_process() -> None:
    """The input is checked before."""
    assert call(isolated.double, {"number": "2"}).error == (
        "isolated.double: input $.number: expected `int`, got `str`"
    )


async def test_a_stopped_process_is_killed(tmp_path: Path) -> None:
    """At its deadline the process is killed, with the programs that it has started, as when it is cancelled."""
    assert (await call_async(isolated.double, {"number": 1})).result == 2  # the template is there
    path = tmp_path / "pids"
    for timeout_s in (4, 30):  # a busy machine may not even have begun after the first
        start_s = time.monotonic()
        outcome = await call_async(isolated.sleep, {"path": str(path)}, timeout_s=timeout_s)
        assert (outcome.word, outcome.error) == ("failed", f"timed out after {timeout_s:.3f} s")
        assert time.monotonic() - start_s < timeout_s + 16
        if path.exists():
            break
    pids = [int(each) for each in path.read_text().split()]
    async with asyncio.timeout(20):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 (what is waited for is not ours to signal)
            await asyncio.sleep(0.01)


PARENT = """
import sys
from tests.tied import tied
from tests.unit.worker import isolated
from dalsegno.worker.testing import call
call(isolated.sleep, {"path": sys.argv[1]})
"""


def test_a_process_ends_with_its_worker_and_not_before(tmp_path: Path) -> None:
    """SIGTERM to all processes of a service does not end it, as the worker may wait for it; the death of the worker
    does."""
    path = tmp_path / "pids"
    worker = subprocess.Popen(tied(sys.executable, "-c", PARENT, str(path)), cwd=ROOT)
    try:
        until(path.exists)
        pid = int(path.read_text().split()[0])
        template = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        for each in (pid, template):
            os.kill(each, signal.SIGTERM)
        time.sleep(0.3)
        assert is_alive(pid)
    finally:
        worker.kill()
        worker.wait()
    until(lambda: not is_alive(pid) and not is_alive(template))


SCRIPT = """
from dalsegno.worker import Worker, action
from dalsegno.worker.testing import call

@action("script.double", isolation="process")
def double(number: int) -> int:
    return 2 * number

"""


def test_an_isolated_action_may_stand_in_the_script_itself(tmp_path: Path) -> None:
    """The process loads the script, too. A script that then starts a worker again is told what to write."""
    guarded, careless = tmp_path / "guarded.py", tmp_path / "careless.py"
    guarded.write_text(f"{SCRIPT}if __name__ == '__main__':\n    print(call(double, {{'number': 21}}).result)\n")
    careless.write_text(
        f"{SCRIPT}if __name__ == '__main__':\n    print(call(double, {{'number': 21}}).error)\n"
        "else:\n    Worker(double).run()\n"
    )

    ended = [
        subprocess.run(
            tied(sys.executable, str(each)), capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
        for each in (guarded, careless)
    ]

    assert ended[0].stdout == "42\n", ended[0].stderr
    assert ended[1].stdout == "the process of script.double ended with exit code 1 before it had a result\n"
    assert "put it under if __name__ == '__main__':" in ended[1].stderr


async def test_many_at_once() -> None:
    """Processes that start and end at the same time do not disturb each other."""
    outcomes = await asyncio.gather(*(call_async(isolated.double, {"number": number}) for number in range(12)))

    assert [each.result for each in outcomes] == [2 * number for number in range(12)]


def test_an_action_that_a_process_cannot_find_is_refused() -> None:
    """An isolated action stands at the top of its module; the error says so."""

    def inner() -> None: ...

    with pytest.raises(TypeError, match="define it at the top of a module"):
        action("isolated.inner", isolation="process")(inner)
    with pytest.raises(TypeError, match="the isolation is 'none' or"):
        action("isolated.inner", isolation="thread")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the isolation is 'none' or"):
        action("isolated.inner", isolation="process", blocking=False)
    hidden = action("isolated.hidden", isolation="process")(isolated.double.function)
    with pytest.raises(ValueError, match=r"looks for it in tests\.unit\.worker\.isolated: define it there"):
        call(hidden, {"number": 1})
    with pytest.raises(ValueError, match="define it there"):
        Worker(hidden)
