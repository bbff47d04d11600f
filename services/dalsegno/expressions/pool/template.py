"""The process that the pool's processes are forked from: `python -m dalsegno.expressions.pool.template MODULE...`.

It imports everything and evaluates a few expressions, so that caches are filled, and then forks on request. It has
one thread, and its children are its only state. Its standard input is a socket to the pool, which sends requests to
fork (with the new process's socket) and to kill; it reports how each process ended. When it is closed, all end.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from dalsegno import core_files
from dalsegno.expressions.answers import find_problems
from dalsegno.expressions.environment import EnvironmentScope
from dalsegno.expressions.language import LANGUAGES
from dalsegno.expressions.pool.compiled import Compiled
from dalsegno.expressions.pool.jobs import Evaluation
from dalsegno.expressions.pool.spawning import ENDED, FAILED, FORK, READY, REPORT, REQUEST, STARTED
from dalsegno.expressions.pool.worker import MEBIBYTE, PEAK_UNIT, work
from dalsegno.workflow.scope import EvaluationError

PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Without enough memory, the system kills a process of the pool first."""

TRIED = (
    ("yaql", "regex('a').matches(env().a) and [1].select($ + 1).len() = 1"),
    ("jinja", "{{ 'a' * 2 }}"),
    ("jinja text", "{% for x in range(2) %}{{ x | string }}{% endfor %}"),
)
"""Expressions that fill the caches of the libraries."""


def main(modules: Iterable[str]) -> None:
    """Fork on request until the pool has ended."""
    connection = take_connection()
    take_signals()
    warm_up(modules)
    gc.collect()
    gc.freeze()  # All children share existing objects: the garbage collector would copy them by visiting them.
    Template(connection, load_death_signal()).serve()


def take_connection() -> socket.socket:
    """Return the socket that standard input is, and replace it by an empty one. Without a standard error of the parent,
    errors are dropped, so that no other file gets one of the three numbers."""
    connection = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    redirect(0)
    try:
        os.fstat(2)
    except OSError:
        redirect(2)
    return connection


def redirect(*descriptors: int) -> None:
    """Redirect them to the null device."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    if nowhere not in descriptors:
        os.close(nowhere)


def take_signals() -> None:
    """Receive the ends of children, regardless of the parent's signal handlers. Ignore signals to all processes of a
    terminal or a service: the parent handles them, and this process ends after it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)


def warm_up(modules: Iterable[str]) -> None:
    """Import and prepare everything that jobs need."""
    for name in (*modules, "jsonpath_ng.parser"):
        importlib.import_module(name)
    scope = EnvironmentScope({"a": "a"}, 0.0, "")
    compiled = Compiled()
    for language in LANGUAGES:
        for notation, text in TRIED:
            with suppress(EvaluationError):  # not every language has every function
                compiled.get(Evaluation(notation, text, language, "", 0.0, "")).evaluate_here(scope, "")
    find_problems({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": 1})


def load_death_signal() -> Callable[[], object]:
    """Return the function that makes the system kill a process when its parent ends, if there is one."""
    if sys.platform != "linux":
        return lambda: None
    library = ctypes.CDLL(None)
    return lambda: library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Template:
    """The parent of all processes of the pool."""

    def __init__(self, connection: socket.socket, die_with_parent: Callable[[], object]) -> None:
        self._connection = connection
        self._die_with_parent = die_with_parent
        self._children: dict[int, int] = {}
        """The numbers of the children by their process ids."""
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def tell(self, kind: int, number: int, detail: int, peak_mib: int = 0) -> None:
        """Report to the pool."""
        self._connection.sendall(REPORT.pack(kind, number, detail, peak_mib))

    def serve(self) -> None:
        """Fork and kill until the pool has ended; then no child is left. It may end before this process is ready."""
        try:
            self.tell(READY, 0, 0)
            while True:
                ready, _, _ = select.select([self._connection, self._woken], [], [])
                if self._woken in ready:
                    self._woken.recv(4096)
                if self._connection in ready and not self._obey():
                    return
                self._reap()
        except OSError:
            pass  # the pool has ended
        finally:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)
            for pid in self._children:
                os.waitpid(pid, 0)

    def _obey(self) -> bool:
        request, descriptors, _, _ = socket.recv_fds(self._connection, REQUEST.size, 1)
        if len(request) < REQUEST.size:
            return False
        kind, number, nice = REQUEST.unpack(request)
        if kind == FORK:
            self._fork(number, nice, socket.socket(fileno=descriptors[0]))
        else:
            for pid, each in self._children.items():
                if each == number:
                    os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, number: int, nice: int, connection: socket.socket) -> None:
        parent = os.getpid()
        with connection:
            try:
                pid = os.fork()
            except OSError as error:
                self.tell(FAILED, number, error.errno or 0)
                return
            if pid == 0:
                self._become_worker(parent, nice, connection)
        self._children[pid] = number
        self.tell(STARTED, number, pid)

    def _become_worker(self, parent: int, nice: int, connection: socket.socket) -> None:
        """Run the child. Never returns, because the callers on the stack belong to the template."""
        try:
            self._die_with_parent()
            if os.getppid() == parent:  # otherwise it died before the registration
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (self._connection, self._woken, self._waker):
                    end.close()
                prepare_worker(nice)
                work(connection)
            os._exit(0)
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self._children:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            code, peak_mib = os.waitstatus_to_exitcode(status), used.ru_maxrss * PEAK_UNIT // MEBIBYTE
            self.tell(ENDED, self._children.pop(pid), code, peak_mib)


def prepare_worker(nice: int) -> None:
    """Make this process harmless: low priority, killed first without memory, no core dump."""
    with suppress(OSError):  # if that is forbidden
        os.nice(nice)
    with suppress(OSError):  # if there is no /proc
        Path("/proc/self/oom_score_adj").write_text(f"{OOM_SCORE}\n")
    core_files.write_none()  # after that the file above is root's
    redirect(1, 2)


if __name__ == "__main__":
    main(sys.argv[1:])
