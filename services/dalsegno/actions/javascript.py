"""The JavaScript family: std.javascript, and std.js which is the same. Off until the operator allows it.

A script runs in a separate process (javascript_process.py), so that an endless loop or too much memory does not affect
other actions. Its only input is `$`, and its only output is its return value.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

from dalsegno.actions.action import ActionFailed, action
from dalsegno.workflow.value import UnfitValue, decode, encode

TIME_LIMIT_S = 10.0
MEMORY_BYTES = 128 * 1024 * 1024
"""The memory limit of a script's objects."""

MODULE = "dalsegno.actions.javascript_process"
START_S = 20.0
"""The time for the start of the process, beside the script's own time."""


@action("std.javascript", typed=False)
async def run(script: str, context: object = None) -> object:
    """Run the body of a JavaScript function whose `$` is the context; return its result. Off by default.

    At most 10 s and 128 MiB.
    """
    limits = {"time_limit_s": TIME_LIMIT_S, "memory_bytes": MEMORY_BYTES}
    answer = await _ask(encode({"script": script, "context": context, **limits}))
    if "error" in answer:
        raise ActionFailed(f"JavaScriptAction failed: {answer['error']}")
    result = answer.get("result")
    try:
        return decode(result) if isinstance(result, str) else None
    except UnfitValue as error:
        raise ActionFailed(f"JavaScriptAction failed: the result is {error}") from None


@action("std.js", typed=False)
async def run_by_short_name(script: str, context: object = None) -> object:
    """Do the same as std.javascript. Off by default."""
    return await run(script, context)


async def _ask(question: str) -> dict[str, object]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": ":".join(each for each in sys.path if each)},
    )
    try:
        async with asyncio.timeout(START_S + TIME_LIMIT_S):
            written, _ = await process.communicate(question.encode())
    except TimeoutError:
        raise ActionFailed(f"JavaScriptAction failed: stopped after {TIME_LIMIT_S:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    try:
        answer = decode(written.decode())
    except UnfitValue:
        answer = None
    if not isinstance(answer, dict):
        raise ActionFailed(f"JavaScriptAction failed: {_cause_of_death(process.returncode)}")
    return answer


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}: too much memory"
    return f"its process ended with exit code {code}"
