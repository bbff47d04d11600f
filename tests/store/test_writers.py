"""Several writers at once: processes and threads, each with a store of its own over the same database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.store.scenes import Scene, add_task, create, finish_task, save, start
from tests.tied import tied

from dalsegno.engine.clock import Clock
from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.store.records import Claimed, ClockRow, NewMessage
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store, StoreLocked, StoreOutdated, StoreUnreachable
from dalsegno.workflow.changes import GlobalsPublished
from dalsegno.workflow.events import PauseRequested
from dalsegno.workflow.journal import replay
from dalsegno.workflow.states import AttemptState
from dalsegno.workflow.value import Value

_ROUNDS = 20


@pytest.fixture(params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A database that several can open, empty."""
    url: str = request.getfixturevalue(f"empty_{request.param}")
    return url


@pytest.fixture
def pair(shared_url: str) -> Iterator[tuple[Store, Store]]:
    """Two stores over one database, as two engines have them."""
    with ExitStack() as opened:
        stores = open_store(shared_url), open_store(shared_url)
        for store in stores:
            opened.callback(store.close)
        stores[0].upgrade()
        yield stores


def _count_up(store: Store, name: str, failures: list[BaseException]) -> None:
    """Read, add one, write: as often as it takes to lose an update if claims did not hold."""
    try:
        for _ in range(_ROUNDS):
            with store.write() as transaction:
                transaction.claim(["e2", "e1"])
                execution = replay(transaction.changes_after("e1", 0))
                seen = execution.globals.get("count", Value(data=0)).data
                assert isinstance(seen, int)
                scene = Scene(execution, [], 1.0)
                scene.do(GlobalsPublished(values={"count": Value(data=seen + 1), "by": Value(data=name)}))
                transaction.save_all([scene.saved()])
    except BaseException as error:
        failures.append(error)


def test_claims_serialise_two_writers(pair: tuple[Store, Store]) -> None:
    """Two engines that add to the same execution at once lose no update: each claims before it reads
    (dalsegno/README.md#durability)."""
    save(pair[0], create("e1"), create("e2"))
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=_count_up, args=(store, str(number), failures)) for number, store in enumerate(pair)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with pair[0].write() as transaction:
        execution = replay(transaction.changes_after("e1", 0))
    assert execution.globals["count"].data == 2 * _ROUNDS
    assert execution.revision == 1 + 2 * _ROUNDS


def test_claim_waits_for_the_other_transaction(pair: tuple[Store, Store]) -> None:
    """A claim of what another transaction has claimed answers once that one has ended, with the revision it left."""
    scene = create("e1")
    save(pair[0], scene)
    answers: list[dict[str, Claimed]] = []

    def claim_too() -> None:
        with pair[1].write() as transaction:
            answers.append(transaction.claim(["e1"]))

    other = threading.Thread(target=claim_too)
    with pair[0].write() as transaction:
        assert transaction.claim(["e1"]) == {"e1": Claimed(1, 0)}
        other.start()
        other.join(0.3)
        assert answers == []
        transaction.save_all([scene.do(GlobalsPublished(values={"a": Value(data=1)})).saved()])
    other.join(30)
    assert answers == [{"e1": Claimed(2, 0)}]


