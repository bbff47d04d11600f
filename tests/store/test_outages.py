"""A store that is unavailable: everybody who reads is told when to ask again, and is answered once it is back."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.postgres import NoPostgres, Server, run_server
from tests.store.public import UNKNOWN, Rpc, rpcs
from tests.store.scenes import add_task, save, start

from dalsegno.api import reads as api_reads
from dalsegno.api.service import Api
from dalsegno.api.settings import Settings
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.rpc.tokens import TASK_TOKEN_KEY
from dalsegno.store import sql
from dalsegno.store.opening import open_store
from dalsegno.store.store import Store, StoreDamaged, StoreUnreachable

READS = [rpc for rpc in rpcs() if rpc.is_read and rpc.method.name != "GetServerInfo"]
"""All that ask the store: what the server itself is it says without."""

ORQUESTA = "version: 1.0\ntasks: {t: {action: pack.unknown}}"

FIELDS: dict[str, Any] = {
    "execution_id": UNKNOWN,
    "task_execution_id": f"{UNKNOWN}.1",
    "action_execution_id": f"{UNKNOWN}.1.0.1",
    "field": "result",
    "name": "some.name",
    "text": ORQUESTA,
}
"""What a request needs to reach the store."""

Outage = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server that may be stopped."""
    try:
        with run_server() as running:
            yield running
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["stopped", "locked", "damaged", "away"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Outage]:
    """A database with an execution, and the way to take it away for a while."""
    monkeypatch.setattr(sql, "_READER_WAITS_S", 0.2)
    file = tmp_path / "store.db"
    url = f"sqlite:///{file}"
    outage: Outage = {"locked": _locked, "damaged": _damaged, "away": _away}.get(request.param, _locked)(file)
    if request.param == "stopped":
        server: Server = request.getfixturevalue("server")
        url, outage = server.url, lambda: _stopped(server)
    store = open_store(url)
    settle_key(store)
    with store.write() as transaction:
        transaction.delete_execution(UNKNOWN)
    save(store, add_task(start(UNKNOWN), 1))
    store.close()
    return url, outage


@contextmanager
def _stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def _locked(file: Path) -> Outage:
    @contextmanager
    def outage() -> Iterator[None]:
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.close()

    return outage


def _damaged(file: Path) -> Outage:
    @contextmanager
    def outage() -> Iterator[None]:
        sound = file.read_bytes()
        file.write_bytes(b"no database" + sound[11:])
        yield
        file.write_bytes(sound)

    return outage


def _away(file: Path) -> Outage:
    @contextmanager
    def outage() -> Iterator[None]:
        file.rename(file.with_suffix(".away"))
        file.mkdir()
        yield
        file.rmdir()
        file.with_suffix(".away").rename(file)

    return outage


def settle_key(store: Store) -> None:
    """Bring a store to where an engine has opened it."""
    store.upgrade()
    with store.write() as transaction:
        transaction.settle(TASK_TOKEN_KEY, "ab" * 32)


def make_request(rpc: Rpc) -> Any:
    """A request that asks the store."""
    request = rpc.request()
    for name, value in FIELDS.items():
        if name in request.DESCRIPTOR.fields_by_name and not name.startswith("parent"):
            setattr(request, name, value)
    return request


@asynccontextmanager
async def serve_reads(url: str) -> AsyncIterator[grpc.aio.Channel]:
    """An api over the database, without an engine: nobody writes."""
    store = open_store(url, read_only=True)
    api = Api(Settings(listen="127.0.0.1:0", engines=("127.0.0.1:1",), grace_s=0.5), store)
    await api.start()
    try:
        async with open_channel(f"127.0.0.1:{api.port}") as channel:
            yield channel
    finally:
        await api.stop()
        store.close()
        del api
        gc.collect()  # a server of grpc must be gone before its loop is


