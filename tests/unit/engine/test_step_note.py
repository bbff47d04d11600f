"""The step note: a mark outlives its process, is nobody else's, and is never in the way of the engine."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dalsegno.engine.batches import step_note
from dalsegno.engine.batches.step_note import Mark, StepNote, count_death, note_path, open_note
from dalsegno.engine.settings import Settings
from dalsegno.store.memory import MemoryStore

POSTGRES = "postgresql://dalsegno:secret@db.example.com/dalsegno"


def kept_by(folder: Path) -> Settings:
    return Settings(database=POSTGRES, state_folder=str(folder))


def path_of(settings: Settings) -> Path:
    path = note_path(settings)
    assert path is not None
    return path


def test_mark_is_what_was_written_last() -> None:
    """A note tells the mark that is on it, whatever was there before, and nothing once it is clear."""
    one = StepNote()
    assert one.read() is None
    one.mark("a-long-execution-id", "task_done")
    one.mark("short", "timer_fired")
    assert one.read() == Mark("short", "timer_fired")
    one.clear()
    assert one.read() is None
    one.mark("x" * 400, "load")
    assert one.read() == Mark("x" * 256, "load")


def test_mark_outlives_its_process(tmp_path: Path) -> None:
    """Nobody writes the file to the disk, and no end of the process is needed for it to be there."""
    dies = (
        "import os; from dalsegno.engine.batches.step_note import open_note;"
        "from dalsegno.engine.settings import Settings;"
        f"note = open_note(Settings(database={POSTGRES!r}, state_folder={str(tmp_path)!r}));"
        "note.mark('e1', 'task_done'); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(step_note.__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", dies], env=environment, check=False).returncode == -9
    assert open_note(kept_by(tmp_path)).read() == Mark("e1", "task_done")


def test_page_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a SQLite file, by whatever link that is named; for a server one for each store, address and user; none for
    a store that dies with the process."""
    database = tmp_path / "store.db"
    (tmp_path / "link.db").symlink_to(database)
    assert note_path(Settings(database=f"sqlite:///{database}")) == tmp_path / "store.db.stepping"
    assert note_path(Settings(database=f"sqlite:///{tmp_path}/link.db")) == tmp_path / "store.db.stepping"
    assert note_path(Settings(database="memory://")) is None
    assert note_path(Settings()) is None
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/var/tmp")
    here = path_of(Settings(database=POSTGRES))
    assert (here.parent, here.suffix) == (Path("/var/tmp"), ".stepping")
    others = (
        Settings(database=POSTGRES.replace("db.", "other."), state_folder=str(tmp_path)),
        Settings(database=POSTGRES, listen="127.0.0.1:7801", state_folder=str(tmp_path)),
    )
    names = {here.name, *(path_of(each).name for each in others)}
    assert len(names) == 3
    assert path_of(kept_by(tmp_path)).name == here.name
    assert note_path(Settings(database=POSTGRES.replace("secret", "changed"))) == here
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert note_path(Settings(database=POSTGRES)) != here


def test_page_is_for_its_user_only(tmp_path: Path) -> None:
    """The file is readable and writable for its owner, for nobody else, also if it was there before."""
    path = path_of(kept_by(tmp_path))
    path.touch(0o666)
    path.chmod(0o666)
    kept = open_note(kept_by(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept.mark("e1", "load")
    assert b"e1" in path.read_bytes()


def test_engine_goes_on_without_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A note that another process has, whose folder is not there or open to all, or that is a link: one warning with
    the reason and the way out, and a note all the same, and nothing written where the link leads."""
    first = open_note(kept_by(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"keep me")
    (tmp_path / "links").mkdir()
    path_of(kept_by(tmp_path / "links")).symlink_to(elsewhere)
    (tmp_path / "names").mkdir()
    path_of(kept_by(tmp_path / "names")).hardlink_to(elsewhere)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    expected = {
        tmp_path: "another engine has it",
        tmp_path / "missing": "No such file",
        tmp_path / "links": "symbolic link",
        tmp_path / "names": "several names",
        tmp_path / "open": "everybody may replace",
    }
    for folder, reason in expected.items():
        with caplog.at_level(logging.WARNING):
            without = open_note(kept_by(folder))
        (record,) = caplog.records
        assert reason in record.getMessage()
        assert "--state-folder" in record.getMessage()
        without.mark("e2", "load")
        assert without.read() == Mark("e2", "load")
        caplog.clear()
    assert first.read() is None
    assert elsewhere.read_bytes() == b"keep me"


def test_folder_of_another_users_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that somebody else has put in the folder's place is refused; one of the user's own is fine."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    settings = kept_by(tmp_path / "link")
    open_note(settings).mark("e1", "load")
    assert open_note(kept_by(tmp_path / "real")).read() == Mark("e1", "load")
    monkeypatch.setattr(step_note, "_is_trusted", lambda user: False)
    path_of(settings).unlink()
    open_note(settings)
    assert not path_of(settings).exists()


def test_death_of_an_execution_that_is_gone_is_no_fault() -> None:
    """What was being made when the engine died was never stored."""
    with MemoryStore().write() as transaction:
        assert count_death(transaction, Mark("gone", "start_requested")) == 0
