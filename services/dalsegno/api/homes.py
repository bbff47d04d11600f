"""Which engine has an execution in memory: the one that has last told of it. It is a guess that costs nothing."""

from __future__ import annotations

from itertools import islice

from dalsegno.rpc.peers import Peer

HOMES_MAX = 50_000
"""The number of executions whose engine is known. The oldest are forgotten, a tenth at a time."""


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
            # Many at once: to find the oldest, a dict passes over the places of all that were deleted before it.
            for oldest in list(islice(self._peers, max(1, HOMES_MAX // 10))):
                del self._peers[oldest]

    def of(self, execution_id: str) -> Peer | None:
        """Return the engine of an execution; None if it is not known."""
        return self._peers.get(execution_id)
