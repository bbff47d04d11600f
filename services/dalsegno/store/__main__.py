"""The store's tools: python -m dalsegno.store upgrade|check|doctor|backup."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dalsegno.store.inspection import check, diagnose
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import DATABASE_URL, StoreOutdated, StoreUnreachable, open_store


def main(arguments: list[str] | None = None) -> int:
    """Run one tool. 0: done and nothing wrong; 1: something is wrong; 2: it could not run."""
    options = _parser().parse_args(arguments)
    try:
        store = open_store(options.database)
    except (ValueError, StoreUnreachable) as error:
        print(error, file=sys.stderr)
        return 2
    if not isinstance(store, SqlStore):
        print("a store in memory is gone when its process is: there is nothing to look at", file=sys.stderr)
        return 2
    tool: Callable[[SqlStore, argparse.Namespace], int] = options.tool
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
    tools.add_parser("upgrade", help="bring the tables to this version").set_defaults(tool=_upgrade)
    tools.add_parser("check", help="prove that every journal gives exactly the rows").set_defaults(tool=_check)
    tools.add_parser("doctor", help="say what wants attention").set_defaults(tool=_doctor)
    backup = tools.add_parser("backup", help="copy a SQLite store while it is used (PostgreSQL: use pg_dump)")
    backup.add_argument("file", type=Path, help="the copy; must not exist")
    backup.set_defaults(tool=_backup)
    return parser


def _upgrade(store: SqlStore, _: argparse.Namespace) -> int:
    store.upgrade()
    print("the tables are those of this version")
    return 0


def _check(store: SqlStore, _: argparse.Namespace) -> int:
    store.check_version()
    count = 0
    for finding in check(store):
        count += 1
        print(finding)
    print(f"{count} differences" if count else "every journal gives exactly the rows")
    return 1 if count else 0


def _doctor(store: SqlStore, _: argparse.Namespace) -> int:
    with store.inspect() as connection:
        findings = list(diagnose(connection, time.time()))
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
