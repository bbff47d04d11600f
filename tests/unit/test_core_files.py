"""Services leave nothing of their memory on disks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dalsegno.core_files import PR_SET_DUMPABLE

SOURCES = Path(__file__).parents[2] / "services" / "dalsegno"

PROBE = f"""
import ctypes, os, resource
from dalsegno import core_files
print(ctypes.CDLL(None).prctl({PR_SET_DUMPABLE - 1}), flush=True)
core_files.write_none()
if os.fork() == 0:
    print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl({PR_SET_DUMPABLE - 1}), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows whether a process is dumpable")
def test_no_core_file_is_written() -> None:
    """A process that has asked for it, and what it forks, writes no core file and is not dumpable."""
    ended = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == ["1", "0", "0"]


@pytest.mark.parametrize("service", ["api", "engine", "executor", "gateway"])
def test_each_service_asks_for_it_first(service: str) -> None:
    """A service asks for it when its options are read, before it opens anything."""
    lines = (SOURCES / service / "__main__.py").read_text().split("def main(")[1].splitlines()
    code = [line.strip() for line in lines if line.startswith("    ")]
    begins = next(index for index, line in enumerate(code) if line.startswith("settings = "))
    assert code[begins + 1] == "core_files.write_none()"
