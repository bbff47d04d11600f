"""`dalsegno serve` as a process with its data in a folder, and commands for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.endpoints import REACHABLE
from tests.ports import free_address
from tests.template import Program, start_forked
from tests.tied import tied

from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store

DALSEGNO = (sys.executable, "-m", "dalsegno.cli.main")
SCRIPT = Path(sys.executable).parent / "dalsegno"
"""What is installed."""
SERVICES = ("engine", "executor", "api")


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that name other servers and folders, or change when output is seen;
    servers of tests are reached."""
    hidden = ("DALSEGNO_", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | REACHABLE


def type_command(*words: object, within_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Type a command and wait for its end. A process with its modules runs it: most commands take less than loading."""
    arguments = tuple(map(str, words))
    with TemporaryDirectory() as folder:
        told, errors = Path(folder, "told"), Path(folder, "errors")
        command = start_forked(Program(str(SCRIPT), arguments, told, clean_environment(), errors))
        try:
            code = command.wait(within_s)
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess([str(SCRIPT), *arguments], code, told.read_text(), errors.read_text())


def wait_for(holds: Callable[[], Any], within_s: float = 30.0) -> Any:
    """Return the first true value of `holds`."""
    give_up_at = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(0.05)
    return value


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def list_processes() -> list[str]:
    """Return the command lines of all processes."""
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(each.read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile
            continue
    return lines


@dataclass
class Served:
    """A running `dalsegno serve`."""

    process: subprocess.Popen[str]
    told: Path

    @property
    def address(self) -> str:
        """Return the address of the api."""
        found = re.search(r"^api +(\S+) +pid", self.told.read_text(), re.MULTILINE)
        assert found
        return found[1]

    def pid(self, service: str) -> int:
        """Return the process id of a service, as last printed."""
        found = re.findall(rf"^{service} .*pid (\d+)(?!\d|\))", self.told.read_text(), re.MULTILINE)
        return int(found[-1])

    def kill(self, *services: str) -> None:
        """Kill services with kill -9, all at once."""
        for pid in [self.pid(service) for service in services]:
            os.kill(pid, signal.SIGKILL)

    def type(self, *words: object, within_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Type a command for this server."""
        return type_command(*words, "--server", self.address, within_s=within_s)

    def read(self, *words: object) -> Any:
        """Return the output of a command as data."""
        ended = self.type(*words, "--output", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def store(self, text: str, folder: Path) -> None:
        """Store definitions."""
        file = folder / "definitions.yaml"
        file.write_text(text)
        ended = self.type("workflow", "create", file)
        assert ended.returncode == 0, ended.stderr

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(40) == 0


@contextmanager
def serve(data: Path, *options: str, before: Sequence[str] = ()) -> Iterator[Served]:
    """Run a server with its data in this folder until the block ends; then every journal must equal the rows. `before`:
    words before the command."""
    data.mkdir(parents=True, exist_ok=True)
    told = data / "told"
    addresses = [word for option in ("", "engine-", "gateway-") for word in (f"--{option}listen", free_address())]
    command = [*before, *DALSEGNO, "serve", "--data", str(data), *addresses]
    with told.open("w") as out:
        process = subprocess.Popen(
            tied(*command, *options), stdout=out, stderr=subprocess.STDOUT, text=True, env=clean_environment()
        )
    served = Served(process, told)
    try:
        give_up_at = time.monotonic() + 80
        while "ready; " not in told.read_text():
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < give_up_at, told.read_text() + read_logs(data)
            time.sleep(0.05)
        yield served
    finally:
        if process.poll() is None:
            served.stop()
    assert find_differences(data) == []


def find_differences(data: Path) -> list[str]:
    """Return how the rows in this folder differ from their journals; nothing without a store."""
    file = data / "dalsegno.db"
    if not file.exists():
        return []
    store = open_store(f"sqlite:///{file}", read_only=True)
    try:
        return list(check(store))
    finally:
        store.close()


def read_logs(data: Path) -> str:
    """Return the end of each service's log."""
    return "".join(f"\n== {log.name}\n{log.read_text()[-3_000:]}" for log in sorted((data / "logs").glob("*.log")))


def completions(changes: list[dict[str, Any]]) -> Counter[tuple[str, int, int]]:
    """Return how often each item of each task ended in SUCCESS, by task name, task number and item."""
    moved = [change["attempt_moved"] for change in changes if "attempt_moved" in change]
    return Counter(
        (each["task_name"], each["task_number"], each.get("item", 0)) for each in moved if each["state"] == "SUCCESS"
    )
