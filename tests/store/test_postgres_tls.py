"""PostgreSQL by TLS: what libpq's parameters of the URL ask for is what the store gets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.certificates import Issuer
from tests.postgres import NoPostgres, Server, run_server

from dalsegno.store.opening import open_store
from dalsegno.store.store import StoreUnreachable


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Provide the authority of the server's certificate."""
    return Issuer(tmp_path_factory.mktemp("postgres"))


@pytest.fixture(scope="module")
def server(issuer: Issuer) -> Iterator[Server]:
    """Provide a server with a certificate for localhost."""
    pair = issuer.issue("database", "localhost")
    try:
        with run_server() as running:
            data = Path(running.ask("SHOW data_directory"))
            owner = data.stat()
            for file, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
                shutil.copy(file, data / name)
                os.chown(data / name, owner.st_uid, owner.st_gid)
                (data / name).chmod(0o600)
            running.alter("ssl = on")
            yield running
    except NoPostgres as error:
        pytest.skip(str(error))


def url_of(server: Server, host: str, ca: str) -> str:
    """The URL that asks for the right server."""
    return f"postgresql://tester@{host}:{server.port}/postgres?sslmode=verify-full&sslrootcert={ca}"


def test_the_store_speaks_tls_with_the_right_server(server: Server, issuer: Issuer) -> None:
    """With sslmode=verify-full every connection of engine and api is encrypted, and the store works."""
    store = open_store(url_of(server, "localhost", issuer.ca))
    try:
        store.upgrade()
        store.check_version()
        with psycopg.connect(server.url) as connection:
            found = connection.execute(
                "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE client_port IS NOT NULL AND pid <> pg_backend_pid()"
            ).fetchone()
    finally:
        store.close()
    assert found is not None
    assert found[0] > 0
    assert found[1] is True


def test_another_server_is_not_taken_for_it(server: Server, issuer: Issuer, tmp_path: Path) -> None:
    """A certificate of another authority, another name and a missing file are told when the store is opened."""
    foreign = Issuer(tmp_path / "foreign")
    for host, ca, told in (
        ("localhost", foreign.ca, "certificate verify failed"),
        ("127.0.0.1", issuer.ca, 'does not match host name "127.0.0.1"'),
        ("localhost", str(tmp_path / "none.pem"), "none.pem"),
    ):
        with pytest.raises(StoreUnreachable, match=told):
            open_store(url_of(server, host, ca)).check_version()
