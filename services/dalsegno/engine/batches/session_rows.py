"""The rows of sessions that a batch writes: last of all, and in the order of their ids.

Engines hear the same executors, so their batches write the same rows. Every batch locks executions first and sessions
after them, each in the order of ids: so no two batches wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dalsegno.store.records import SessionRow
from dalsegno.store.store import Transaction


class SessionRows:
    """What is written of sessions at the end of a batch."""

    def __init__(self) -> None:
        self._renewed: set[str] = set()
        self._heard_s = self._lease_until_s = 0.0
        self._saved: dict[str, SessionRow] = {}
        self._ended: set[str] = set()

    def renew(self, session_ids: Collection[str], heard_s: float, lease_until_s: float) -> None:
        """Extend the leases of those that have not ended."""
        self._renewed.update(session_ids)
        self._heard_s, self._lease_until_s = heard_s, lease_until_s

    def save(self, session: SessionRow) -> None:
        """Store a session, new or known."""
        self._saved[session.session_id] = session
        self._ended.discard(session.session_id)

    def end(self, session_ids: Collection[str]) -> None:
        """Mark sessions as ended, also those that this batch has saved before."""
        self._ended.update(session_ids)
        for session_id in self._saved.keys() & self._ended:
            self._saved[session_id] = replace(self._saved[session_id], ended=True)

    def opened(self, executor_id: str, session_id: str = "") -> list[SessionRow]:
        """Return the sessions of an executor, and the one with this id, that this batch has opened and not ended."""
        rows = [row for row in self._saved.values() if not row.ended]
        return [row for row in rows if executor_id == row.executor_id or session_id == row.session_id]

    def has_opened(self, session_id: str) -> bool:
        """Return whether this batch has opened the session and not ended it."""
        return session_id in self._saved and not self._saved[session_id].ended

    def has_ended(self, session_id: str) -> bool:
        """Return whether this batch has ended the session."""
        return session_id in self._ended

    def write(self, transaction: Transaction) -> None:
        """Write them. Nothing else may be locked after this."""
        # One row after the other: a new row cannot be locked in advance, and another engine may add the same row now.
        for session_id in sorted(self._saved.keys() | self._ended):
            if session_id in self._saved:
                transaction.save_session(self._saved[session_id])
            else:
                transaction.end_sessions([session_id])
        # This waits for no other transaction. It locks rows in no order, so nothing may be waited for after it.
        if self._renewed:
            transaction.renew_sessions(self._renewed, self._heard_s, self._lease_until_s)
