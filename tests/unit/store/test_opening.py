"""A database that cannot be opened is said in a line that names it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from dalsegno.store.opening import open_store
from dalsegno.store.outages import is_conflict, is_outage
from dalsegno.store.store import StoreUnreachable


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    """SQLite's folder cannot be made where a file is."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreUnreachable, match=r"cannot open sqlite.*file/x\.db: .*File exists"):
        open_store(f"sqlite:///{tmp_path}/file/x.db")


def test_a_server_that_does_not_answer_is_said_without_its_password() -> None:
    """PostgreSQL's refusal comes without a traceback and without the secret."""
    store = open_store("postgresql://somebody:secret@127.0.0.1:1/x")
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1") as caught:
        store.upgrade()
    assert "secret" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    ("kind", "is_away", "has_met"),
    [
        (psycopg.errors.DeadlockDetected, False, True),
        (psycopg.errors.SerializationFailure, False, True),
        (psycopg.errors.ReadOnlySqlTransaction, True, False),
        (psycopg.errors.DiskFull, True, False),
        (psycopg.errors.AdminShutdown, True, False),
        (psycopg.errors.UniqueViolation, False, False),
    ],
)
def test_errors_of_the_server_are_told_apart(kind: type[psycopg.Error], *, is_away: bool, has_met: bool) -> None:
    """A server that is full or read-only is away; transactions that met are tried again; else the statement is bad."""
    assert (is_outage(kind("so")), is_conflict(kind("so"))) == (is_away, has_met)
