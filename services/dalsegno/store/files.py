"""A SQLite store on the disk: its files are for their owner only, and one engine holds them, by whatever name."""

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
    """Make the file, and its folder, if they are not there; nobody but their owner may read what is in the file.

    Raises StoreDamaged for a file of another kind, which is left as it is, and OSError.
    """
    database.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        _refuse_other_kinds(database)
    for suffix in ("", "-wal", "-shm", ".lock"):
        path = Path(f"{database}{suffix}")
        if path.is_file() and (told := narrow(path, FILE_MODE)):
            _log.warning(told)


def _refuse_other_kinds(path: Path) -> None:
    """Look into a file before its mode is changed: a mistyped path may lead to one that others need."""
    if path.stat().st_mode & 0o077 and path.is_file():
        with path.open("rb") as file:
            begins = file.read(len(_HEADER))
        if begins and begins != _HEADER:
            raise StoreDamaged(f"{path} is not a SQLite database")


def narrow(path: Path, mode: int) -> str:
    """Let nobody but its owner have a file or folder, and say so; empty when it was so already."""
    found = path.stat()
    if not found.st_mode & 0o077:
        return ""
    was = f"{stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        return f"{path} is open to others (mode {was}), and is not ours to close: choose a place of your own"
    path.chmod(mode)
    return f"{path} was open to others (mode {was}): now it is for its owner only"


class EngineLock:
    """One engine's hold of a database. The kernel lets it go when the process ends, however it does."""

    def __init__(self, database: Path) -> None:
        """Take it. Raises StoreLocked, and OSError. Nothing of the database may be open in this process yet."""
        self._files = ExitStack()
        told = f"has {database}: one engine serves a SQLite file; several need PostgreSQL"
        by_path = self._open(Path(f"{database}.lock"))
        if not _lock(by_path):
            holder = os.pread(by_path, 32, 0).decode("ascii", "replace").strip()
            self.release()
            raise StoreLocked(f"another engine{f' (process {holder})' if holder else ''} {told}")
        # The file itself, too: it may have other names (hard links). SQLite's locks are of another kind.
        if not _lock(self._open(database)):
            self.release()
            raise StoreLocked(f"another engine, by another name of the file, {told}")
        os.ftruncate(by_path, 0)
        os.pwrite(by_path, f"{os.getpid()}\n".encode(), 0)
        if database.stat().st_nlink > 1:
            _log.warning(
                "%s has other names (hard links): open it by this one only, for what SQLite has yet to merge into it"
                " stands beside the name that is used",
                database,
            )

    def _open(self, path: Path) -> int:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        self._files.callback(os.close, opened)
        return opened

    def release(self) -> None:
        """Let it go. The database must be closed before: to close its file here ends SQLite's own locks of it."""
        self._files.close()


def _lock(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
