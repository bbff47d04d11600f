"""The store's tools: python -m dalsegno.store upgrade|check|doctor|backup."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dalsegno.rpc.options import warning_of
from dalsegno.store.inspection import check, diagnose
from dalsegno.store.opening import DATABASE_URL, open_store
from dalsegno.store.sql import SqlStore, file_path
from dalsegno.store.store import StoreOutdated, StoreUnreachable

NEWER = "the tables are of a later version, and this one can use them: nothing is changed"

Tool = Callable[[SqlStore, argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """Run one tool. Return 0: done and nothing wrong; 1: something is wrong; 2: it could not run."""
    options = _parser().parse_args(arguments)
    if warning := warning_of(options.database or ""):
        print(warning, file=sys.stderr)
    try:
        if options.tool is not _upgrade:
            _refuse_missing_file(options.database)
        store = open_store(options.database, read_only=options.tool is not _upgrade)
    except (ValueError, StoreUnreachable) as error:
        print(error, file=sys.stderr)
        return 2
    if not isinstance(store, SqlStore):
        print("a store in memory exists only within its process: there is nothing to read", file=sys.stderr)
        return 2
    tool: Tool = options.tool
    try:
        return tool(store, options)
    except (StoreOutdated, StoreUnreachable, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dalsegno.store", description="Tools for the store.")
    parser.add_argument("--database", help=f"its URL; without it, {DATABASE_URL} from the environment")
    tools = parser.add_subparsers(required=True, metavar="upgrade|check|doctor|backup")
    _add_tool(tools, "upgrade", _upgrade, "upgrade the tables to this version")
    _add_tool(tools, "check", _check, "check that every journal replays to exactly the rows")
    _add_tool(tools, "doctor", _doctor, "report what needs attention")
    backup = _add_tool(tools, "backup", _backup, "copy a SQLite store while it is used (PostgreSQL: use pg_dump)")
    backup.add_argument("file", type=Path, help="the copy; must not exist")
    return parser


def _add_tool(
    tools: argparse._SubParsersAction[argparse.ArgumentParser], name: str, tool: Tool, description: str
) -> argparse.ArgumentParser:
    parser = tools.add_parser(name, help=description, description=description)
    # Accepted after the tool's name too, where most people write it. Without a default, which would override the one
    # before.
    parser.add_argument("--database", default=argparse.SUPPRESS, help="its URL, as before the tool's name")
    parser.set_defaults(tool=tool)
    return parser


def _refuse_missing_file(url: str | None) -> None:
    """Refuse a SQLite file that does not exist: its name is mistyped, and SQLite would create an empty one."""
    url = url or os.environ.get(DATABASE_URL, "")
    if url.startswith("sqlite:") and not file_path(url).exists():
        raise ValueError(f"{file_path(url)} does not exist: check the path; `upgrade` creates a new store")


def _upgrade(store: SqlStore, _: argparse.Namespace) -> int:
    print("the tables are those of this version" if store.upgrade() else NEWER)
    return 0


def _check(store: SqlStore, _: argparse.Namespace) -> int:
    store.check_version()
    count = 0
    for finding in check(store):
        count += 1
        print(finding)
    print(f"{count} differences" if count else "every journal replays to exactly the rows")
    return 1 if count else 0


def _doctor(store: SqlStore, _: argparse.Namespace) -> int:
    with store.inspect() as connection:
        findings = list(diagnose(connection))
    print("\n".join(findings))
    return 1 if any(finding.startswith("!") for finding in findings) else 0


def _backup(store: SqlStore, options: argparse.Namespace) -> int:
    if options.file.exists():
        raise ValueError(f"{options.file} exists already")
    store.backup(options.file)
    print(f"copied to {options.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
