"""The tools: check finds what does not fit, backup copies, doctor tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from tests.store.scenes import add_task, live_through_everything, save, save_each, start

from dalsegno.access.bearer import hash_of
from dalsegno.store.__main__ import main
from dalsegno.store.inspection import check
from dalsegno.store.records import NewMessage
from dalsegno.store.sql import SqlStore
from dalsegno.workflow.events import PauseRequested, RemovalDue


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, SqlStore]]:
    """A store with two executions, and its URL."""
    url: str = request.getfixturevalue(f"empty_{request.param}")
    store = SqlStore(url)
    store.upgrade()
    save_each(store, live_through_everything("e1"))
    save(store, add_task(start("e2"), 1))
    yield url, store
    store.close()


def _alter(store: SqlStore, statement: str) -> None:
    with store.write() as transaction:
        transaction._connection.execute(sa.text(statement))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            "UPDATE tasks SET state = 'RUNNING' WHERE execution_id = 'e1' AND number = 1",
            "task e1.1: state is 'RUNNING'",
        ),
        ("UPDATE executions SET active_count = 5 WHERE id = 'e2'", "execution e2: active_count is 5"),
        ("UPDATE tasks SET ended_at = 1 WHERE execution_id = 'e1' AND number = 1", "task e1.1: ended_at is 1"),
        ("UPDATE attempts SET accepted = false WHERE execution_id = 'e1' AND task = 2", "attempt e1.2.0.1: accepted"),
        ("DELETE FROM attempts WHERE execution_id = 'e2'", "attempt e2.1.0.1: has no row"),
        ("DELETE FROM tasks WHERE execution_id = 'e2'", "task e2.1: has no row"),
        ("UPDATE tasks SET number = 9 WHERE execution_id = 'e2'", "task e2.9: is not in the journal"),
        ("DELETE FROM journal WHERE execution_id = 'e1' AND first = 1", "gap before change"),
        ("DELETE FROM journal WHERE execution_id = 'e2'", "does not begin with its creation"),
        ("UPDATE executions SET first_sequence = 2 WHERE id = 'e2'", "the journal has a gap before change 1"),
        ("DELETE FROM texts WHERE execution_id = 'e1'", "does not replay: KeyError"),
        ("UPDATE journal SET changes = '[' WHERE execution_id = 'e2'", "does not replay: DecodeError"),
    ],
)
def test_check_finds_planted_damage(database: tuple[str, SqlStore], damage: str, finding: str) -> None:
    """What was altered behind the engine's back is found and named; about a sound store nothing is said."""
    _, store = database
    assert list(check(store)) == []
    _alter(store, damage)
    findings = list(check(store))
    assert any(finding in each for each in findings), findings


