"""core.local, as in StackStorm: run a command on the executor's machine. Off until the operator allows it.

The command runs as the executor's user, in a process group of its own, which is killed at the timeout or when the
action is cancelled. A shell receives only `cmd`, and no other input.
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
"""StackStorm's return code of a command that timed out."""

_READ_BYTES = 65_536


class _TooMuch(Exception):
    """The command writes more than the maximum size of a result."""


@action("core.local", typed=False)
async def run(
    cmd: str,
    cwd: str | None = None,
    env: Mapping[str, object] | None = None,
    timeout: float = 60,  # noqa: ASYNC109 (so StackStorm calls it)
    sudo: bool = False,
    sudo_password: str | None = None,
    kwarg_op: str = "--",
) -> dict[str, object]:
    """Run a command on the executor's machine; return stdout, stderr, return_code, succeeded, failed. Off by default.

    Output that is JSON is parsed. After `timeout` seconds the command is killed. `sudo` runs it as root, if the
    executor's user may do so. `kwarg_op` has no effect on a command, as in StackStorm.
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
    # -S: read the password from standard input; -n: do not ask for it.
    before = ["sudo", "-E", "-S" if has_password else "-n", "--"] if sudo else []
    own = {name: value for name, value in os.environ.items() if not name.startswith("DALSEGNO_")}
    given = {name: str(value) for name, value in (env or {}).items() if value is not None}
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *before,
            shell,
            "-c",
            cmd,
            cwd=cwd or None,
            env={**own, **given},
            stdin=asyncio.subprocess.PIPE if sudo and has_password else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill only the shell, and wait until its children have closed the output.
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
    """Read the output until the command and all processes with its output have ended. Raises _TooMuch."""
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
    """Kill the whole group, with a shell's children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        if not sudo:
            raise
        # Only root can kill processes of root.
        killer = await asyncio.create_subprocess_exec(
            "sudo",
            "-n",
            "kill",
            "-KILL",
            "--",
            f"-{process.pid}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await killer.wait()
        return
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_READ_BYTES):
            pass  # its unread output still blocks its end
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
    """Return the text without its last line end; JSON, also a number, is parsed, as in StackStorm."""
    text = output.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    text = text.removesuffix("\n").removesuffix("\r")
    try:
        return checked(text).data
    except UnfitValue:
        return text
