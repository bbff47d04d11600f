"""The executor of the chaos: what each run of an action does is in a log of its own, on the disk, before and after it.

The log is what the checker believes: it is written by the action itself, whatever engine and store make of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path

from dalsegno.rpc import logs
from dalsegno.worker import DELEGATED, ActionCancelled, ActionContext, ActionFailed, Delegated, Worker, action


class SideLog:
    """A file of JSON lines, each on the disk when `write` returns."""

    def __init__(self) -> None:
        self._file = -1

    def open(self, path: Path) -> None:
        """Append to this file. What a killed process has left of its last line is closed."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")

    def write(self, context: ActionContext, what: str, **more: object) -> None:
        """Write a line about a run."""
        line = {
            "what": what,
            "attempt": context.action_execution_id,
            "delivery": context.delivery,
            "task": context.task_name,
            "process": os.getpid(),
            "at_s": round(time.monotonic(), 3),
            **more,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)


LOG = SideLog()


def _do(context: ActionContext, name: str, value: int, delay: float, *, is_safe: bool) -> int:
    LOG.write(context, "begin", action=name, safe=is_safe)
    if _waited(context.cancelled, delay):
        LOG.write(context, "end", outcome="cancelled")
        raise ActionCancelled
    LOG.write(context, "end", outcome="succeeded", value=value)
    return value


def _waited(cancelled: threading.Event, delay_s: float) -> bool:
    return cancelled.wait(delay_s) if delay_s else cancelled.is_set()


@action("chaos.safe", safe_to_rerun=True)
def safe(context: ActionContext, value: int = 0, delay: float = 0) -> int:
    """Returns the value; it may run again when its executor is lost."""
    return _do(context, "chaos.safe", value, delay, is_safe=True)


@action("chaos.unsafe")
def unsafe(context: ActionContext, value: int = 0, delay: float = 0) -> int:
    """Returns the value; it must not run twice."""
    return _do(context, "chaos.unsafe", value, delay, is_safe=False)


@action("chaos.flaky", safe_to_rerun=True)
def flaky(context: ActionContext, value: int = 0, fails: int = 1) -> int:
    """Fails in the first attempts, then returns the value."""
    if context.attempt > fails:
        return _do(context, "chaos.flaky", value, 0, is_safe=True)
    LOG.write(context, "begin", action="chaos.flaky", safe=True)
    LOG.write(context, "end", outcome="failed")
    raise ActionFailed("out of order")


@action("chaos.ask")
def ask(context: ActionContext, value: int = 0, alias: bool = False) -> object:
    """Is completed with the value by a third party, which reads how in the log."""
    name = context.action_execution_id if alias else ""
    told = {"token": context.task_token, "url": context.callback_url, "alias": name, "value": value}
    LOG.write(context, "begin", action="chaos.ask", safe=False, **told)
    LOG.write(context, "end", outcome="delegated")
    return Delegated(alias=name) if alias else DELEGATED


@action("chaos.undo", safe_to_rerun=True)
def undo(context: ActionContext, value: int = 0) -> int:
    """Undoes what a task did."""
    return _do(context, "chaos.undo", value, 0, is_safe=True)


def main() -> int:
    """Run the worker; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen")
    parser.add_argument("--engine", action="append")
    parser.add_argument("--id")
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    LOG.open(given.log)
    worker = Worker(safe, unsafe, flaky, ask, undo, engine=given.engine, id=given.id, slots=24, threads=24, grace_s=2)
    logs.set_up("worker")
    return int(asyncio.run(worker.serve()))  # not `run`, which is for programs: this one is forked


if __name__ == "__main__":
    sys.exit(main())