def test_two_writers_take_a_message_once(pair: tuple[Store, Store]) -> None:
    """Of two transactions that take the same messages at once, each message goes to exactly one."""
    names = [f"m{number:03}" for number in range(60)]
    with pair[0].write() as transaction:
        transaction.add_messages([NewMessage(name, "e1", PauseRequested(), 1.0) for name in names])
    taken: list[str] = []

    def take(store: Store) -> None:
        for name in names:
            with store.write() as transaction:
                taken.extend(transaction.take_messages([name]))

    threads = [threading.Thread(target=take, args=(store,)) for store in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == names


def test_three_processes_upgrade_at_once(shared_url: str) -> None:
    """Three services that start together over an empty database all come up, and the tables are there once."""
    command = (sys.executable, "-m", "dalsegno.store", "--database", shared_url, "upgrade")
    processes = [subprocess.Popen(tied(*command), stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    outcomes = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [code for _, code in outcomes] == [0, 0, 0], outcomes
    store = open_store(shared_url)
    store.check_version()
    save(store, create("e1"))
    store.close()


def test_store_without_its_tables_is_refused(shared_url: str) -> None:
    """A store whose migrations have not run says so, and how to run them."""
    store = open_store(shared_url)
    if shared_url.startswith("sqlite"):
        with store.write():
            pass
    with pytest.raises(StoreOutdated, match=r"dalsegno\.store upgrade"):
        store.check_version()
    store.close()


def test_tables_are_those_of_the_migrations(shared_url: str) -> None:
    """What the migrations make is what tables.py says: nothing was changed in one place only."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from dalsegno.store.tables import METADATA

    store = SqlStore(shared_url)
    store.upgrade()
    with store.inspect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": METADATA})
        assert compare_metadata(context, METADATA) == []
    store.close()


def test_keys_and_indexes_are_those_of_the_migrations(shared_url: str) -> None:
    """What alembic does not compare: primary keys, and which rows an index has."""
    from dalsegno.store.tables import METADATA

    store = SqlStore(shared_url)
    store.upgrade()
    with store.write() as transaction:
        connection = transaction._connection  # type: ignore[attr-defined]
        migrated = keys_and_indexes(connection)
        METADATA.drop_all(connection)
        METADATA.create_all(connection)
        assert keys_and_indexes(connection) == migrated
    store.close()


def keys_and_indexes(connection: Any) -> dict[str, object]:
    """The primary key of each table, and the columns and the condition of its indexes."""
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    found: dict[str, object] = {}
    for table in inspector.get_table_names():
        if table != "alembic_version":
            found[table] = inspector.get_pk_constraint(table)["constrained_columns"]
            for index in inspector.get_indexes(table):
                condition = index.get("dialect_options", {}).get(f"{connection.dialect.name}_where")
                found[f"{table}.{index['name']}"] = (index["unique"], index["column_names"], str(condition))
    return found


_BACK_TO_0003 = (
    "DROP INDEX attempts_kept",
    "ALTER TABLE attempts DROP COLUMN keeper",
    "CREATE INDEX attempts_ready ON attempts (created_s) WHERE state = 'READY'",
    "DROP INDEX messages_kept",
    "ALTER TABLE messages DROP COLUMN keeper",
    "CREATE INDEX messages_due ON messages (due_s, id)",
    "ALTER TABLE sessions DROP COLUMN principal",
    "DROP TABLE tokens",
    "DROP TABLE clock",
    "ALTER TABLE attempts DROP COLUMN deadline_s",
    "ALTER TABLE executions DROP COLUMN deaths",
    "DROP TABLE deletions",
    "ALTER TABLE requests DROP COLUMN about",
    "ALTER TABLE sessions DROP COLUMN peer",
    "ALTER TABLE sessions DROP COLUMN actions",
    "ALTER TABLE sessions DROP COLUMN connected_s",
    "ALTER TABLE sessions DROP COLUMN heard_s",
    "ALTER TABLE attempts DROP COLUMN digest",
    "DROP INDEX attempts_telling",
    "ALTER TABLE attempts DROP COLUMN progress",
    "ALTER TABLE attempts DROP COLUMN heard_s",
    "DROP TABLE descriptions",
    "ALTER TABLE tasks DROP COLUMN tags",
    "ALTER TABLE tasks DROP COLUMN awaits",
    "ALTER TABLE tasks DROP COLUMN awaits_count",
    "DROP TABLE checkpoints",
    "ALTER TABLE tasks DROP COLUMN ended_at",
    "ALTER TABLE executions DROP COLUMN paused_at",
    "ALTER TABLE executions DROP COLUMN paused_at_sequence",
    "ALTER TABLE executions DROP COLUMN not_reached",
    "ALTER TABLE executions DROP COLUMN stop_at",
    "ALTER TABLE executions DROP COLUMN reverting_to",
    "ALTER TABLE executions DROP COLUMN reverting_to_sequence",
    "ALTER TABLE executions DROP COLUMN goes_on_s",
    "ALTER TABLE attempts DROP COLUMN reverts",
    "ALTER TABLE attempts DROP COLUMN undone",
    "DROP TABLE discards",
    "DROP INDEX texts_by_use",
    "ALTER TABLE texts DROP COLUMN last",
    "ALTER TABLE attempts DROP COLUMN copied",
    "ALTER TABLE attempts DROP COLUMN was_workflow",
    "DROP INDEX executions_by_origin",
    "ALTER TABLE executions DROP COLUMN forked_from",
    "ALTER TABLE executions DROP COLUMN forked_from_sequence",
    "ALTER TABLE executions DROP COLUMN forked_from_checkpoint",
    "ALTER TABLE executions DROP COLUMN first_sequence",
    "DROP TABLE engines",
    "ALTER TABLE attempts DROP COLUMN engine",
    "UPDATE alembic_version SET version_num = '0003'",
)
"""What makes the tables those of an older version."""


def test_a_store_of_an_older_version_counts_on_from_its_newest_execution(shared_url: str) -> None:
    """The clock's row begins at the newest time that is stored; what was handed out before has no deadline."""
    import sqlalchemy as sa

    store = SqlStore(shared_url)
    store.upgrade()
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    save(store, scene)
    with store.write() as transaction:
        connection = transaction._connection  # type: ignore[attr-defined]
        for statement in _BACK_TO_0003:
            connection.execute(sa.text(statement))
    store.upgrade()
    with store.write() as transaction:
        assert transaction.clock_row() == ClockRow(0.0, scene.now_s)
        attempt = transaction.queries.attempt("e1", (1, 0, 1))
        assert attempt is not None
        assert attempt.deadline_s is None
    store.close()


def test_engines_agree_on_a_step_that_they_see_at_once(shared_url: str) -> None:
    """Two engines, each with its own connection, find the clock set at the same moment: it is undone once."""
    set_by_s = [0.0]
    stores = [SqlStore(shared_url, clock=lambda: time.time() + set_by_s[0]) for _ in range(2)]
    stores[0].upgrade()
    engines = [Clock(is_shared=True) for _ in stores]
    for clock, store in zip(engines, stores, strict=True):
        clock.begin(store)
    for step_s in (7200.0, 0.0, -7200.0):
        began_s, before = time.monotonic(), engines[0].now_s()
        set_by_s[0] = step_s
        threads = [
            threading.Thread(target=clock.measure, args=(store,)) for clock, store in zip(engines, stores, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for clock in engines:
            least = before + time.monotonic() - began_s
            shown = clock.now_s()
            assert least - 0.3 <= shown <= before + time.monotonic() - began_s + 0.3
        with stores[0].write() as transaction:
            assert transaction.clock_row().shift_s == pytest.approx(-step_s, abs=0.3)
    for store in stores:
        store.close()


def test_no_engine_waits_for_another_one_that_notes_the_time(empty_postgres: str) -> None:
    """While one transaction that notes the time is open, as it is until a slow commit has ended, another one goes on;
    the later time is noted by whoever comes next."""
    one, other = open_store(empty_postgres), open_store(empty_postgres)
    one.upgrade()
    with one.write() as slow:
        slow.note_time(5.0)
        noting = threading.Thread(target=note, args=(other, 6.0), daemon=True)
        noting.start()
        noting.join(10)
        assert not noting.is_alive()
    note(other, 7.0)
    note(other, 4.0)
    with one.write() as transaction:
        assert transaction.clock_row() == ClockRow(0.0, 7.0)
    one.close()
    other.close()


def note(store: Store, at_s: float) -> None:
    """Note the time in a transaction of its own."""
    with store.write() as transaction:
        transaction.note_time(at_s)


def test_second_engine_on_a_file_is_refused(empty_sqlite: str) -> None:
    """One engine holds a SQLite file; a second is told which process has it, until the first one closes."""
    first, second = open_store(empty_sqlite), open_store(empty_sqlite)
    first.upgrade()
    first.hold_engine_lock()
    first.hold_engine_lock()
    with pytest.raises(StoreLocked, match=r"process \d+"):
        second.hold_engine_lock()
    first.close()
    second.hold_engine_lock()
    second.close()


def test_engines_share_postgres(empty_postgres: str) -> None:
    """Several engines may serve a PostgreSQL store: there is no lock to hold."""
    first, second = open_store(empty_postgres), open_store(empty_postgres)
    first.hold_engine_lock()
    second.hold_engine_lock()
    first.close()
    second.close()


def test_sqlite_writes_are_durable(empty_sqlite: str) -> None:
    """The file is in WAL mode and each commit is synced: what was answered is not lost with the power."""
    store = SqlStore(empty_sqlite)
    store.upgrade()
    with store.inspect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with store.write() as transaction:
        connection = transaction._connection  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_tasks_that_ended_before_their_ends_were_counted_are_no_fault(shared_url: str) -> None:
    """Rows that are older than the column for the revision of an end have 0 there; `check` takes that, and no other."""
    import sqlalchemy as sa

    store = SqlStore(shared_url)
    store.upgrade()
    save(store, finish_task(add_task(start("e1"), 1, AttemptState.RUNNING), 1, Value(data=1)))
    for ended_at, faults in ((0, 0), (3, 1)):
        with store.write() as transaction:
            connection = transaction._connection  # type: ignore[attr-defined]
            connection.execute(sa.text(f"UPDATE tasks SET ended_at = {ended_at}"))
        assert len(list(check(store))) == faults
    store.close()


def test_reading_store_cannot_write(shared_url: str) -> None:
    """A store opened for reading refuses to write, and so does the database behind any reader."""
    import sqlalchemy as sa

    store = SqlStore(shared_url)
    store.upgrade()
    with pytest.raises((sa.exc.DBAPIError, StoreUnreachable), match=r"read.?only"), store.inspect() as connection:
        connection.exec_driver_sql("DELETE FROM settings")
    store.close()
    reading = open_store(shared_url, read_only=True)
    with pytest.raises(PermissionError), reading.write():
        pass
    with reading.read() as queries:
        assert queries.execution_ids() == []
    reading.close()


def test_lost_database_is_told_from_a_bad_batch(shared_url: str, tmp_path: Path) -> None:
    """is_available is what an engine asks after a failure: yes while the database answers, no once it does not."""
    store = open_store(shared_url)
    store.upgrade()
    with pytest.raises(ZeroDivisionError), store.write():
        _ = 1 / 0
    assert store.is_available()
    store.close()
    missing = SqlStore(f"sqlite:///{tmp_path}/none/store.db", read_only=True)
    assert not missing.is_available()
    nobody = SqlStore("postgresql://nobody@127.0.0.1:1/none")
    assert not nobody.is_available()
    nobody.close()  # else its thread goes on looking, into the connections of later tests


def test_writer_comes_back_after_its_connection_was_cut(empty_postgres: str) -> None:
    """A batch whose connection breaks fails and leaves nothing; the next one has a new connection."""
    import psycopg

    store = open_store(empty_postgres)
    store.upgrade()
    save(store, create("e1"))
    with psycopg.connect(empty_postgres, autocommit=True) as other:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    with pytest.raises(Exception, match=r"terminat|closed|lost"):
        save(store, create("e2"))
    assert store.is_available()
    save(store, create("e3"))
    with store.read() as queries:
        assert queries.execution_ids() == ["e1", "e3"]
    store.close()


@pytest.mark.parametrize("url", ["", "mysql://x", "sqlite://", "sqlite:///:memory:"])
def test_other_urls_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that is not of a store, or none at all, is refused with what would be one."""
    monkeypatch.delenv("DALSEGNO_DATABASE_URL", raising=False)
    with pytest.raises(ValueError, match="sqlite:///"):
        open_store(url)
