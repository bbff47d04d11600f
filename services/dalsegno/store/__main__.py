"""The store's tools: dalsegno store upgrade|check|doctor|backup|token|rekey, or python -m dalsegno.store."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dalsegno.access.bearer import hash_of, id_of, new_token
from dalsegno.access.grants import Grant, Role, write_grants
from dalsegno.rpc.convert import NAME_LENGTH
from dalsegno.rpc.options import warning_of
from dalsegno.secrets.keys import STORE_KEY, read_file, rewrap
from dalsegno.store.inspection import check, diagnose
from dalsegno.store.opening import DATABASE_URL, open_store
from dalsegno.store.sql import SqlStore, file_path
from dalsegno.store.store import StoreOutdated, StoreUnreachable
from dalsegno.store.token_rows import TokenRow

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
        store = open_store(options.database, read_only=options.tool not in (_upgrade, _token, _rekey))
    except (ValueError, StoreUnreachable, OSError) as error:
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
    tools = parser.add_subparsers(required=True, metavar="upgrade|check|doctor|backup|token|rekey")
    _add_tool(tools, "upgrade", _upgrade, "upgrade the tables to this version")
    _add_tool(tools, "check", _check, "check that every journal replays to exactly the rows")
    _add_tool(tools, "doctor", _doctor, "report what needs attention")
    backup = _add_tool(tools, "backup", _backup, "copy a SQLite store while it is used (PostgreSQL: use pg_dump)")
    backup.add_argument("file", type=Path, help="the copy; must not exist")
    token = _add_tool(tools, "token", _token, "make a token directly, when no admin has one; it is printed once")
    token.add_argument("name", help="the caller that it stands for")
    token.add_argument(
        "--grant",
        dest="grants",
        metavar="ROLE[@PATTERN]",
        type=_grant_of,
        action="append",
        help="what it may do; repeatable; default: admin",
    )
    rekey = _add_tool(tools, "rekey", _rekey, "let another key of yours open the secrets of the store")
    rekey.add_argument("file", type=Path, help="the keys, one a line: first the new one, behind it the present one")
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


def _token(store: SqlStore, options: argparse.Namespace) -> int:
    store.check_version()
    if not 1 <= len(options.name) <= NAME_LENGTH:
        raise ValueError(f"the name has {len(options.name)} characters; 1 to {NAME_LENGTH} are allowed")
    token = new_token()
    sha256 = hash_of(token)
    with store.write() as transaction:
        row = TokenRow(
            token_id=id_of(sha256),
            sha256=sha256.hex(),
            name=options.name,
            grants=write_grants(options.grants or [Grant(Role.ADMIN)]),
            created_s=transaction.now_s(),
            expires_s=None,
            revoked_s=None,
            actor=f"dalsegno.store, by {_user()}",
            comment="made directly in the store",
        )
        transaction.add_token(row)
    print(token)
    print("keep it now: it is not shown again", file=sys.stderr)
    print(f"to revoke it: dalsegno token revoke {row.token_id}", file=sys.stderr)
    return 0


def _rekey(store: SqlStore, options: argparse.Namespace) -> int:
    """Encrypt the key of the store with the first key of the file. Engines that run are not disturbed: they have
    the key of the store already."""
    store.check_version()
    own = read_file(options.file)
    with store.write() as transaction:
        wrapped = transaction.queries.setting(STORE_KEY)
        if wrapped is None:
            raise ValueError("this store has no secrets: no engine with --secret-keys has used it")
        transaction.replace_setting(STORE_KEY, rewrap(own, wrapped))
    print("the first key of the file opens the secrets now: the others may be removed from it")
    return 0


def _grant_of(text: str) -> Grant:
    try:
        return Grant.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"


if __name__ == "__main__":
    sys.exit(main())
