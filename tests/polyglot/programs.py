"""Programs in other languages: what they need is installed once, and they run in this folder."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.tied import tied

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROTOS = ROOT / "protos"
PYTHON = sys.executable
MODULES = ROOT / ".venv" / "polyglot"
"""Where npm installs what package.json names."""


async def install() -> None:
    """Install what package.json names, unless it is there."""
    wanted, stamp = (HERE / "package.json").read_text(), MODULES / "package.json"
    if stamp.exists() and stamp.read_text() == wanted and (MODULES / "node_modules").exists():
        return
    MODULES.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
    code, _, errors = await finish(await start("npm", "install", *options, folder=MODULES))
    if code:
        stamp.unlink()
    assert code == 0, errors


async def start(program: str, *arguments: str, folder: Path = HERE) -> asyncio.subprocess.Process:
    """Start a program that finds the protos, what npm installed, and our stubs."""
    environment = {
        **os.environ,
        "NODE_PATH": str(MODULES / "node_modules"),
        "DALSEGNO_PROTOS": str(PROTOS),
        "PYTHONPATH": str(ROOT / "services"),
    }
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *tied(program, *arguments), cwd=folder, env=environment, stdout=pipe, stderr=pipe
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """The exit code, and what it has written."""
    async with asyncio.timeout(120):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()
