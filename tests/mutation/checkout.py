"""A copy of the checkout and runs of pytest in it. The copy alone is changed, never the checkout.

Each run is a fork of this process, which has imported pytest and the libraries but nothing of the project, so that
beginning one takes a fraction of a second.
"""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.mutation.given import GivenTime
from tests.mutation.mutants import Mutant

LIBRARIES = (
    *("aiohttp", "aiosmtplib", "alembic.command", "google.protobuf.json_format", "google.rpc.error_details_pb2"),
    *("grpc.aio", "grpc_health.v1.health", "grpc_reflection.v1alpha.reflection", "grpc_status.rpc_status"),
    *("immutables", "jinja2.sandbox", "jsonpath_ng.ext", "jsonschema", "msgspec", "orjson"),
    *("prometheus_client", "referencing", "rich.console", "sqlalchemy.dialects.sqlite", "typer.testing", "yaml"),
    *("yaql.language.factory", "yaql.standard_library.queries"),
)
GENERATED = "services/dalsegno/v1"
POLL_S = 0.01
MEMORY_BYTES = 6 * 2**30
"""More than any test needs: a mutant that builds without end fails, and the machine goes on."""


class Checkout:
    """A copy of `root` in `folder`, with what lies beside it within reach (`../shared`)."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.copy = folder / root.name
        self._is_mutated = False
        self.copy.mkdir(parents=True)
        for name in [*_files(root), *_below(root, GENERATED)]:
            (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, self.copy / name)
        for beside in root.parent.iterdir():
            if beside.name == "shared":
                (folder / beside.name).symlink_to(beside.resolve())
        for library in LIBRARIES:
            importlib.import_module(library)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Within the block, the copy has that mistake in it."""
        path = self.copy / mutant.path
        source, made = path.read_bytes(), path.stat()
        path.write_bytes(mutant.apply(source))
        self._is_mutated = True
        try:
            yield
        finally:
            self._is_mutated = False
            path.write_bytes(source)
            os.utime(path, ns=(made.st_atime_ns, made.st_mtime_ns))  # so that what was compiled from it fits again

    def run(self, work: Callable[[], int], log: Path, limit_s: float | None = None) -> int:
        """Do that work in a process of its own, in the copy; return its exit code, or -SIGKILL at its limit of given
        time."""
        shutil.rmtree(self.copy / ".hypothesis", ignore_errors=True)
        child = os.fork()
        if child == 0:
            self._work(work, log)
        given = GivenTime(child)
        done, status = 0, 0
        try:
            while not done and given.measure_s() < (limit_s or float("inf")):
                time.sleep(POLL_S)
                done, status = os.waitpid(child, os.WNOHANG)
        finally:
            _end_group(child)
            if not done:
                status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status)

    def _work(self, work: Callable[[], int], log: Path) -> None:
        code = 70
        try:
            self._move_in(log)
            code = int(work())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(code)

    def _move_in(self, log: Path) -> None:
        """Make this process one of the copy: it and what it begins find nothing of the checkout."""
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(self.copy)
        away = {"", str(self.root), str(self.root / "services")}
        sys.path[:] = [str(self.copy / "services"), *(path for path in sys.path if path not in away)]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        os.environ["PYTHONPATH"] = sys.path[0]
        if self._is_mutated:  # nothing compiled from a mutant is kept
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True


def run_pytest(arguments: Sequence[str], *plugins: object) -> int:
    """Run pytest in this process."""
    return pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *arguments], plugins=plugins)


def _files(root: Path) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def _below(root: Path, folder: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()]


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
