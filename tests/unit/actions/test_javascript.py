"""std.javascript and std.js run scripts within limits."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dalsegno.actions import javascript
from dalsegno.actions.action import ActionFailed


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("return $.bars + 1", 18),
        ("var total = 50 * 10; return total // no semicolon", 500),
        (
            "return {title: $['title'].toUpperCase(), none: null, list: [1, 2.5, true]}",
            {"title": "SEGNO", "none": None, "list": [1, 2.5, True]},
        ),
        ("const double = n => n * 2; return [1, 2].map(double)", [2, 4]),
        ("$.bars += 1", None),
        ("return typeof require + typeof fetch + typeof process", "undefined" * 3),
    ],
)
async def test_a_script_is_the_body_of_a_function(script: str, expected: object) -> None:
    """A script sees the context as `$` and nothing of the machine; its return value is the result."""
    assert await javascript.run(script, {"bars": 17, "title": "segno"}) == expected


async def test_the_short_name_is_the_same() -> None:
    """std.js is std.javascript; without a context `$` is null."""
    assert await javascript.run_by_short_name("return $ === null") is True


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("throw new Error('out of tune')", "JavaScriptAction failed: Error: out of tune"),
        ("return 1 +", "SyntaxError"),
        ("return nothing.at.all", "ReferenceError: nothing is not defined"),
        ("return 10n", "BigInt"),
    ],
)
async def test_a_script_that_fails_says_why(script: str, told: str) -> None:
    """The error has the text of the JavaScript engine, without its trace."""
    with pytest.raises(ActionFailed, match=told) as caught:
        await javascript.run(script)
    assert "\n" not in str(caught.value)


async def test_a_loop_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script is stopped after its time limit."""
    monkeypatch.setattr(javascript, "TIME_LIMIT_S", 0.5)
    began = time.monotonic()
    with pytest.raises(ActionFailed, match=r"stopped after 0\.5 s"):
        await javascript.run("while (true) {}")
    assert time.monotonic() - began < 19  # the process is ended after 20.5 s if its engine does not stop


async def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the JavaScript engine does not stop, its process is killed."""
    (tmp_path / "deaf_engine.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(javascript, "MODULE", "deaf_engine")
    monkeypatch.setattr(javascript, "TIME_LIMIT_S", 0.2)
    monkeypatch.setattr(javascript, "START_S", 0.2)
    with pytest.raises(ActionFailed, match=r"stopped after 0\.2 s"):
        await javascript.run("return 1")


@pytest.mark.parametrize(
    "script",
    [
        "const all = []; while (true) all.push(new Array(100000).fill(1))",
        "const all = []; while (true) all.push(new Uint8Array(50000000).fill(1))",
        "let text = 'x'; while (true) text += text",
    ],
)
async def test_memory_has_a_limit(script: str) -> None:
    """A script that takes too much memory, in the heap or outside of it, fails, and the executor continues."""
    with pytest.raises(ActionFailed, match="JavaScriptAction failed"):
        await javascript.run(script)
    assert await javascript.run("return 1") == 1


async def test_a_cancelled_script_leaves_no_process() -> None:
    """The cancel of an action does not wait for its script."""
    began = time.monotonic()
    running = asyncio.create_task(javascript.run("while (true) {}"))
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 9  # the script's own limit is 10 s
    assert not [each for each in _command_lines() if b"javascript_process" in each]


def _command_lines() -> list[bytes]:
    """Return the command lines of the children of this process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _parent_of(folder) == str(os.getpid()):
            with suppress(OSError):  # it has ended meanwhile
                found.append((folder / "cmdline").read_bytes())
    return found


def _parent_of(folder: Path) -> str:
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith("PPid:")), "")


async def test_without_the_extra_the_failure_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the failure says what to install."""
    (tmp_path / "py_mini_racer.py").write_text("raise ImportError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ActionFailed, match=r"install dalsegno\[javascript\]"):
        await javascript.run("return 1")
