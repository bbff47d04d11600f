"""Counts how many actions each executor's session runs now, as stored. Its slots limit what it gets.

An attempt occupies a slot from its hand-out until its executor reports on it (even if that report is stored later), or
until it ends, is paused, is delegated, or moves to another session. Used in the conductor's thread only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dalsegno.engine.batches.staged import StagedExecution
from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import Attempt

Name = tuple[str, AttemptKey]
"""An attempt: its execution and its key."""


class Occupancy:
    """The attempts that sessions run. Decisions of a batch count at once, and are undone if the batch fails."""

    def __init__(self) -> None:
        self._holders: dict[Name, str] = {}
        """The session that runs each attempt."""
        self._counts: dict[str, int] = {}
        self._reported: dict[Name, str] = {}
        """Attempts on which sessions have reported, when the reports are not stored yet."""
        self._moves: dict[Name, str] = {}
        """The session of each attempt after the current batch; empty for none."""
        self._change: dict[str, int] = {}
        """The differences that the current batch makes to the counts."""

    def count(self, session_id: str) -> int:
        """Return how many attempts the session runs."""
        return self._counts.get(session_id, 0) + self._change.get(session_id, 0)

    def recount(self, found: Mapping[str, Collection[Name]]) -> None:
        """Replace what these sessions run by what the store says."""
        if not found:
            return
        for name in [name for name, session_id in self._holders.items() if session_id in found]:
            del self._holders[name]
        reported = {name for name, session_id in self._reported.items() if session_id in found}
        for session_id, names in found.items():
            running = [name for name in names if name not in reported]
            self._holders.update(dict.fromkeys(running, session_id))
            self._counts[session_id] = len(running)
            reported.difference_update(names)
        for name in reported:  # stored by now
            del self._reported[name]

    def report(self, name: Name, session_id: str) -> None:
        """Note that the session has reported on an attempt, and so no longer runs it."""
        if self._holders.get(name) == session_id:
            del self._holders[name]
            self._counts[session_id] -= 1
            self._reported[name] = session_id

    def take_in(self, batch: Iterable[StagedExecution]) -> None:
        """Note the changes of attempts in the current batch."""
        for staged in batch:
            execution = staged.copy.execution
            for change in staged.changes:
                if type(change) is AttemptMoved:
                    attempt = execution.attempts.get(change.key)
                    self._move((execution.id, change.key), "" if attempt is None else _holder(attempt))

    def hand(self, name: Name, session_id: str) -> None:
        """Note that the current batch hands an attempt to a session."""
        self._move(name, session_id)

    def commit(self) -> None:
        """Keep what the batch changed: it is stored."""
        for name, session_id in self._moves.items():
            self._reported.pop(name, None)
            if session_id:
                self._holders[name] = session_id
            else:
                self._holders.pop(name, None)
        for session_id, change in self._change.items():
            self._counts[session_id] = self._counts.get(session_id, 0) + change
        self.roll_back()

    def roll_back(self) -> None:
        """Undo what the batch changed: it has failed."""
        self._moves, self._change = {}, {}

    def forget(self, session_ids: Collection[str]) -> None:
        """Remove sessions that have ended."""
        self.recount({session_id: () for session_id in session_ids})
        for session_id in session_ids:
            self._counts.pop(session_id, None)

    def _move(self, name: Name, session_id: str) -> None:
        before = self._moves.get(name)
        if before is None:
            before = self._holders.get(name, "")
        if before == session_id and name not in self._reported:
            return
        self._moves[name] = session_id
        if before:
            self._change[before] = self._change.get(before, 0) - 1
        if session_id:
            self._change[session_id] = self._change.get(session_id, 0) + 1


def _holder(attempt: Attempt) -> str:
    """Return the session that runs an attempt; empty for none."""
    return attempt.session_id if attempt.is_active and not attempt.child_id else ""
