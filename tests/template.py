"""Starts of services and commands by a fork of a process that has loaded their modules: new interpreters would take
most of the time of a small machine (4.3 s of processor time for engine, executor and api, 1 s so).

    process = start_forked(Program("dalsegno.engine", ("--listen", "127.0.0.1:0"), log, environment))
    process.send_signal(signal.SIGTERM)
    process.wait(20)

What is forked differs from `python -m dalsegno.engine` in nothing else: it has its own arguments, environment, folder
and output, and ends like any program, but for two things: it does not free each object then, and its evaluation
processes are forked by a server of the tests (tests/pool_templates.py). It is killed when the template ends, and that
ends with the program that has started it. Each program has one template, from its first start on.

Run as a file, this is the template: it reads a request on each line, and writes which process it has forked, and how
each has ended.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.pool_templates import start_server, use_server
from tests.tied import tied

from dalsegno.expressions.yaql import parse

ROOT = Path(__file__).resolve().parents[1]
LOADED = (
    *("dalsegno.engine.service", "dalsegno.engine.settings", "dalsegno.api.service", "dalsegno.api.settings"),
    *("dalsegno.gateway.service", "dalsegno.worker.worker", "dalsegno.rpc.metrics", "dalsegno.store.opening"),
    *("dalsegno.store.migrate", "dalsegno.store.postgres", "alembic.command", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("sqlalchemy.dialects.postgresql.psycopg", "dalsegno.cli.main", "typer._adapters"),
)
"""What is not installed is left out."""
START_S = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """What a process runs: `python -m MODULE ARGUMENT...`, or `python FILE ARGUMENT...`."""

    file: str
    """A module, or a file if it has a slash."""
    arguments: tuple[str, ...]
    log: Path
    """Where its output is appended."""
    environment: dict[str, str]
    """All of it."""
    errors: Path | None = None
    """Where its error output is appended, if not to `log`."""


class Forked:
    """A process that was forked from the template, with the methods of subprocess.Popen that tests use."""

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        """None: it runs. Negative: the signal that has ended it."""
        self._begun = threading.Event()
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Return how it has ended, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return how it has ended, when it has. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal. Nothing happens if it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_begun(self) -> None:
        """Return when it has its process id."""
        assert self._begun.wait(START_S), "the template does not answer"

    def note_begin(self, pid: int) -> None:
        """Note that it runs."""
        self.pid = pid
        self._begun.set()

    def note_end(self, returncode: int) -> None:
        """Note how it has ended."""
        self.returncode = returncode
        self._ended.set()


class Template:
    """The process from which others are forked, seen from the program that has started it. Use it from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starting = Forked()
        self._children: dict[int, Forked] = {}
        self._is_up = threading.Event()
        # A process ends with the thread that has started it: this one lives as long as the program.
        threading.Thread(target=self._run, name="template", daemon=True).start()
        assert self._is_up.wait(START_S), "the template does not start"

    def start(self, program: Program) -> Forked:
        """Fork a process that runs a program."""
        outputs = {"log": str(program.log), "errors": str(program.errors or program.log)}
        request = {**asdict(program), **outputs, "folder": str(Path.cwd())}
        with self._lock:
            child = self._starting = Forked()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            child.wait_begun()
        return child

    def _run(self) -> None:
        """Start the template, and read what it says."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "services", ROOT)))}
        self._process = subprocess.Popen(
            tied(sys.executable, "-P", __file__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._pools = start_server(ROOT)
        self._is_up.set()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, code = json.loads(line)
            if code is None:
                self._children[pid] = self._starting
                self._starting.note_begin(pid)
            else:
                self._children.pop(pid).note_end(code)


@cache
def _template() -> Template:
    return Template()


def start_forked(program: Program) -> Forked:
    """Start a program by a fork of the template of this process."""
    return _template().start(program)


def main() -> None:
    """Be the template until its program has ended, or, in a process that was forked, run what is to run."""
    ending = Ending()
    atexit.register(ending.leave)  # the first one is called last
    requests, answers, owner = os.dup(0), os.dup(1), os.getppid()
    os.dup2(2, 1)
    for name in LOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    parse.engine()  # an engine would make the tables of this parser at its start
    gc.freeze()  # else each process copies all of it when it looks for garbage, at its end at the latest
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends its services in order
    program = serve(requests, answers)
    if program is not None:
        if program["file"] in ("dalsegno.engine", "dalsegno.api"):
            use_server(owner)
        with ending:
            run(program)


class Ending:
    """The end of a program whose exit code is known: it is left at once when all else is done. To free what the
    template has loaded, Python would first copy all of that."""

    def __init__(self) -> None:
        self._code: int | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, _: object) -> None:
        code = raised.code if isinstance(raised, SystemExit) else None
        if (raised is None or isinstance(raised, SystemExit)) and not isinstance(code, str):
            self._code = code or 0

    def leave(self) -> None:
        """Leave, if this is such a program, and its threads and what it has registered for its end are done."""
        if self._code is None:
            return
        with suppress(OSError, ValueError):  # closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(self._code)


def serve(requests: int, answers: int) -> dict[str, Any] | None:
    """Fork for each request, and tell of each end. Return what to run in a process that was forked, else None."""
    template, unread = os.getpid(), b""
    ends, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for descriptor in (requests, ends):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if ends in ready:
                os.read(ends, 4096)
                tell_ends(answers)
            if requests not in ready:
                continue
            read = os.read(requests, 1 << 20)
            if not read:
                return None
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    bind(template, (requests, answers, ends, wakes))
                    program: dict[str, Any] = json.loads(line)
                    return program
                os.write(answers, json.dumps([pid, None]).encode() + b"\n")


def tell_ends(answers: int) -> None:
    """Tell of each process that has ended."""
    with suppress(ChildProcessError):  # none is left
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            os.write(answers, json.dumps([pid, os.waitstatus_to_exitcode(status)]).encode() + b"\n")


def bind(template: int, descriptors: Iterable[int]) -> None:
    """Bind this process, which was just forked, to the template, and leave what is the template's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # one that is frozen ends, too
    if os.getppid() != template:
        os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)


def run(program: dict[str, Any]) -> None:
    """Run a program in this process, with its own arguments, environment, folder and output."""
    null = os.open(os.devnull, os.O_RDONLY)
    log, errors = (os.open(program[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666) for name in ("log", "errors"))
    for target, source in enumerate((null, log, errors)):
        os.dup2(source, target)
        os.close(source)
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:0] = [program["folder"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    file: str = program["file"]
    sys.argv = [file, *program["arguments"]]
    if os.sep in file:
        runpy.run_path(file, run_name="__main__")
    else:
        runpy.run_module(file, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
