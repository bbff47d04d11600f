"""`python -m dalsegno.executor_check`: check an executor; `dalsegno executor-check` runs it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.checks import CHECKS
from dalsegno.executor_check.child import Child
from dalsegno.executor_check.engine import CannotListen, Engine
from dalsegno.executor_check.player import Played, Verdict, play_all
from dalsegno.executor_check.report import tell_check, tell_end, tell_list, write_junit
from dalsegno.executor_check.scene import ROLES, NobodyConnects, Scene

PASSED, FAILED, USAGE, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 130
"""The exit codes. UNUSABLE: the check could not be made."""

_DESCRIPTION = """Play the engine for an executor, and compare what it does with the contract.

The executor connects to the address of --listen, and serves check.echo, check.sleep and check.fail, perhaps also
check.delegate, check.big and check.progress: the page of the package says what each does. With its command after `--`
the check starts it, stops it by SIGTERM, and starts it again; else start it yourself."""

_EXIT_CODES = """exit code 0: no check failed; 1: at least one failed; 2: the command line is wrong;
3: the check could not be made

example:  dalsegno executor-check --listen 127.0.0.1:7799 -- node executor.js 127.0.0.1:7799"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one run."""

    listen: str
    second: str
    checks: tuple[Check, ...]
    names: dict[str, str]
    junit: Path | None
    command: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an executor. Return the exit code."""
    parser = _make_parser()
    given = parser.parse_args(arguments)
    if given.list:
        print(tell_list(CHECKS))
        return PASSED
    settings = Settings(
        listen=given.listen,
        second=given.second,
        checks=_choose(parser, given.only or []),
        names=_read_names(parser, given.action or []),
        junit=given.junit,
        command=tuple(given.command[given.command[:1] == ["--"] :]),
    )
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_run(settings))
    return INTERRUPTED


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dalsegno executor-check",
        usage="%(prog)s [OPTIONS] [-- COMMAND...]",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--listen", metavar="HOST:PORT", default="127.0.0.1:7701", help="the engine's address (%(default)s)")
    add("--second", metavar="HOST:PORT", default="", help="a second engine's address, for executors that know two")
    add("--only", metavar="NAME", action="append", help="play only this check; repeatable")
    add("--action", metavar="ROLE=NAME", action="append", help="the action that echoes, sleeps ...; repeatable")
    add("--junit", metavar="FILE", type=Path, help="write the report as JUnit XML, too")
    add("--list", action="store_true", help="print the checks and their rules")
    add("command", nargs=argparse.REMAINDER, help="the command of the executor; without it, start it yourself")
    return parser


def _choose(parser: argparse.ArgumentParser, names: Sequence[str]) -> tuple[Check, ...]:
    known = [check.name for check in CHECKS]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            parser.error(f"--only {name}: no such check{f'; is it {near[0]}?' if near else ''} (--list prints them)")
    return tuple(check for check in CHECKS if not names or check.name in names)


def _read_names(parser: argparse.ArgumentParser, given: Sequence[str]) -> dict[str, str]:
    names = dict(each.partition("=")[::2] for each in given)
    for role, name in names.items():
        if role not in ROLES or not name:
            parser.error(f"--action {role}={name}: give ROLE=NAME, where ROLE is one of {', '.join(ROLES)}")
    return names


async def _run(settings: Settings) -> int:
    """Play the checks, print the report as it grows, and return the exit code."""
    main_task = asyncio.current_task()
    assert main_task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main_task.cancel)
    engine = Engine(settings.listen)
    second = Engine(settings.second) if settings.second else None
    child = Child(settings.command)
    played: list[Played] = []
    try:
        await engine.start()
        if not child.is_given:
            print(f"listening on {engine.address}: start the executor", flush=True)
        async for each in play_all(settings.checks, Scene(engine, second, child, settings.names)):
            played.append(each)
            print(tell_check(each), flush=True)
    except (CannotListen, NobodyConnects, OSError) as error:
        print(f"the check cannot be made: {error}", file=sys.stderr)
        return UNUSABLE
    finally:
        await child.close()
        await engine.stop()
    print(tell_end(played))
    if settings.junit is not None:
        write_junit(played, settings.junit)
    return FAILED if any(each.verdict is Verdict.FAILED for each in played) else PASSED


if __name__ == "__main__":
    sys.exit(main())
