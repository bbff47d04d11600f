"""`dalsegno executor-check` finds nothing in our executor, in one of our SDK, nor in those of the other languages."""

from __future__ import annotations

import asyncio
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.polyglot.programs import HERE, LANGUAGES, PYTHON, find_missing, finish, prepare, start
from tests.ports import free_address

from dalsegno.executor_check.checks import CHECKS

pytestmark = [pytest.mark.xdist_group("polyglot"), pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of the check has found."""

    code: int
    text: str
    verdicts: Mapping[str, str]
    """By name of the check: passed, failure or skipped."""


async def check(name: str, folder: Path) -> Report:
    """Run the check on one executor, as a user does."""
    listen, second, junit = free_address(), free_address(), folder / "report.xml"
    command = ("-m", "dalsegno.cli.main", "executor-check", "--listen", listen, "--second", second)
    process = await start(
        PYTHON, *command, "--junit", str(junit), "--", *command_of(name, (listen, second), folder), folder=HERE
    )
    code, text, errors = await finish(process)
    assert junit.exists(), text + errors
    cases = ElementTree.parse(junit).getroot().iter("testcase")
    return Report(code, text, {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases})


def command_of(name: str, engines: tuple[str, str], folder: Path) -> tuple[str, ...]:
    """The command that starts an executor for these engines."""
    if name == "sdk":
        return (PYTHON, "executor.py", *engines)
    if name != "standard":
        return (*next(language for language in LANGUAGES if language.name == name).executor, *engines)
    options = ("--id", "standard", "--slots", "8", "--grace-s", "3")
    at = (word for engine in engines for word in ("--engine", engine))
    return ("env", f"PYTHONPATH={install_actions(folder)}", PYTHON, "-m", "dalsegno.executor", *at, *options)


def install_actions(folder: Path) -> Path:
    """Return a folder with an installed package that has the actions of executor.py."""
    package = folder / "packages"
    information = package / "check_actions-1.0.dist-info"
    information.mkdir(parents=True)
    shutil.copy(HERE / "executor.py", package / "check_actions.py")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: check-actions\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[dalsegno.actions]\ncheck = check_actions\n")
    return package


async def test_executors_pass_all_checks(tmp_path: Path) -> None:
    """In each that this machine can run none fails, and none is left out; but our SDK has no actions that pause. All
    are checked at once: most checks wait."""
    names = ["standard", "sdk"]
    for language in LANGUAGES:
        if not find_missing(language):
            await prepare(language)
            names.append(language.name)
    for name in names:
        (tmp_path / name).mkdir()

    reports = await asyncio.gather(*(check(name, tmp_path / name) for name in names))

    passed = dict.fromkeys((each.name for each in CHECKS), "passed")
    without_pause = {**passed, **dict.fromkeys((each for each in passed if each.startswith("paused-")), "skipped")}
    for name, report in zip(names, reports, strict=True):
        wanted = without_pause if name in ("standard", "sdk") else passed
        assert report.verdicts == wanted, f"{name}:\n{report.text}"
        assert report.code == 0
