"""The time that all engines of a store count: the store's clock, corrected for every jump of that clock.

If somebody sets the clock forward or back, no delay, timeout, lease or deadline may move. So an engine counts by a
clock of this machine that nobody can set, and compares it with the store's clock once a second. The engine that sees a
jump first stores the opposite of it in a row, and all engines count the store's time plus that row.

The newest counted time is stored as well, for an engine that starts: its own clock has not seen what happened before.
If the store's time is behind the stored time, the clock was set back. If it is ahead, the engine assumes a long stop,
because a clock that was set forward while no engine ran looks the same.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dalsegno.engine.metrics import CLOCK_SHIFT
from dalsegno.store.records import ClockRow
from dalsegno.store.store import Store, Transaction

MEASURE_EVERY_S = 0.9
"""A little shorter than the engine's tick, so that each tick compares the clocks."""

STEP_S = 0.5
"""A larger difference is a jump: the clock was set. A smaller one is drift, which the engine follows."""

FOLLOW_EVERY_S = 60.0
NOTE_EVERY_S = 0.9
"""How old the stored time may be when something is stored. Nothing stored is newer than the stored time plus this; with
several engines, plus the time that a transaction takes, because an engine does not wait for another one that notes."""

NOTE_IDLE_S = 5.0
"""How old it may be when nothing is stored and no other engine reads it."""

OTHERS_WITHIN_S = 2.5
"""Within this time a running engine has stored a jump in the row, and its time."""

_log = logging.getLogger(__name__)


def choose_steady() -> Callable[[], float]:
    """Return a clock that nobody can set, in seconds. If the system has one, it counts while the machine sleeps."""
    with contextlib.suppress(AttributeError, OSError):
        time.clock_gettime(time.CLOCK_BOOTTIME)
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


@dataclass(frozen=True, slots=True)
class _Reading:
    """The store's clock compared with ours."""

    row: ClockRow
    wall_s: float
    """The time that the store's clock shows."""
    at_s: float
    """The time of the reading by our steady clock."""
    within_s: float
    """The reading may be wrong by this many seconds."""

    @property
    def now_s(self) -> float:
        """The time to count, according to the store."""
        return self.wall_s + self.row.shift_s


