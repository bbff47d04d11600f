"""Corners of the stores that are seldom met."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.scenes import live_through_everything, save_each

from dalsegno.store.records import SessionRow
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store


def test_a_lease_that_is_not_longer_is_no_renewal(store: Store) -> None:
    """Only a later end of the lease is stored, and with it when the executor was last heard."""
    row = SessionRow("s1", "executor-1", "engine-1", 10.0, heard_s=1.0)
    with store.write() as transaction:
        transaction.save_session(row)
        transaction.renew_sessions(["s1"], 5.0, 10.0)
        assert transaction.session("s1") == row
        transaction.renew_sessions(["s1"], 5.0, 10.5)
        assert transaction.session("s1") == replace(row, heard_s=5.0, lease_until_s=10.5)


def test_a_copy_that_fails_leaves_no_file(empty_sqlite: str, tmp_path: Path) -> None:
    """What could not be copied whole is not there, so that nobody takes it for a backup."""
    store = SqlStore(empty_sqlite)
    store.upgrade()
    save_each(store, live_through_everything("e1"))
    store.close()
    database = Path(empty_sqlite.removeprefix("sqlite:///"))
    database.write_bytes(database.read_bytes()[:20_000])
    target = tmp_path / "copy.db"
    with pytest.raises(Exception, match=r"malformed|not a database"):
        store.backup(target)
    assert not target.exists()
    store.close()
