"""A SQLite store as a file: only its owner may read it, and only one engine may use it, under any of its names."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from contextlib import ExitStack
from pathlib import Path

from dalsegno.store.store import StoreDamaged, StoreLocked

FILE_MODE = 0o600
FOLDER_MODE = 0o700

_HEADER = b"SQLite format 3\0"

_log = logging.getLogger(__name__)


def prepare_file(database: Path) -> None:
    """Create the file and its folder if they do not exist. Only their owner may read the file.

    Raises StoreDamaged for a file of another kind, which does not change, and OSError.
    """
    database.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        _refuse_other_kinds(database)
    for suffix in ("", "-wal", "-shm", ".lock"):
        path = Path(f"{database}{suffix}")
        if path.is_file() and (reason := narrow(path, FILE_MODE)):
            _log.warning(reason)


def _refuse_other_kinds(path: Path) -> None:
    """Check the file before its mode is changed: a mistyped path may name a file that others need."""
    if path.stat().st_mode & 0o077 and path.is_file():
        with path.open("rb") as file:
            begins = file.read(len(_HEADER))
        if begins and begins != _HEADER:
            raise StoreDamaged(f"{path} is not a SQLite database")


def narrow(path: Path, mode: int) -> str:
    """Restrict a file or folder to its owner. Return a sentence that says so; empty if it was restricted before."""
    found = path.stat()
    if not found.st_mode & 0o077:
        return ""
    was = f"{stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        return f"{path} is open to others (mode {was}), and belongs to another user: choose another folder"
    path.chmod(mode)
    return f"{path} was open to others (mode {was}): now it is for its owner only"


class EngineLock:
    """The lock of one engine on a database. The kernel releases it when the process ends in any way."""

    def __init__(self, database: Path) -> None:
        """Take the lock. Raises StoreLocked and OSError. No file of the database may be open in this process yet."""
        self._files = ExitStack()
        reason = f"has {database}: one engine serves a SQLite file; several need PostgreSQL"
        by_path = self._open(Path(f"{database}.lock"))
        if not _lock(by_path):
            holder = os.pread(by_path, 32, 0).decode("ascii", "replace").strip()
            self.release()
            raise StoreLocked(f"another engine{f' (process {holder})' if holder else ''} {reason}")
        # The file itself is locked too, because it may have other names (hard links). SQLite uses another kind of
        # locks.
        if not _lock(self._open(database)):
            self.release()
            raise StoreLocked(f"another engine, by another name of the file, {reason}")
        os.ftruncate(by_path, 0)
        os.pwrite(by_path, f"{os.getpid()}\n".encode(), 0)
        if database.stat().st_nlink > 1:
            _log.warning(
                "%s has other names (hard links): always open it by this one, because SQLite keeps recent changes in a"
                " file beside the name that is used",
                database,
            )

    def _open(self, path: Path) -> int:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        self._files.callback(os.close, opened)
        return opened

    def release(self) -> None:
        """Release the lock. Close the database before: closing its file here releases SQLite's own locks."""
        self._files.close()


def _lock(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
