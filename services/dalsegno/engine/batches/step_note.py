"""A note of what the engine steps now, in a file mapped into memory. It survives the process, not the machine.

A mark costs a copy of a few hundred bytes and no system call. If the note is not clear at a start, it says in which
execution the previous engine died (dalsegno/README.md#durability).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dalsegno.engine.settings import Settings
from dalsegno.store.opening import address_of, file_of
from dalsegno.store.store import Transaction

_LAYOUT = struct.Struct("256s64s")
"""An execution id and the name of the event, each padded with zeros. It begins with a zero when it is clear."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What was being stepped."""

    execution_id: str
    event: str


class StepNote:
    """Holds one mark. Without a file it is in this process's own memory, and nobody ever reads it."""

    def __init__(self, file: int = -1) -> None:
        """`file`: a descriptor of a file at least as long as a mark. The note keeps the file and its lock through a
        copy."""
        self._memory = mmap.mmap(file, _LAYOUT.size)
        self._marked: tuple[str, str] | None = None

    def mark(self, execution_id: str, event: str) -> None:
        """Note what is stepped now."""
        mark = (execution_id, event)
        if mark != self._marked:  # otherwise the note has this mark already, as for each of many items
            _LAYOUT.pack_into(self._memory, 0, execution_id.encode("utf-8", "replace"), event.encode())
            self._marked = mark

    def clear(self) -> None:
        """Note that nothing is stepped."""
        self._memory[0] = 0
        self._marked = None

    def read(self) -> Mark | None:
        """Return what is being stepped, or what was when the engine died. None: nothing."""
        execution_id, event = (
            part.rstrip(b"\0").decode(errors="replace") for part in _LAYOUT.unpack_from(self._memory)
        )
        return Mark(execution_id, event) if self._memory[0] else None


def open_note(settings: Settings) -> StepNote:
    """Open the note of the engine. If it cannot have a file, log a warning and go on without one."""
    path = note_path(settings)
    if path is None:
        return StepNote()
    try:
        with _open_locked(path) as file:
            return StepNote(file)
    except OSError as error:
        _log.warning(
            "the engine cannot keep a note of what it steps in %s, so that an execution in whose step it dies is"
            " stepped again without care: %s; make the folder writable for it, or name another with --state-folder",
            *(path, error.strerror or error),
        )
        return StepNote()


def note_path(settings: Settings) -> Path | None:
    """Return the path beside the SQLite file. For a database server return a path in the state folder, named by store,
    address and user.

    None: the store does not outlive the process.
    """
    file = file_of(settings.database)
    if file is not None:
        return Path(f"{file}.stepping")
    if not settings.database.startswith("postgres"):
        return None
    name = f"{address_of(settings.database)} {settings.listen} {os.geteuid()}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return Path(settings.state_folder or tempfile.gettempdir()) / f"dalsegno-{digest}.stepping"


@contextmanager
def _open_locked(path: Path) -> Iterator[int]:
    """Open the file, create it if necessary, and lock it until all copies of its descriptor are closed. Raises
    OSError."""
    folder = _open_folder(path.parent)
    try:
        file = os.open(path.name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise PermissionError(0, "it is not a file of this user, or has several names")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(0, "another engine has it") from None
        os.fchmod(file, 0o600)
        missing = _LAYOUT.size - status.st_size
        if missing > 0:  # written, not only extended: a full disk is noticed here and not during a step
            os.pwrite(file, bytes(missing), status.st_size)
        yield file
    finally:
        os.close(file)


def _open_folder(folder: Path) -> int:
    """Open the folder if no other user can replace files in it. Raises OSError."""
    if folder.is_symlink() and not _is_trusted(folder.lstat().st_uid):
        raise PermissionError(0, "its folder is a symbolic link of another user")
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    mode = os.fstat(opened).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        os.close(opened)
        raise PermissionError(0, "everybody may replace files in its folder")
    return opened


def _is_trusted(user: int) -> bool:
    return user in (0, os.geteuid())


def count_death(transaction: Transaction, mark: Mark) -> int:
    """Add a death to the row of the execution in which an engine died. Return the number of deaths; 0: it does not
    exist."""
    claimed = transaction.claim([mark.execution_id]).get(mark.execution_id)
    if claimed is None:
        return 0
    transaction.set_deaths(mark.execution_id, claimed.deaths + 1)
    return claimed.deaths + 1
