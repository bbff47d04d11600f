"""Whether the store is written at present: it may be lost, or hang."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dalsegno.store.stalls import Stall

HANGS_S = 3.5
"""After this time a call of the store hangs: clients go elsewhere, or wait. A commit of 2 s is only slow, on a busy
machine, too. An api says so within 5 s: it hears of it within a second and a half."""

_log = logging.getLogger(__name__)


class Readiness:
    """What is known of the store. Use it on the event loop."""

    def __init__(self, steady: Callable[[], float]) -> None:
        """`steady`: the steady clock, in seconds."""
        self.lost = ""
        """Why it cannot be written, as the first batch found; empty: the last batch did not find that."""
        self.stall = ""
        """Why it is not written although it is not lost: a commit, or what precedes it, hangs. Empty: it does not."""
        self.recovered_s = 0.0
        """When it could be written again, by the steady clock. Leases do not end soon after."""
        self._steady = steady

    @property
    def is_ready(self) -> bool:
        """Whether it is written, as far as is known."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why it is not written, for operators; empty if it is."""
        if self.lost:
            return self.lost
        return f"the store is not written at present: {self.stall}" if self.stall else ""

    @property
    def told(self) -> str:
        """Why it hangs, for the message of a refusal. Why it is lost may name hosts and folders."""
        return f": {self.stall}" if self.stall else ""

    def lose(self, reason: str) -> None:
        """Note that it does not answer."""
        if not self.lost:
            _log.error("the store cannot be written: %s", reason)
        self.lost, self.stall = self.lost or reason or "the store cannot be written", ""

    def look(self, stall: Stall) -> None:
        """Note for how long its writer has been waiting."""
        if stall.lasts_s >= HANGS_S:
            if self.is_ready:
                _log.error("the store is not written at present: %s, for %.1f s so far", stall.reason, stall.lasts_s)
            self.stall = stall.reason
        elif self.stall:
            self._recover(self.lost)

    def note_end(self, *, wrote: bool) -> None:
        """Note that a batch has ended without a loss. `wrote`: it had something to write."""
        if not self.is_ready:
            self._recover("" if wrote else self.lost)

    def _recover(self, lost: str) -> None:
        self.lost, self.stall = lost, ""
        if not lost:
            self.recovered_s = self._steady()
            _log.warning("the store can be written again")
