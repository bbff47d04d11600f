"""Recording where the services spend their time, with py-spy."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tied import tied


@contextmanager
def recorded(pids: dict[str, int], folder: Path, name: str) -> Iterator[None]:
    """Record the services during a block into `folder`, one file of stacks and counts each.

    RuntimeError without py-spy.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise RuntimeError("--profile needs the program py-spy (a package of that name)")
    folder.mkdir(parents=True, exist_ok=True)
    recorders = [
        subprocess.Popen(
            tied(program, "record", "--format", "raw", "--rate", "200", "--pid", str(pid), "--output", str(path)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for pid, path in ((pid, folder / f"{name}-{service}.txt") for service, pid in pids.items())
    ]
    try:
        yield
    finally:
        for recorder in recorders:
            recorder.send_signal(signal.SIGINT)
            recorder.wait()
