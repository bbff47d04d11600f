"""Templates of evaluation processes for services that tests/template.py has forked. They are forked as well, because
each would import the libraries of expressions again: half a second of processor time.

Run as a file, this is the server that forks them. It has loaded nothing else: evaluation processes have a limit of
memory. A template that was forked differs in nothing from one that was started, but that it is no child of its engine.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.tied import tied

from dalsegno.expressions.pool import spawning

NAME_LENGTH_MAX = 15
"""Of a process, as the system keeps it."""
_PR_SET_NAME = 15
_REQUEST_BYTES = 1 << 20


def address_of(pid: int) -> str:
    """Return the address of the server of a process: no file, and gone with the server."""
    return f"\0dalsegno-tests-pool-{pid}"


def name_of(engine: int) -> str:
    """Return the name of the evaluation processes of an engine, which are not its children."""
    return f"pool-{engine}"[:NAME_LENGTH_MAX]


class ForkedTemplate:
    """A template, with what the pool needs of subprocess.Popen."""

    def __init__(self, address: str, command: list[str], *, stdin: int, env: dict[str, str], stdout: int) -> None:
        """Fork it. `command`: what would start it; behind its module are those that it imports."""
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.connect(address)
        modules = command[command.index("-m") + 2 :]
        request = {"modules": modules, "environment": env, "folder": os.getcwd(), "name": name_of(os.getpid())}
        socket.send_fds(self._link, [json.dumps(request).encode()], [stdin, 2])
        self.pid = int(self._link.recv(64))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return how it has ended, when it has. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._link.settimeout(timeout)
            try:
                self.returncode = int(self._link.recv(64) or -signal.SIGKILL)
            except TimeoutError:
                raise subprocess.TimeoutExpired("the template", timeout or 0.0) from None
            self._link.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def use_server(pid: int) -> None:
    """Let the pool of this process have its templates forked by the server of a process."""

    def start(command: list[str], **more: Any) -> ForkedTemplate:
        return ForkedTemplate(address_of(pid), command, **more)

    spawning.subprocess = SimpleNamespace(  # type: ignore[assignment, attr-defined]
        Popen=start, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )


def main(owner: int) -> None:
    """Fork templates for the processes of `owner`, and tell how each has ended, until the system ends this process."""
    from dalsegno.expressions.pool import template

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address_of(owner))
    listener.listen(64)
    print("listening", flush=True)
    template.warm_up(["dalsegno.definitions.reading"])
    ends, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    links: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(ends, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if ends in ready:
                os.read(ends, 4096)
                tell_ends(links)
            if listener.fileno() in ready:
                link, _ = listener.accept()
                data, given, _, _ = socket.recv_fds(link, _REQUEST_BYTES, 2)
                pid = os.fork()
                if not pid:
                    for other in (listener, link, *links.values()):
                        other.close()
                    for descriptor in (ends, wakes):
                        os.close(descriptor)
                    become(json.loads(data), given)
                links[pid] = link
                link.send(str(pid).encode())
                for descriptor in given:
                    os.close(descriptor)


def tell_ends(links: dict[int, socket.socket]) -> None:
    """Tell of each template that has ended."""
    with suppress(ChildProcessError):  # none is left
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with links.pop(pid) as link, suppress(OSError):  # its engine has gone
                link.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: dict[str, Any], given: list[int]) -> None:
    """Be the template that was asked for. Never returns."""
    from dalsegno.expressions.pool import template

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for target, source in zip((0, 2), given, strict=True):
            os.dup2(source, target)
            os.close(source)
        template.redirect(1)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.path[:0] = [each for each in os.environ["PYTHONPATH"].split(os.pathsep) if each not in sys.path]
        ctypes.CDLL(None).prctl(_PR_SET_NAME, request["name"].encode())
        template.main(request["modules"])
        code = 0
    finally:
        os._exit(code)


def start_server(root: Path) -> subprocess.Popen[bytes]:
    """Start the server of this process, and return it when it can be asked. It ends with this thread."""
    path = os.pathsep.join(map(str, (root / "services", root)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}  # as the pool sets it
    server = subprocess.Popen(
        tied(sys.executable, "-P", __file__, str(os.getpid())),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n", "the server of templates does not start"
    return server


if __name__ == "__main__":
    main(int(sys.argv[1]))
