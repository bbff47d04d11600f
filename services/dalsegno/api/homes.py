"""Which engine has an execution in memory: the one that has last told of it. It is a guess that costs nothing."""

from __future__ import annotations

from dalsegno.rpc.peers import Peer

HOMES_MAX = 50_000
"""The number of executions whose engine is known. The oldest are forgotten."""


class Homes:
    """The engines of executions."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def note(self, execution_id: str, engine: Peer | None) -> None:
        """Note which engine has moved an execution; None: it is deleted."""
        self._peers.pop(execution_id, None)
        if engine is not None:
            self._peers[execution_id] = engine
        if len(self._peers) > HOMES_MAX:
            del self._peers[next(iter(self._peers))]

    def of(self, execution_id: str) -> Peer | None:
        """Return the engine of an execution; None if it is not known."""
        return self._peers.get(execution_id)
