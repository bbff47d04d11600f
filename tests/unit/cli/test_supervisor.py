"""The supervisor starts small programs instead of services, restarts them and stops them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tied import tied

from dalsegno.cli.exits import CommandError
from dalsegno.cli.supervisor import Service, Supervisor, choose_address

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def service(code: str, log: Path, name: str = "sleeper") -> Service:
    """Return a service that runs this program."""
    return Service(name, (sys.executable, "-c", code), log)


async def until(holds: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    give_up_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up_at, "it did not come about"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    """After kill -9 the supervisor starts a new process and prints so."""
    told: list[str] = []
    supervisor = Supervisor([service(SLEEP, tmp_path / "log")], told.append)
    supervisor.start()
    [child] = supervisor.children
    await until(lambda: (tmp_path / "log").exists() and "up" in (tmp_path / "log").read_text())
    first = child.pid

    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (0, first))
    second = child.pid
    await supervisor.stop()

    assert told[:2] == [
        f"sleeper (pid {first}) was killed by SIGKILL; starting it again in 0.2 s",
        f"sleeper runs again, pid {second}",
    ]
    assert not is_alive(second)


async def test_a_service_that_never_stays_up_is_tried_ever_less_often(tmp_path: Path) -> None:
    """Each wait is twice the wait before, and the supervisor knows which service fails."""
    told: list[str] = []
    supervisor = Supervisor([service("raise SystemExit(3)", tmp_path / "log")], told.append)
    supervisor.start()
    failing = await asyncio.wait_for(supervisor.wait_for_failing(), 60)
    await supervisor.stop()
    assert failing.service.name == "sleeper"

    ends = [line.partition(") ")[2] for line in told if "ended" in line]
    assert ends[:3] == [f"ended with exit code 3; starting it again in {wait} s" for wait in ("0.2", "0.4", "0.8")]


async def test_stopping_asks_first_and_kills_what_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop sends SIGTERM, waits the grace period and sends SIGKILL; then nothing runs."""
    monkeypatch.setattr("dalsegno.cli.supervisor.GRACE_S", 0.3)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    told: list[str] = []
    supervisor = Supervisor([service(deaf, tmp_path / "log")], told.append)
    supervisor.start()
    await until(lambda: (tmp_path / "log").exists() and "up" in (tmp_path / "log").read_text())
    pid = supervisor.children[0].pid

    await supervisor.stop()

    assert told[-1] == f"sleeper (pid {pid}) did not stop within 0.3 s; killing it"
    assert not is_alive(pid)


async def test_the_engine_is_stopped_last(tmp_path: Path) -> None:
    """The engine is stopped after the others, so that they can send it what they have."""
    log = tmp_path / "log"
    code = (
        "import os, signal, sys, time\n"
        "def end(*_): os.write(1, f'{sys.argv[1]} ends\\n'.encode()); sys.exit(0)\n"  # whole, beside the others
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    services = [Service(name, (sys.executable, "-c", code, name), log) for name in ("engine", "executor", "api")]
    supervisor = Supervisor(services, lambda line: None)
    supervisor.start()
    await until(lambda: log.exists() and log.read_text().count("up") == 3)

    await supervisor.stop()

    *others, last = log.read_text().splitlines()[3:]
    assert sorted(others) == ["api ends", "executor ends"]
    assert last == "engine ends"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_services_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """Even kill -9 of the supervisor leaves no service behind."""
    log = tmp_path / "log"
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from dalsegno.cli.supervisor import Service, Supervisor\n"
        "async def run():\n"
        f"    service = Service('sleeper', (sys.executable, '-c', {SLEEP!r}), Path({str(log)!r}))\n"
        "    supervisor = Supervisor([service], print)\n"
        "    supervisor.start()\n"
        "    while not supervisor.children[0].pid: await asyncio.sleep(0.01)\n"
        "    print(supervisor.children[0].pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(run())\n"
    )
    with subprocess.Popen(tied(sys.executable, "-c", program), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        give_up_at = time.monotonic() + 60
        while not (log.exists() and "up" in log.read_text()) and time.monotonic() < give_up_at:
            time.sleep(0.02)
        parent.kill()

    while is_alive(pid) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_addresses_are_chosen_or_refused_in_words() -> None:
    """Port 0 becomes a free port; an address that is taken or wrong is refused with the name of the option."""
    chosen = choose_address("127.0.0.1:0", "--listen")

    assert chosen.startswith("127.0.0.1:")
    assert int(chosen.rpartition(":")[2]) > 0
    for wrong in ("7700", "127.0.0.1:70000", "127.0.0.1:http", ":7700"):
        with pytest.raises(CommandError, match="not of the form HOST:PORT"):
            choose_address(wrong, "--listen")
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1:1") as caught:
        choose_address("192.0.2.1:1", "--listen")
    assert "an address of this machine with --listen" in caught.value.advice
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError) as caught:
            choose_address(f"127.0.0.1:{taken.getsockname()[1]}", "--listen")
    assert "another server may run there" in caught.value.advice
