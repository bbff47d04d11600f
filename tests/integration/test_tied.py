"""What a test or a benchmark starts ends with it, also by kill -9, which lets it clean up nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import SOURCES
from tests.tied import tied

ROOT = SOURCES.parent
GONE_S = 30.0

A_TEST = """
import asyncio, sys
from pathlib import Path
from tests.processes import System
async def run():
    async with System(Path(sys.argv[1])) as system:
        print(*(service.pid for service in system.services), flush=True)
        await asyncio.sleep(60)
asyncio.run(run())
"""
A_BENCHMARK = """
import asyncio
from tests.benchmarks.services import running_services
async def run():
    async with running_services() as (services, client):
        await client.define("{version: '2.0', rest: {tasks: {nap: {action: std.noop}}}}")
        print(*services.pids.values(), flush=True)
        await asyncio.sleep(60)
asyncio.run(run())
"""
A_DATABASE = """
import time
from tests.postgres import NoPostgres, run_server
try:
    with run_server() as server:
        print(server._process.pid, flush=True)
        time.sleep(60)
except NoPostgres as reason:
    print(reason, flush=True)
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as PostgreSQL's does."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
@pytest.mark.parametrize("program", [A_TEST, A_BENCHMARK, A_DATABASE], ids=["a test", "a benchmark", "a database"])
def test_services_end_with_a_killed_program(program: str, folder: Path) -> None:
    """kill -9 of what started them leaves neither services nor a database server behind."""
    command = (sys.executable, "-c", program, str(folder))
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(tied(*command), cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        told = parent.stdout.readline()
        parent.kill()
    if program is A_DATABASE and "PostgreSQL" in told:
        pytest.skip(told)
    pids = [int(word) for word in told.split()]
    assert pids
    give_up_at = time.monotonic() + GONE_S
    while any(map(is_alive, pids)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []
