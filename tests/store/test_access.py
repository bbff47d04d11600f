"""How a store is reached: libpq's files with services and passwords, and a file that may only be read."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.store.scenes import save, start

from dalsegno.store.opening import open_store
from dalsegno.store.store import StoreUnreachable

PASSWORD = "sec/ret:@"
NOBODY = 65_534


@pytest.fixture(scope="module")
def clerk(postgres_url: str) -> dict[str, str]:
    """How to reach a server on which a user needs a password."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE clerk SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE shop")
        shown = connection.execute("SHOW hba_file").fetchone()
        assert shown is not None
        rules = Path(shown[0])
        rules.write_text(f"host all clerk 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        connection.execute("SELECT pg_reload_conf()")
        given = {"host": connection.info.host, "port": str(connection.info.port), "dbname": "shop", "user": "clerk"}
    ends_s = time.monotonic() + 20
    while time.monotonic() < ends_s:  # until the server has read its rules
        try:
            psycopg.connect(**given).close()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return given
    raise AssertionError("the server lets everybody in")


@pytest.fixture
def service(clerk: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL that names a service only."""
    lines = "".join(f"{name}={value}\n" for name, value in clerk.items())
    (tmp_path / "services").write_text(f"[shop]\n{lines}")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    return "postgresql://?service=shop"


def test_a_service_and_a_passfile_are_enough(service: str, clerk: dict[str, str], tmp_path: Path) -> None:
    """Neither host nor user nor password is in the URL: reading and writing find them in libpq's files."""
    escaped = PASSWORD.replace(":", "\\:")
    (tmp_path / "passwords").write_text(f"{clerk['host']}:{clerk['port']}:shop:clerk:{escaped}\n")
    (tmp_path / "passwords").chmod(0o600)
    store = open_store(service)
    store.upgrade()
    save(store, start("e1"))
    with store.read() as queries:
        assert queries.execution_ids() == ["e1"]
    store.close()


def test_a_wrong_password_is_said_without_it(service: str, clerk: dict[str, str], tmp_path: Path) -> None:
    """The server's refusal is one line that names the service and the user."""
    (tmp_path / "passwords").write_text(f"{clerk['host']}:{clerk['port']}:shop:clerk:wrong-secret\n")
    (tmp_path / "passwords").chmod(0o600)
    store = open_store(service)
    with pytest.raises(StoreUnreachable, match=r"service=shop.*password authentication failed") as caught:
        store.upgrade()
    store.close()
    assert "\n" not in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def without_rights(*paths: Path) -> Iterator[None]:
    """Let this process only read these. Whoever is root may write whatever the modes say, and is somebody else
    meanwhile."""
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_file_that_may_only_be_read_is_said(place: Path) -> None:
    """A SQLite file on a disk that is mounted read-only, or another user's: an engine is refused in one line, and goes
    on with the same store when it may write."""
    file = place / "store.db"
    url = f"sqlite:///{file}"
    store = open_store(url)
    store.upgrade()
    save(store, start("e1"))
    store.close()
    with without_rights(place, file):
        began_s = time.monotonic()
        with pytest.raises(StoreUnreachable, match=r"cannot (open|write) sqlite.*store\.db: ") as caught:
            write_once(url)
        assert time.monotonic() - began_s < 15  # it does not wait as for another process
        assert "\n" not in str(caught.value)
    store = open_store(url)
    save(store, start("e3"))
    with store.read() as queries:
        assert queries.execution_ids() == ["e1", "e3"]
    store.close()


def write_once(url: str) -> None:
    """Open a store and write."""
    with closing(open_store(url)) as store:
        save(store, start("e2"))
