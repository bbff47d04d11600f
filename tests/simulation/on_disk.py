"""The simulation on a SQLite file that all engines share: slower, and with the real statements."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.simulation.stepped import Timeline

from dalsegno.store import transaction
from dalsegno.store.opening import open_store
from dalsegno.store.store import Store


@contextmanager
def on_disk() -> Iterator[Callable[[Timeline], Store]]:
    """Give a function that opens a new store on a file in a temporary folder."""
    opened: list[Store] = []
    module: Any = transaction
    before = module.time
    with tempfile.TemporaryDirectory() as folder:

        def store_of(timeline: Timeline) -> Store:
            module.time = timeline
            store = open_store(f"sqlite:///{Path(folder) / f'{len(opened)}.db'}")
            store.upgrade()
            opened.append(store)
            return store

        try:
            yield store_of
        finally:
            module.time = before
            for store in opened:
                store.close()
