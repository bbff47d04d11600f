"""Signs of life of the engines that share a store: each renews its row, and ends those that no longer do
(dalsegno/README.md#executors).

This has a thread and a connection of its own, because a batch may take long, or wait for rows that a dead engine has
locked. How long another engine is silent is counted by this machine's steady clock, from when its row was last seen to
change: no clock that somebody sets ends an engine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dalsegno.engine.processes import is_gone
from dalsegno.store.outages import is_outage
from dalsegno.store.records import EngineRow
from dalsegno.store.store import Store

BEAT_S = 1.0
PATIENCE_S = 3.0
"""After this time without a sign of life an engine is ended."""

SLOWNESS = 3.0
"""An engine is given this many times its longest transaction, if that is longer."""

GAP = 2 / 3
"""An engine that has not written for this part of another one's time itself cannot say that the other has not."""

REMEMBERED = 60
"""Of how many beats the longest transactions count."""

TRIES = 5
TRY_AGAIN_S = 0.1
"""How often, and how soon after each other, it tries to end an engine whose last transaction is still open."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """When the row of another engine was last seen to change."""

    beats: int
    at_s: float


class Pulse:
    """Renews the row of this engine once a second, and watches those of the others."""

    def __init__(
        self,
        store: Store,
        number: int,
        longest_s: Callable[[], float],
        on_ended: Callable[[], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`longest_s` returns the duration of the longest transaction since its last call. `on_ended` is called once,
        from any thread, when another engine has ended this one."""
        self._store = store
        self._number = number
        self._longest_s = longest_s
        self._on_ended = on_ended
        self._steady = steady
        self._longest: deque[float] = deque(maxlen=REMEMBERED)
        self._seen: dict[int, _Seen] = {}
        self._wrote_s = steady()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current beat. Blocks."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Renew the row of this engine, and end those of engines that are gone or silent."""
        began_s = self._steady()
        try:
            is_living = self._store.renew_engine(self._number, self._patience_s())
            if is_living:
                with self._store.read() as queries:
                    rows = list(queries.engines().values())
                self._watch(rows, began_s)
        except Exception as error:
            if not is_outage(error):
                raise
            _log.debug("no sign of life: %s", error)
            return
        if not is_living:
            self._stopped.set()
            self._on_ended()
            return
        self._longest.append(self._steady() - began_s)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            try:
                self.beat()
            except Exception:
                _log.exception("a sign of life failed")

    def _patience_s(self) -> float:
        self._longest.append(self._longest_s())
        return max(PATIENCE_S, SLOWNESS * max(self._longest))

    def _watch(self, rows: list[EngineRow], began_s: float) -> None:
        now_s = self._steady()
        gap_s, self._wrote_s = now_s - self._wrote_s, now_s
        others = [row for row in rows if not row.ended and row.number != self._number]
        self._seen = {row.number: self._seen[row.number] for row in others if row.number in self._seen}
        for row in others:
            seen = self._seen.get(row.number)
            patience_s = max(PATIENCE_S, row.patience_s)
            if gap_s > GAP * patience_s:  # perhaps nobody could write
                seen = self._seen[row.number] = _Seen(row.beats, now_s)
            elif seen is None or seen.beats != row.beats:
                seen = self._seen[row.number] = _Seen(row.beats, began_s)
            silent_s = now_s - seen.at_s
            if silent_s > patience_s:
                self._end(row, f"it has been silent for {silent_s:.1f} s")
            elif is_gone(row.process):
                self._end(row, "its process is gone")

    def _end(self, row: EngineRow, reason: str) -> None:
        for left in reversed(range(TRIES)):
            if self._store.end_engine(row.number):
                _log.warning("engine %d (%s) is ended: %s", row.number, row.id, reason)
                return
            if left:
                time.sleep(TRY_AGAIN_S)
