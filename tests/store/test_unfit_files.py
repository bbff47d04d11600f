"""What is no store, or not one of this version, is said in one sentence by every program that opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.store.scenes import add_task, save, start

from dalsegno.rpc.exits import CANNOT_RUN
from dalsegno.store.__main__ import main
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import StoreNewer, StoreOutdated


@pytest.fixture(params=["text", "garbage", "newer"])
def unfit(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A file that cannot be used, and what is said of it."""
    path = tmp_path / "store.db"
    store = SqlStore(f"sqlite:///{path}")
    store.upgrade()
    if request.param == "newer":
        with store.write() as transaction:
            connection = transaction._connection  # type: ignore[attr-defined]
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        store.close()
        return path, "the store is of a newer version (its tables are of version 9999)"
    store.close()
    if request.param == "text":
        path.write_text("these are notes of somebody, and not a database\n")
        path.chmod(0o600)
        return path, "file is not a database"
    sound = path.read_bytes()
    path.write_bytes(sound[:100] + b"\xa5" * (len(sound) - 100))
    return path, "malformed"


@pytest.mark.long("starts services")
@pytest.mark.parametrize("service", ["engine", "api"])
def test_a_service_says_it_in_one_sentence(unfit: tuple[Path, str], service: str) -> None:
    """A text, a damaged database and one of a newer version: one line that says so at once, and no traceback."""
    path, said = unfit
    before = path.read_bytes()
    command = [
        sys.executable,
        "-m",
        f"dalsegno.{service}",
        "--listen",
        "127.0.0.1:0",
        "--database",
        f"sqlite:///{path}",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (line,) = (ended.stderr + ended.stdout).splitlines()
    assert ended.returncode == CANNOT_RUN
    assert said in line
    assert path.read_bytes() == before


@pytest.mark.parametrize("tool", ["upgrade", "check", "doctor", "backup"])
def test_a_tool_says_it_in_one_sentence(
    unfit: tuple[Path, str], tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So do the tools. A backup of a newer store is made all the same, and one that fails leaves nothing."""
    path, said = unfit
    copy = tmp_path / "copy.db"
    code = main(["--database", f"sqlite:///{path}", tool, *([str(copy)] if tool == "backup" else [])])
    told = capsys.readouterr()
    (line,) = (told.out + told.err).splitlines()
    if tool == "backup" and "newer" in said:
        assert (code, copy.exists()) == (0, True)
        return
    assert code in (1, 2)
    assert said in line
    assert not copy.exists()


def test_doctor_and_check_find_a_page_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of which only a part is damaged is found by both, in one line."""
    path = tmp_path / "store.db"
    store = SqlStore(f"sqlite:///{path}")
    store.upgrade()
    for number in range(40):
        save(store, add_task(start(f"e{number:02}"), 1))
    with store.inspect() as connection:
        roots = "SELECT rootpage FROM sqlite_master WHERE name IN ('executions', 'journal') ORDER BY name"
        pages = list(connection.exec_driver_sql(roots).scalars())
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    store.close()
    content = bytearray(path.read_bytes())
    for page in pages:
        content[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(content)
    for tool in ("doctor", "check"):
        assert main(["--database", f"sqlite:///{path}", tool]) in (1, 2)
        told = capsys.readouterr()
        (line,) = (told.out + told.err).splitlines()
        assert "damaged" in line or "malformed" in line


def test_a_newer_store_is_refused_by_any_database(empty_postgres: str) -> None:
    """PostgreSQL's tables may be newer too: neither an upgrade nor a reader touches them."""
    store = SqlStore(empty_postgres)
    store.upgrade()
    with store.write() as transaction:
        connection = transaction._connection  # type: ignore[attr-defined]
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for attempt in (store.upgrade, store.check_version):
        with pytest.raises(StoreNewer, match="version 9999"):
            attempt()
    assert issubclass(StoreNewer, StoreOutdated)
    store.close()
