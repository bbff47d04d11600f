"""A batch writes sessions last and in one order, so that engines with the same executors do not wait in a circle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.postgres import NoPostgres, run_postgres

from dalsegno.engine.batches.session_rows import SessionRows
from dalsegno.store.opening import open_store
from dalsegno.store.records import SessionRow


class Noted:
    """Notes which methods are called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, arguments[0]))


def row(session_id: str) -> SessionRow:
    """A session."""
    return SessionRow(session_id, "executor-1", "engine-1", 10.0)


def test_rows_that_it_waits_for_are_written_in_order() -> None:
    """What is only renewed, which waits for nobody, comes last; a session that opens again after its end is open."""
    rows, noted = SessionRows(), Noted()
    rows.renew({"d", "b"}, 1.0, 2.0)
    rows.end(["c", "a"])
    rows.save(row("e"))
    rows.save(row("a"))
    rows.write(noted)
    assert noted.calls == [
        ("save_session", row("a")),
        ("end_sessions", ["c"]),
        ("save_session", row("e")),
        ("renew_sessions", {"b", "d"}),
    ]


def test_session_that_is_opened_and_then_ended_is_stored_as_ended() -> None:
    """The later word counts."""
    rows, noted = SessionRows(), Noted()
    rows.save(row("a"))
    rows.end(["a"])
    rows.write(noted)
    assert noted.calls == [("save_session", replace(row("a"), ended=True))]


def test_a_batch_without_sessions_writes_none() -> None:
    """Most batches hear of no executor."""
    noted = Noted()
    SessionRows().write(noted)
    assert noted.calls == []


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """PostgreSQL; without it the test is skipped, with the reason."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


def test_engines_that_write_the_same_sessions_never_deadlock(server: str) -> None:
    """Two engines renew, save and end the same four sessions, each beginning with another one: no write fails."""
    stores = [open_store(server), open_store(server)]
    stores[0].upgrade()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(200):
                names = [f"s{(number * 2 + turn + each) % 4}" for each in range(4)]
                rows = SessionRows()
                rows.save(row(names[0]))
                rows.renew(names[1:3], turn, turn + 10.0)
                rows.end(names[3:])
                with stores[number].write() as transaction:
                    rows.write(transaction)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert errors == []