class Clock:
    """Seconds since 1970 as all engines of a store count them. The conductor's thread changes it; every thread may read
    it."""

    def __init__(self, steady: Callable[[], float] | None = None, *, is_shared: bool = False) -> None:
        """`is_shared`: other engines may use the same store."""
        self._steady = steady or choose_steady()
        self._is_shared = is_shared
        self._offset_s = time.time() - self._steady()
        """The counted time minus the time of the steady clock."""
        self._last_s = 0.0
        self._measured_s: float | None = None
        """By the steady clock, as are the next two."""
        self._followed_s = 0.0
        self.settled_s = 0.0
        """The time since which it has run without a jump."""
        self.noted_s = 0.0
        """The newest time that this engine has stored."""
        self.shift_s = 0.0
        """What is added to the store's time."""

    def now_s(self) -> float:
        """Return the time now. It never goes back, unless this engine finds that all others count an earlier time."""
        now = self._steady() + self._offset_s
        if now < self._last_s:
            return self._last_s
        self._last_s = now
        return now

    def steady_s(self) -> float:
        """Return seconds that no jump moves, for durations within this process."""
        return self._steady()

    @property
    def is_stale(self) -> bool:
        """Whether it is time to compare it with the store's clock."""
        return self._measured_s is None or self._steady() - self._measured_s >= MEASURE_EVERY_S

    def forget_measure(self) -> None:
        """Compare with the store's clock before anything else is stored: another engine has found that it was set."""
        if self._measured_s is not None:
            self._measured_s = -math.inf

    def is_note_due(self, at_s: float) -> bool:
        """Return whether a transaction that stores something at this time must also store the time."""
        return at_s - self.noted_s >= NOTE_EVERY_S

    def begin(self, store: Store) -> None:
        """Take the time from the store. Call this before everything else. May take `OTHERS_WITHIN_S`.

        Running engines see a jump within a second. An engine that has just started cannot see it. So, if the newest
        stored time is not the present one, it reads again until another engine has stored the present time, or none has
        for long enough.
        """
        ends_s = self._steady() + (OTHERS_WITHIN_S if self._is_shared else 0.0)
        while True:
            with store.write() as transaction:
                reading = self._look(transaction, locks=True)
                latest_s = reading.row.latest_s
                is_present = abs(reading.now_s - latest_s) < NOTE_EVERY_S + STEP_S
                is_known = is_present or not latest_s or self._steady() >= ends_s
                behind_s = latest_s - reading.now_s if is_known else 0.0
                if behind_s > STEP_S:  # the later of the two counts, and nothing stored is newer than this
                    reading = _shifted(transaction, reading, behind_s + NOTE_EVERY_S)
            if behind_s > STEP_S:
                _log.warning(
                    "the store's clock was set back while no engine ran: %.1f s are added to its time", behind_s
                )
            if is_known:
                self._offset_s = reading.now_s - reading.at_s
                self._last_s = latest_s
                self._followed_s = self.settled_s = reading.at_s
                self._keep(reading)
                return
            time.sleep(0.1)

    def measure(self, store: Store, *, notes: bool = True) -> None:
        """Compare with the store's time, in a separate transaction, because the row may stay locked until its end.

        `notes`: whether it also stores the time. A batch that follows stores it itself: a commit may take seconds, and
        its callers wait for one commit only.
        """
        if self._measured_s is None:
            self.begin(store)
            return
        with store.write() as transaction:
            reading = self._look(transaction)
            if self._is_off(reading):
                reading = self._look(transaction, locks=True)  # another engine may just have changed the row
            off_s = self._off_s(reading) if self._is_off(reading) else 0.0
            is_overruled = bool(off_s) and self._is_overruled(reading)
            if off_s and not is_overruled:
                reading = _shifted(transaction, reading, -off_s)
            now = self.now_s()
            is_old = now - self.noted_s >= (NOTE_EVERY_S if self._is_shared else NOTE_IDLE_S)
            notes = notes and is_old and not is_overruled
            if notes:
                transaction.note_time(now)
        if notes:
            self.noted_s = now
        if is_overruled:
            self._take_over(reading)
        elif off_s:
            _log.warning("the store's clock was set by %+.1f s: the engines correct their time", off_s)
        self._keep(reading)

    def _look(self, transaction: Transaction, *, locks: bool = False) -> _Reading:
        row = transaction.clock_row(locks=locks)
        before = self._steady()
        wall_s = transaction.now_s()
        after = self._steady()
        return _Reading(row, wall_s, (before + after) / 2, (after - before) / 2)

    def _off_s(self, reading: _Reading) -> float:
        return reading.now_s - (reading.at_s + self._offset_s)

    def _is_off(self, reading: _Reading) -> bool:
        return abs(self._off_s(reading)) > STEP_S + reading.within_s

    def _is_overruled(self, reading: _Reading) -> bool:
        """Return whether other engines know better: the row has moved and not the clock, or they have counted
        further."""
        moved_s = reading.row.shift_s - self.shift_s
        if abs(self._off_s(reading) - moved_s) <= STEP_S + reading.within_s:
            return True
        return reading.row.latest_s > reading.at_s + self._offset_s + NOTE_EVERY_S + STEP_S

    def _take_over(self, reading: _Reading) -> None:
        off_s = self._off_s(reading)
        _log.warning("other engines count a time that differs by %+.1f s: this engine uses theirs", off_s)
        self._offset_s += off_s
        self._last_s = 0.0
        self.settled_s = reading.at_s

    def _keep(self, reading: _Reading) -> None:
        """Take over what is stored now."""
        self._measured_s = reading.at_s
        self.shift_s = reading.row.shift_s
        CLOCK_SHIFT.set(self.shift_s)
        if reading.at_s - self._followed_s >= FOLLOW_EVERY_S and reading.within_s < STEP_S / 4:
            self._offset_s += self._off_s(reading)
            self._followed_s = reading.at_s


def _shifted(transaction: Transaction, reading: _Reading, by_s: float) -> _Reading:
    shift_s = reading.row.shift_s + by_s
    transaction.shift_clock(shift_s)
    return _Reading(ClockRow(shift_s, reading.row.latest_s), reading.wall_s, reading.at_s, reading.within_s)