def test_check_as_a_command(database: tuple[str, SqlStore], capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 0 on a sound store and with 1 and the differences on another."""
    url, store = database
    assert main(["--database", url, "check"]) == 0
    assert "exactly the rows" in capsys.readouterr().out
    _alter(store, "UPDATE executions SET info = 'other' WHERE id = 'e1'")
    assert main(["--database", url, "check"]) == 1
    assert "execution e1: info is 'other', the journal gives 'join failed'" in capsys.readouterr().out


def test_doctor_says_what_wants_attention(database: tuple[str, SqlStore], capsys: pytest.CaptureFixture[str]) -> None:
    """Overdue messages, messages to nobody and actions that nobody serves are told, with counts."""
    url, store = database
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m1", "nobody", PauseRequested(), 5.0)])
    assert main(["--database", url, "doctor"]) == 1
    told = capsys.readouterr().out
    assert "executions: 2 rows" in told
    assert "! 1 messages are overdue" in told
    assert "! 1 messages are for executions that do not exist" in told
    assert "! 1 actions have waited" in told


def test_doctor_finds_a_discard_that_nobody_removes(
    database: tuple[str, SqlStore], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is discarded and not yet removed has a message that removes it; without one it is told."""
    url, store = database
    _alter(store, "INSERT INTO discards (execution_id, first, last, root_id) VALUES ('e1', 0, 1, 'e1')")
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m2", "e2", RemovalDue(), 1e12)])  # it removes something else
    assert main(["--database", url, "doctor"]) == 1
    assert "! 1 ranges of discarded tasks are not removed" in capsys.readouterr().out
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m1", "e1", RemovalDue(), 1e12)])
    main(["--database", url, "doctor"])
    assert "ranges of discarded tasks" not in capsys.readouterr().out


def test_doctor_counts_as_engines_do(database: tuple[str, SqlStore], capsys: pytest.CaptureFixture[str]) -> None:
    """A clock that was set is told, and what engines do not take for late is not late."""
    url, store = database
    with store.write() as transaction:
        transaction.shift_clock(-7200.0)
        due_s = transaction.now_s() - 3600
        transaction.add_messages([NewMessage("m1", "e1", PauseRequested(), due_s)])
    main(["--database", url, "doctor"])
    told = capsys.readouterr().out
    assert "engines count a time that is -7,200.0 s from the store's clock" in told
    assert "overdue" not in told


def test_doctor_of_a_healthy_store(empty_sqlite: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that wants nothing ends with 0; one without tables says how to make them."""
    store = SqlStore(empty_sqlite)
    assert store.is_available()  # SQLite has made the file
    store.close()
    assert main(["--database", empty_sqlite, "doctor"]) == 1
    assert "upgrade" in capsys.readouterr().out
    assert main(["--database", empty_sqlite, "upgrade"]) == 0
    assert main(["--database", empty_sqlite, "doctor"]) == 0
    assert "the file is sound" in capsys.readouterr().out


def test_backup_is_a_store_of_its_own(empty_sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy made while the store is open has everything committed, checks clean, and never overwrites a file."""
    store = SqlStore(empty_sqlite)
    store.upgrade()
    save_each(store, live_through_everything("e1"))
    target = tmp_path / "copy.db"
    assert main(["--database", empty_sqlite, "backup", str(target)]) == 0
    assert f"copied to {target}" in capsys.readouterr().out
    save(store, start("e2"))
    assert main(["--database", empty_sqlite, "backup", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    copy = SqlStore(f"sqlite:///{target}")
    assert list(check(copy)) == []
    with copy.read() as queries:
        assert queries.execution_ids() == ["e1"]
    copy.close()
    store.close()


def test_backup_of_postgres_points_to_pg_dump(empty_postgres: str, capsys: pytest.CaptureFixture[str]) -> None:
    """PostgreSQL has its own tool, and the command says so."""
    assert main(["--database", empty_postgres, "backup", "/tmp/never"]) == 2
    assert "pg_dump" in capsys.readouterr().err


def test_tools_want_a_database(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a database, or with one in memory, the tools say what is missing and end with 2."""
    monkeypatch.delenv("DALSEGNO_DATABASE_URL", raising=False)
    assert main(["check"]) == 2
    assert "DALSEGNO_DATABASE_URL" in capsys.readouterr().err
    assert main(["--database", "memory://", "check"]) == 2
    assert "memory" in capsys.readouterr().err


@pytest.mark.parametrize("tool", [["check"], ["doctor"], ["backup", "copy.db"]])
def test_tools_make_no_store(tool: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped path is said to be one, before or behind the tool's name, and no empty store appears there."""
    missing = tmp_path / "mistyped.db"
    assert main(["--database", f"sqlite:///{missing}", *tool]) == 2
    assert main([*tool, "--database", f"sqlite:///{missing}"]) == 2
    assert capsys.readouterr().err.count(f"{missing} does not exist") == 2
    assert not missing.exists()


def test_an_admins_token_is_made_directly(database: tuple[str, SqlStore], capsys: pytest.CaptureFixture[str]) -> None:
    """When all tokens are lost, the tool prints a new one, of which the store has the hash only, while it is used."""
    url, store = database
    assert main(["--database", url, "token", "anna"]) == 0
    assert main(["token", "bert", "--grant", "viewer@shop", "--grant", "author@shop", "--database", url]) == 0
    told = capsys.readouterr()
    first, second = told.out.split()
    with store.read() as queries:
        rows = queries.tokens()
    assert [(row.name, row.sha256, row.grants) for row in rows] == [
        ("anna", hash_of(first).hex(), '[["admin", "*"]]'),
        ("bert", hash_of(second).hex(), '[["viewer", "shop"], ["author", "shop"]]'),
    ]
    assert all("made directly in the store" in row.comment for row in rows)
    for row in rows:
        assert f"to revoke it: dalsegno token revoke {row.token_id}\n" in told.err
    assert told.err.count("keep it now: it is not shown again\n") == 2
    assert main(["--database", url, "token", ""]) == 2
    with pytest.raises(SystemExit):
        main(["--database", url, "token", "carl", "--grant", "root"])
    assert "'root' is no role: there are viewer," in capsys.readouterr().err


def test_the_tools_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what it does; each says what it takes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, does in (
        ("upgrade", "upgrade the tables to this version"),
        ("check", "check that every journal replays to exactly the rows"),
        ("doctor", "report what needs attention"),
        ("backup", "copy a SQLite store while it is used"),
        ("token", "make a token directly"),
        ("rekey", "let another key of yours open the secrets of the store"),
    ):
        assert f"{name} {does}" in told
    with pytest.raises(SystemExit):
        main(["token", "--help"])
    assert "--database DATABASE its URL, as before the tool's name" in " ".join(capsys.readouterr().out.split())


def test_upgrade_says_what_it_has_done(empty_sqlite: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables are those of this version, or of a later one, of which nothing is changed."""
    assert main(["--database", empty_sqlite, "upgrade"]) == 0
    assert capsys.readouterr().out == "the tables are those of this version\n"
    with patch.object(SqlStore, "upgrade", return_value=False):
        assert main(["--database", empty_sqlite, "upgrade"]) == 0
    assert "the tables are of a later version" in capsys.readouterr().out
