"""core.local runs commands as StackStorm does, and ends each with its time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalsegno.actions import local
from dalsegno.actions.action import ActionFailed
from dalsegno.workflow.value import VALUE_BYTES_MAX


async def failure_of(cmd: str, **given: Any) -> tuple[str, dict[str, Any]]:
    """Return how the command fails, and its result."""
    with pytest.raises(ActionFailed) as failure:
        await local.run.function(cmd, **given)
    assert failure.value.result is None or isinstance(failure.value.result, dict)
    return str(failure.value), failure.value.result or {}


def is_running(pid: int) -> bool:
    """Return whether the process runs and is not a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def comes_true(holds: Callable[[], bool]) -> bool:
    """Return whether a condition holds within some seconds."""
    for _ in range(2_000):
        if holds():
            return True
        await asyncio.sleep(0.01)
    return False


async def gone(pid: int) -> bool:
    """Return whether the process ends soon."""
    return await comes_true(lambda: not is_running(pid))


async def test_a_command_that_is_well() -> None:
    """The result has both outputs without the last line break."""
    assert await local.run.function("echo 'da capo'; echo; echo low >&2") == {
        "failed": False,
        "succeeded": True,
        "return_code": 0,
        "stdout": "da capo\n",
        "stderr": "low",
    }


async def test_a_command_that_fails() -> None:
    """The failure has the same result, with the exit code."""
    message, result = await failure_of("echo out; echo err >&2; exit 3")

    assert message == "the command ended with exit code 3"
    assert result == {"failed": True, "succeeded": False, "return_code": 3, "stdout": "out", "stderr": "err"}


@pytest.mark.parametrize(
    ("written", "stdout"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("[1]\n", [1]),
        ("17", 17),
        ("true", True),
        ('"quoted"', "quoted"),
        ("", ""),
        ("17 bars", "17 bars"),
        ("NaN", "NaN"),
        ('"\\u0000"', '"\\u0000"'),
        ("{'a': 1}", "{'a': 1}"),
    ],
)
async def test_output_that_is_json_is_parsed(written: str, stdout: object) -> None:
    """Output that is JSON is parsed, also a number, as in StackStorm; a value beyond the limits stays text."""
    result = await local.run.function('printf %s "$WRITTEN"', env={"WRITTEN": written})
    assert result["stdout"] == stdout


async def test_bytes_that_are_no_text() -> None:
    """Bytes that are no text are replaced, so that each result can be stored."""
    result = await local.run.function(r"printf 'a\000\377b'")
    assert result["stdout"] == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"


async def test_env_and_cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets its variables and those of the executor, without those of Dal Segno."""
    monkeypatch.setenv("DALSEGNO_EXECUTOR_ID", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    result = await local.run.function(
        'echo "$PWD $COUNT $INHERITED $DALSEGNO_EXECUTOR_ID."', cwd=str(tmp_path), env={"COUNT": 3, "NONE": None}
    )
    assert result["stdout"] == f"{tmp_path} 3 yes ."


@pytest.mark.parametrize("given", [{"cwd": "/no/such/folder"}, {"env": {"A": "a\0b"}}])
async def test_what_cannot_be_started_fails(given: dict[str, Any]) -> None:
    """A command that does not start fails with a message and no result."""
    message, result = await failure_of("echo", **given)
    assert message.startswith("the command cannot be started")
    assert result == {}


async def test_a_command_ends_with_its_time(tmp_path: Path) -> None:
    """The command and its children are killed at the limit; the result has the output until then."""
    pids = tmp_path / "pids"
    for limit_s in (0.5, 20):  # a busy machine may not even have begun after the first
        message, result = await failure_of(f"sleep 60 & echo $! $$ > {pids}; echo begun; wait", timeout=limit_s)
        assert message == f"Action failed to complete in {limit_s} seconds"
        if result["stdout"]:
            break
    assert result == {
        "failed": True,
        "succeeded": False,
        "return_code": -9,
        "stdout": "begun",
        "stderr": "",
        "error": message,
    }
    for pid in pids.read_text().split():
        assert await gone(int(pid))


async def test_a_command_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    """A command that is cancelled is killed with all its children."""
    pids = tmp_path / "pids"
    running = asyncio.ensure_future(local.run.function(f"sleep 60 & echo $! $$ > {pids}; wait"))
    assert await comes_true(lambda: pids.exists() and len(pids.read_text().split()) == 2)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    for pid in pids.read_text().split():
        assert await gone(int(pid))


async def test_a_command_that_writes_without_end(tmp_path: Path) -> None:
    """A command that writes too much is killed before it fills the memory of the executor."""
    message, result = await failure_of(f"echo $$ > {tmp_path}/pid; exec cat /dev/zero")

    assert message == f"result too large: the command writes more than {VALUE_BYTES_MAX:,} bytes"
    assert result == {}
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_sudo_is_asked_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo gets the command as one argument, and a password by standard input only."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nif [ "$2" = -S ]; then read -r given; echo "$given" >&2; fi\n')
    sudo.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    result = await local.run.function("id; echo 'a b'", sudo=True)
    assert isinstance(result["stdout"], str)
    assert result["stdout"].startswith("<-E><-n><-->")
    assert result["stdout"].endswith("<-c><id; echo 'a b'>")
    result = await local.run.function("id", sudo=True, sudo_password="open sesame")
    assert result["stderr"] == "open sesame"
    assert "open sesame" not in str(result["stdout"])
