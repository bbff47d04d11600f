"""Opens the store that a URL names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dalsegno.store.address import read_address
from dalsegno.store.memory import MemoryStore
from dalsegno.store.sql import SqlStore, file_path
from dalsegno.store.store import Store

DATABASE_URL = "DALSEGNO_DATABASE_URL"
"""The environment variable with the store's URL."""


def open_store(
    url: str | None = None, *, read_only: bool = False, readers: int = 8, clock: Callable[[], float] | None = None
) -> Store:
    """Open the store behind `sqlite:///path`, `postgresql://...` or `memory://`.

    Without a URL, use DALSEGNO_DATABASE_URL. `readers`: the number of connections that read at the same time. `clock`
    gives the store's time in seconds since 1970; None: PostgreSQL's own clock, or this machine's. Raises ValueError for
    any other URL, and if there is none.
    """
    url = url or os.environ.get(DATABASE_URL, "")
    if url.startswith("memory:"):
        return MemoryStore(clock)
    if url.startswith(("sqlite:", "postgresql:", "postgres:")):
        return SqlStore(url, read_only=read_only, readers=readers, clock=clock)
    if not url:
        raise ValueError(f"no store: set {DATABASE_URL} to sqlite:///path or postgresql://...")
    raise ValueError(f"not a store: {url.partition(':')[0]}: (sqlite:///path, postgresql://... or memory://)")


def file_of(url: str) -> Path | None:
    """Return the path of a SQLite store, without symbolic links. None for any other store."""
    if not url.startswith("sqlite:"):
        return None
    return file_path(url).resolve()


def address_of(url: str) -> str:
    """Return the URL of a PostgreSQL database without its password."""
    return read_address(url).shown
