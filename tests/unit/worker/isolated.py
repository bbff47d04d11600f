"""Actions that run in processes of their own, which load this module."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from tests.tied import tied

from dalsegno.worker import DELEGATED, ActionContext, ActionFailed, Delegated, action


@action("isolated.pid", isolation="process")
def tell_pid(context: ActionContext) -> dict[str, object]:
    """Returns where it runs."""
    context.report("running", 0.5)
    return {"pid": os.getpid(), "attempt": context.attempt, "parent": os.getppid()}


@action("isolated.double", isolation="process")
async def double(number: int) -> int:
    """Returns the double, as a coroutine."""
    return 2 * number


@action("isolated.sleep", isolation="process")
def sleep(path: str) -> None:
    """Writes its process and that of a program that it starts, and sleeps without looking at anything."""
    started = subprocess.Popen(tied("bash", "-c", "trap '' TERM; while :; do sleep 1; done"))
    with open(f"{path}.new", "w") as file:
        file.write(f"{os.getpid()} {started.pid}")
    os.rename(f"{path}.new", path)
    time.sleep(60)


@action("isolated.end", isolation="process")
def end(how: str) -> object:
    """Ends in some way."""
    if how == "raise":
        raise ActionFailed("out of paper", {"tray": 2})
    if how == "exit":
        os._exit(3)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "large":
        return "x" * 5_000_000
    if how == "set":
        return {1}
    if how == "thread":
        return exit(4)
    return DELEGATED if how == "delegate" else Delegated("order-17")
