"""An executor in Python, with our SDK: python executor.py ENGINE... It serves the actions of `dalsegno executor-check`.

The standard executor serves the same actions as those of an installed package (test_executor_check.py).
"""

from __future__ import annotations

import asyncio
import sys

from dalsegno.worker import ActionContext, ActionFailed, Delegated, Worker, action


@action("check.echo", safe_to_rerun=True)
async def echo(output: object) -> object:
    """Return what it is given."""
    return output


@action("check.sleep", safe_to_rerun=True)
async def sleep(seconds: float) -> None:
    """Take some time."""
    await asyncio.sleep(seconds)


@action("check.fail")
async def fail(message: str) -> None:
    """Fail."""
    raise ActionFailed(message)


@action("check.delegate")
async def delegate(alias: str) -> Delegated:
    """Leave the rest to a third party."""
    return Delegated(alias)


@action("check.big")
async def big(size: int) -> str:
    """Return a text of this size."""
    return "x" * size


@action("check.progress")
async def progress(text: str, fraction: float, seconds: float, context: ActionContext) -> None:
    """Report progress, then take some time."""
    context.report(text, fraction)
    await asyncio.sleep(seconds)


if __name__ == "__main__":
    engines = sys.argv[1:]
    actions = (echo, sleep, fail, delegate, big, progress)
    sys.exit(Worker(*actions, engine=engines, id="polyglot-python", slots=8, grace_s=3).run())