async def failure_of(call: Any) -> Failure | None:
    """How a call fails; None when it does not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read_failure(error)
    return None


@pytest.mark.alone("its calls have deadlines of 3 s")
async def test_readers_are_told_when_to_ask_again(place: tuple[str, Outage]) -> None:
    """Without a store every public read is UNAVAILABLE with a delay, names no host and no file, and afterwards
    each is answered by the same api."""
    url, outage = place
    async with serve_reads(url) as channel:
        with outage():
            failures = await asyncio.gather(*(failure_of(rpc.ask(channel, make_request(rpc))) for rpc in READS))
            for rpc, failure in zip(READS, failures, strict=True):
                assert failure is not None, rpc.name
                told = (failure.code, failure.reason, failure.retry_s, failure.message)
                expected = (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", 1.0, "the store cannot be read at present")
                assert told == expected, rpc.name
        answers = await asyncio.gather(*(failure_of(rpc.ask(channel, make_request(rpc), 3.0)) for rpc in READS))
        for rpc, later in zip(READS, answers, strict=True):
            assert later is None or later.code is grpc.StatusCode.NOT_FOUND, (rpc.name, later)


@pytest.mark.alone("its calls have deadlines of 3 s")
async def test_a_watcher_is_told_and_goes_on(server: Server) -> None:
    """What waits or watches when PostgreSQL stops ends with UNAVAILABLE and a delay, and begins again afterwards."""
    store = open_store(server.url)
    settle_key(store)
    with store.write() as transaction:
        transaction.delete_execution(UNKNOWN)
    save(store, add_task(start(UNKNOWN), 1))
    store.close()
    watch = next(rpc for rpc in READS if rpc.method.name == "WatchExecution")
    wait = next(rpc for rpc in READS if rpc.method.name == "WaitExecution")
    request = watch.request(execution_id=UNKNOWN)
    async with serve_reads(server.url) as channel:
        first = await watch.ask(channel, request)
        waiting = asyncio.create_task(failure_of(wait.ask(channel, wait.request(execution_id=UNKNOWN), 3.0)))
        await asyncio.sleep(0.3)
        with _stopped(server):
            request.resume_token = first.resume_token
            failure = await failure_of(watch.ask(channel, request))
            waited = await waiting
        assert failure is not None
        assert waited is not None
        for each in (failure, waited):
            assert (each.code, each.retry_s) == (grpc.StatusCode.UNAVAILABLE, 1.0)
        request.from_first_change, request.resume_token = True, ""
        assert (await watch.ask(channel, request)).changes.changes


async def test_a_restored_backup_is_told_to_watchers(tmp_path: Path) -> None:
    """A token of a revision that the backup does not have is OUT_OF_RANGE: to continue silently would skip changes."""
    file, url = tmp_path / "store.db", f"sqlite:///{tmp_path}/store.db"
    store = open_store(url)
    settle_key(store)
    scene = start(UNKNOWN)
    save(store, scene)
    store.close()
    backup = file.read_bytes()
    store = open_store(url)
    save(store, add_task(scene, 1))
    store.close()
    watch = next(rpc for rpc in READS if rpc.method.name == "WatchExecution")
    request = watch.request(execution_id=UNKNOWN)
    async with serve_reads(url) as channel:
        request.resume_token = (await watch.ask(channel, request)).resume_token
    file.write_bytes(backup)
    async with serve_reads(url) as channel:
        failure = await failure_of(watch.ask(channel, request))
        assert failure is not None
        assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_AHEAD")
        assert "start again without a token" in failure.message
        request.resume_token = ""
        assert (await watch.ask(channel, request)).snapshot.last


async def test_a_store_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that takes a connection and says nothing keeps no caller to its deadline."""
    monkeypatch.setattr(api_reads, "READ_S", 0.5)
    get = next(rpc for rpc in READS if rpc.method.name == "GetExecution")
    silent = socket.create_server(("127.0.0.1", 0))
    async with serve_reads(f"postgresql://tester@127.0.0.1:{silent.getsockname()[1]}/x") as channel:
        failure = await failure_of(get.ask(channel, get.request(execution_id=UNKNOWN)))
        silent.close()
    assert failure is not None
    assert (failure.code, failure.retry_s) == (grpc.StatusCode.UNAVAILABLE, 1.0)


def _look(opening: Callable[[], AbstractContextManager[Any]]) -> object:
    """What is found of the execution, read or within a write transaction."""
    with opening() as opened:
        return getattr(opened, "queries", opened).execution(UNKNOWN)


def test_a_store_that_is_away_is_said_in_one_sentence(place: tuple[str, Outage]) -> None:
    """Reading and writing raise one error for all that may be the matter, and what it says is one line."""
    url, outage = place
    store = open_store(url)
    with outage():
        for opening in (store.read, store.write) if url.startswith("postgres") else (store.read,):
            with pytest.raises(StoreUnreachable) as caught:
                _look(opening)
            assert "\n" not in str(caught.value)
            assert isinstance(caught.value, StoreDamaged) == ("file is not a database" in str(caught.value))
    assert _look(store.read) is not None
    assert _look(store.write) is not None
    store.close()
