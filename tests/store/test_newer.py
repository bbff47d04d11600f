"""Versions side by side: a store that a later version has upgraded, by a migration that only adds or by another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.later import later_migrations
from tests.store.scenes import save, start

from dalsegno.store import migrate
from dalsegno.store.__main__ import main
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import StoreNewer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
    else:
        yield request.getfixturevalue("empty_postgres")


def upgrade(url: str, scripts: Path | None = None) -> bool:
    """Upgrade a store as the version does that has these migrations; None: this one."""
    with pytest.MonkeyPatch.context() as patched:
        if scripts is not None:
            patched.setattr(migrate, "_SCRIPTS", scripts)
        store = SqlStore(url)
        try:
            return store.upgrade()
        finally:
            store.close()


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_later_version_that_only_adds_is_served(
    url: str, tmp_path: Path, is_fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both versions use the store: this one changes no table, does not see what was added, and what it writes has the
    defaults."""
    later = later_migrations(tmp_path)
    if not is_fresh:
        assert upgrade(url)
    assert upgrade(url, later)
    assert not upgrade(url)
    store = SqlStore(url)
    store.check_version()
    save(store, start("e1"))
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert row.id == "e1"
    with store.inspect() as connection:
        assert connection.execute(sa.text("SELECT colour FROM executions")).scalars().all() == ["none"]
    store.close()
    assert upgrade(url, later)
    assert main(["--database", url, "upgrade"]) == 0
    assert main(["--database", url, "check"]) == 0
    assert main(["--database", url, "doctor"]) in (0, 1)
    told = capsys.readouterr().out
    assert "the tables are of a later version, and this one can use them: nothing is changed" in told
    assert "every journal replays to exactly the rows" in told
    assert "the tables are of a later version, which this one can use" in told


def test_a_later_version_that_does_not_only_add_is_refused(url: str, tmp_path: Path) -> None:
    """Also when a migration that only adds comes after it: one sentence, and nothing is changed."""
    upgrade(url)
    later = later_migrations(tmp_path, "9998", is_additive=False)
    later_migrations(tmp_path, "9999")
    upgrade(url, later)
    store = SqlStore(url)
    for attempt in (store.upgrade, store.check_version):
        with pytest.raises(
            StoreNewer, match=r"^the store is of a newer version \(its tables are of version 9999\): use"
        ):
            attempt()
    store.close()
