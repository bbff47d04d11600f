"""core.local, as StackStorm has it: runs a command on the executor's own machine. Off until the operator turns it on.

The command belongs to the executor's user, in a process group of its own, which is killed as a whole when the time is
up or nobody waits for it any more. What the input says besides `cmd` never comes near a shell.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress

from dalsegno.actions.action import ActionFailed, action
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, checked

KILLED = -9
"""What StackStorm gives for the return code of a command whose time was up."""

_READ_BYTES = 65_536


class _TooMuch(Exception):
    """The command writes more than a result can hold."""


@action("core.local")
async def run(
    cmd: str,
    cwd: str | None = None,
    env: Mapping[str, object] | None = None,
    timeout: float = 60,  # noqa: ASYNC109 (so StackStorm calls it)
    sudo: bool = False,
    sudo_password: str | None = None,
    kwarg_op: str = "--",
) -> dict[str, object]:
    """Runs a command on the executor's machine; gives stdout, stderr, return_code, succeeded, failed. Off by default.

    Output that is JSON is parsed. After `timeout` seconds the command is killed. `sudo` runs it as root, if the
    executor's user may do so. `kwarg_op` is accepted and means nothing for a command, as in StackStorm.
    """
    limit_s = float(timeout)
    process = await _start(cmd, cwd, env, sudo, sudo_password is not None)
    stdout, stderr = bytearray(), bytearray()
    ended = False
    try:
        async with asyncio.timeout(limit_s):
            await _communicate(process, stdout, stderr, sudo_password if sudo else None)
            ended = True
    except TimeoutError:
        told = f"Action failed to complete in {limit_s:g} seconds"
        raise ActionFailed(told, {**_result(KILLED, stdout, stderr), "error": told}) from None
    except _TooMuch:
        raise ActionFailed(f"result too large: the command writes more than {VALUE_BYTES_MAX:,} bytes") from None
    finally:
        if not ended:
            await _kill(process, sudo)
    code = process.returncode or 0
    result = _result(code, stdout, stderr)
    if code != 0:
        raise ActionFailed(f"the command ended with exit code {code}", result)
    return result


async def _start(
    cmd: str, cwd: str | None, env: Mapping[str, object] | None, sudo: bool, has_password: bool
) -> asyncio.subprocess.Process:
    shell = shutil.which("bash") or "/bin/sh"
    # -S: the password comes by standard input; -n: it is never asked for.
    before = ["sudo", "-E", "-S" if has_password else "-n", "--"] if sudo else []
    own = {name: value for name, value in os.environ.items() if not name.startswith("DALSEGNO_")}
    given = {name: str(value) for name, value in (env or {}).items() if value is not None}
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *before, shell, "-c", cmd,
            cwd=cwd or None,
            env={**own, **given},
            stdin=asyncio.subprocess.PIPE if sudo and has_password else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )  # fmt: skip
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the shell only, and wait until the children have closed the output.
        with suppress(OSError, ValueError):
            await _kill(await starting, sudo)
        raise
    except (OSError, ValueError) as error:  # no such folder, no sudo, a NUL character
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        raise ActionFailed(f"the command cannot be started: {told}{where}") from error


async def _communicate(
    process: asyncio.subprocess.Process, stdout: bytearray, stderr: bytearray, password: str | None
) -> None:
    """Read what the command writes until it and whatever holds its output have ended. Raises _TooMuch."""
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdin is not None and password is not None:
        process.stdin.write(f"{password}\n".encode())
        process.stdin.close()

    async def read(stream: asyncio.StreamReader, into: bytearray) -> None:
        while part := await stream.read(_READ_BYTES):
            into += part
            if len(stdout) + len(stderr) > VALUE_BYTES_MAX:
                raise _TooMuch

    reading = [asyncio.ensure_future(read(process.stdout, stdout)), asyncio.ensure_future(read(process.stderr, stderr))]
    try:
        await asyncio.gather(*reading)
        await process.wait()
    finally:
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _kill(process: asyncio.subprocess.Process, sudo: bool) -> None:
    """The whole group: a shell's children live on otherwise."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        if not sudo:
            raise
        # What root runs only root may kill.
        killer = await asyncio.create_subprocess_exec(
            "sudo", "-n", "kill", "-KILL", "--", f"-{process.pid}",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await killer.wait()
        return
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_READ_BYTES):
            pass  # what it had written still stands in the way of its end
    await process.wait()


def _result(code: int, stdout: bytearray, stderr: bytearray) -> dict[str, object]:
    return {
        "failed": code != 0,
        "succeeded": code == 0,
        "return_code": code,
        "stdout": _read(stdout),
        "stderr": _read(stderr),
    }


def _read(output: bytearray) -> object:
    """The text without the end of its last line; what is JSON, a number too, is parsed, as StackStorm does."""
    text = output.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    text = text.removesuffix("\n").removesuffix("\r")
    try:
        return checked(text).data
    except UnfitValue:
        return text
