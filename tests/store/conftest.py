"""The stores that sit the exam."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from tests.postgres import NoPostgres, run_postgres

from dalsegno.store.opening import open_store
from dalsegno.store.store import Store

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server of our own; the tests that need one are skipped, with the reason, where none can be started."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest.fixture
def empty_postgres(postgres_url: str) -> str:
    """The URL of a fresh database."""
    name = f"exam_{next(_NUMBERS)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_url.rpartition('/')[0]}/{name}"


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    """The URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/data/store.db"


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    """Each kind of store in turn, empty."""
    if request.param == "memory":
        return "memory://"
    found: str = request.getfixturevalue(f"empty_{request.param}")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Each kind of store in turn, with its tables."""
    opened = open_store(url)
    opened.upgrade()
    yield opened
    opened.close()
