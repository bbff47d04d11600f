"""core.local runs commands as StackStorm does, and lets none outlive its time."""

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
    """How the command fails, and what comes with it."""
    with pytest.raises(ActionFailed) as failure:
        await local.run.function(cmd, **given)
    assert failure.value.result is None or isinstance(failure.value.result, dict)
    return str(failure.value), failure.value.result or {}


def is_running(pid: int) -> bool:
    """Whether the process is there, and is not only waiting to be buried."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def comes_true(holds: Callable[[], bool]) -> bool:
    """Whether it holds within some seconds."""
    for _ in range(500):
        if holds():
            return True
        await asyncio.sleep(0.01)
    return False


async def gone(pid: int) -> bool:
    """Whether the process ends soon."""
    return await comes_true(lambda: not is_running(pid))


async def test_a_command_that_is_well() -> None:
    """Both outputs without the end of the last line."""
    assert await local.run.function("echo 'da capo'; echo; echo low >&2") == {
        "failed": False,
        "succeeded": True,
        "return_code": 0,
        "stdout": "da capo\n",
        "stderr": "low",
    }


async def test_a_command_that_fails() -> None:
    """The same as the failure's result, with the code."""
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
    """Numbers too, as in StackStorm; what no value can hold stays text."""
    result = await local.run.function('printf %s "$WRITTEN"', env={"WRITTEN": written})
    assert result["stdout"] == stdout


async def test_bytes_that_are_no_text() -> None:
    """They are replaced: a result is always one that can be kept."""
    result = await local.run.function(r"printf 'a\000\377b'")
    assert result["stdout"] == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"


async def test_env_and_cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On top of the executor's own environment, less what is Dal Segno's."""
    monkeypatch.setenv("DALSEGNO_EXECUTOR_ID", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    result = await local.run.function(
        'echo "$PWD $COUNT $INHERITED $DALSEGNO_EXECUTOR_ID."', cwd=str(tmp_path), env={"COUNT": 3, "NONE": None}
    )
    assert result["stdout"] == f"{tmp_path} 3 yes ."


@pytest.mark.parametrize("given", [{"cwd": "/no/such/folder"}, {"env": {"A": "a\0b"}}])
async def test_what_cannot_be_started_fails(given: dict[str, Any]) -> None:
    """As a message, without a result."""
    message, result = await failure_of("echo", **given)
    assert message.startswith("the command cannot be started")
    assert result == {}


async def test_a_command_ends_with_its_time(tmp_path: Path) -> None:
    """It and its children are killed; what was written until then is there."""
    pids = tmp_path / "pids"
    message, result = await failure_of(f"sleep 60 & echo $! $$ > {pids}; echo begun; wait", timeout=0.5)

    assert message == "Action failed to complete in 0.5 seconds"
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
    """Cancelled by its deadline or by CancelAction, it dies with all its children."""
    pids = tmp_path / "pids"
    running = asyncio.ensure_future(local.run.function(f"sleep 60 & echo $! $$ > {pids}; wait"))
    assert await comes_true(lambda: pids.exists() and len(pids.read_text().split()) == 2)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    for pid in pids.read_text().split():
        assert await gone(int(pid))


async def test_a_command_that_writes_without_end(tmp_path: Path) -> None:
    """It is killed before it fills the executor's memory."""
    message, result = await failure_of(f"echo $$ > {tmp_path}/pid; exec cat /dev/zero")

    assert message == f"result too large: the command writes more than {VALUE_BYTES_MAX:,} bytes"
    assert result == {}
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_sudo_is_asked_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is one argument to it, whatever it holds; a password goes by its standard input only."""
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
