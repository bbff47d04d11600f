"""A SQLite store on the disk: who may read it, and who holds it."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dalsegno.store.files import FOLDER_MODE, narrow
from dalsegno.store.opening import open_store
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import StoreDamaged, StoreLocked, StoreUnreachable


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the user's mask is."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def use(path: Path) -> SqlStore:
    """A store as an engine has it, with everything beside it that SQLite makes."""
    store = SqlStore(f"sqlite:///{path}")
    store.hold_engine_lock()
    store.upgrade()
    with store.write() as transaction:
        transaction.settle("key", "secret")
    return store


@pytest.mark.usefixtures("umask")
def test_a_new_store_is_for_its_owner_only(tmp_path: Path) -> None:
    """The folder is 0700 and each file in it 0600, also that of a backup."""
    store = use(tmp_path / "data" / "store.db")
    store.backup(tmp_path / "data" / "copy.db")
    found = modes(tmp_path / "data")
    assert {"store.db", "store.db-wal", "store.db-shm", "store.db.lock", "copy.db"} <= found.keys()
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == FOLDER_MODE
    store.close()


def test_a_store_that_was_open_to_others_is_closed_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An older store is narrowed when an engine opens it, which says so once; one that was narrow is left alone."""
    path = tmp_path / "store.db"
    store = use(path)
    for name in ("store.db", "store.db-wal", "store.db-shm", "store.db.lock"):
        (tmp_path / name).chmod(0o644)
    caplog.clear()
    SqlStore(f"sqlite:///{path}").close()
    assert set(modes(tmp_path).values()) == {0o600}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 4
    assert f"{path} was open to others (mode 0644): now it is for its owner only" in told
    caplog.clear()
    SqlStore(f"sqlite:///{path}").close()
    assert caplog.records == []
    store.close()


def test_whoever_only_reads_changes_nothing(tmp_path: Path) -> None:
    """A store that is opened for reading makes no file, and leaves the mode of one that is there as it is."""
    missing = open_store(f"sqlite:///{tmp_path}/none/store.db", read_only=True)
    with pytest.raises(StoreUnreachable):
        missing.check_version()
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "store.db"
    use(path).close()
    path.chmod(0o644)
    reading = open_store(f"sqlite:///{path}", read_only=True)
    reading.check_version()
    reading.close()
    assert modes(tmp_path)["store.db"] == 0o644


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A path that leads to some other file changes neither its mode nor its content."""
    path = tmp_path / "passwords"
    path.write_text("root:x:0:0\nmore text than a header has")
    path.chmod(0o644)
    with pytest.raises(StoreDamaged, match="is not a SQLite database"):
        SqlStore(f"sqlite:///{path}")
    assert modes(tmp_path) == {"passwords": 0o644}
    assert path.read_text().startswith("root:x")


def test_what_is_not_ours_is_only_told(tmp_path: Path) -> None:
    """A folder that is shared by design, like /tmp, is not closed to others: that is said."""
    tmp_path.chmod(0o1777)
    assert "choose another folder" in narrow(tmp_path, FOLDER_MODE)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    tmp_path.chmod(0o750)
    assert "mode 0750" in narrow(tmp_path, FOLDER_MODE)
    assert narrow(tmp_path, FOLDER_MODE) == ""


@pytest.mark.long("starts services")
@pytest.mark.parametrize("kind", ["same", "symbolic link", "link to the folder", "hard link", "relative"])
def test_lock_holds_by_any_name(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second engine is refused by whatever name it opens the file, until the first one has ended."""
    path = tmp_path / "data" / "store.db"
    first = use(path)
    other = tmp_path / "other.db"
    if kind == "symbolic link":
        other.symlink_to(path)
    elif kind == "link to the folder":
        (tmp_path / "linked").symlink_to(path.parent)
        other = tmp_path / "linked" / "store.db"
    elif kind == "hard link":
        other.hardlink_to(path)
    else:
        other = path if kind == "same" else Path("store.db")
    monkeypatch.chdir(path.parent)
    code = f"""
from dalsegno.store.store import StoreLocked
from dalsegno.store.opening import open_store
store = open_store("sqlite:///{other}")
try:
    store.hold_engine_lock()
except StoreLocked as error:
    print(error)
"""
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "one engine serves a SQLite file" in refused.stdout, refused.stderr
    assert (f"process {os.getpid()}" in refused.stdout) == (kind != "hard link")
    first.close()
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert free.stdout == ""


def test_hard_links_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite keeps what is new beside the name that is used: whoever has two names is told to use one."""
    path = tmp_path / "store.db"
    use(path).close()
    (tmp_path / "other.db").hardlink_to(path)
    use(path).close()
    assert "has other names (hard links)" in caplog.text
    caplog.clear()
    second = SqlStore(f"sqlite:///{path}")
    third = SqlStore(f"sqlite:///{tmp_path}/other.db")
    second.hold_engine_lock()
    with pytest.raises(StoreLocked, match="by another name of the file"):
        third.hold_engine_lock()
    second.close()
    third.hold_engine_lock()
    third.close()


@pytest.mark.parametrize("url", ["sqlite:", "postgresql://x:secret@h:port/n"])
def test_a_url_that_is_none_is_said_without_its_password(url: str) -> None:
    """What cannot be read is not shown."""
    with pytest.raises(ValueError, match="sqlite:///") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
