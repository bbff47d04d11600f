"""One executor's stream as the engine sees it: what it serves, its credit, and what is to be written to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping

from dalsegno.rpc import convert, sizes
from dalsegno.store.descriptions import is_meant
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.model import ActionDescription

FRAME_BYTES = 40
"""What an item takes in a message beside itself, and the time that it has left, at most."""

ITEMS_MAX = 500
"""As many actions or acknowledgements go into one message."""

REPORTS_MAX = 1_000
REPORTS_BYTES_MAX = 8 * 1024 * 1024
"""With more reports of an executor that are not stored yet its stream is read no further."""

UNREAD_MAX = 10_000
"""With more acknowledgements that it has not taken off its stream, an executor is read no further either."""

ACKS_AT_ONCE = 100
ACK_WITHIN_S = 0.02
"""Nobody waits for an acknowledgement, so a few travel together: a message costs as much as a small batch."""


class ExecutorStream:
    """The conductor's thread owns `credit`; the event loop everything that is written."""

    def __init__(
        self,
        session_id: str,
        executor_id: str,
        actions: Mapping[str, ActionDescription],
        labels: Mapping[str, str],
        credit: int,
        slots: int,
        peer: str = "",
    ) -> None:
        self.session_id = session_id
        self.executor_id = executor_id
        self.actions = actions
        self.labels = labels
        self.credit = credit
        self.slots = slots
        """How many actions its session runs at once, over all its streams."""
        self.peer = peer
        """The address at its other end."""
        self.is_open = True
        """Whether more may be handed out. Set by the loop, read by the thread."""
        self.is_ended = False
        """Whether nothing more is to be written."""
        self.ending: Exception | None = None
        """Why the engine ends the stream."""
        self.heard = False
        """Whether anything came since the lease was last renewed."""
        self._runs: list[wire.RunAction] = []
        self._acks: list[wire.Ack] = []
        self._are_acks_due = False
        self._others: deque[wire.ConnectResponse] = deque()
        self._filled = asyncio.Event()
        self._reports = self._reports_bytes = 0
        self._has_room = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether the engine does not read on because it has enough to do with what it was told: nothing is heard."""
        return self._reports > REPORTS_MAX or self._reports_bytes > REPORTS_BYTES_MAX

    def take_in(self, size: int) -> None:
        """A report of so many bytes is on its way to the store."""
        self._reports += 1
        self._reports_bytes += size

    def settle(self, size: int) -> None:
        """It is stored, or refused."""
        self._reports -= 1
        self._reports_bytes -= size
        self._has_room.set()

    @property
    def is_full(self) -> bool:
        """Whether there is no room for what the executor says next."""
        return self._reports > REPORTS_MAX or self._reports_bytes > REPORTS_BYTES_MAX or len(self._acks) > UNREAD_MAX

    async def room(self) -> None:
        """Until there is room for what the executor says next."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()

    def fits(self, target: str) -> bool:
        """Whether a task's `target` names this executor."""
        return is_meant(target, self.executor_id, self.labels)

    def serves(self, action: str, digest: str, given: tuple[str, ...] | None) -> bool:
        """Whether it may be handed an attempt of the action whose input, made by the description of this digest, has
        the parameters `given`: when it serves it by that description, or by one that takes such an input. None: they
        are not known, so that it may perhaps."""
        own = self.actions.get(action)
        return own is not None and (given is None or own.digest == digest or own.takes(given))

    def run(self, actions: list[wire.RunAction]) -> None:
        """Have actions sent."""
        self._runs.extend(actions)
        self._filled.set()

    def acknowledge(self, ack: wire.Ack) -> None:
        """Have an acknowledgement sent."""
        self._acks.append(ack)
        if len(self._acks) >= ACKS_AT_ONCE:
            self._acks_due()
        elif len(self._acks) == 1:
            asyncio.get_running_loop().call_later(ACK_WITHIN_S, self._acks_due)

    def _acks_due(self) -> None:
        self._are_acks_due = True
        self._filled.set()

    def send(self, message: wire.ConnectResponse) -> None:
        """Have any other message sent, before those."""
        self._others.append(message)
        self._filled.set()

    def end(self, reason: Exception | None = None) -> None:
        """Write what there is, then end the stream."""
        self.is_open = False
        self.is_ended = True
        self.ending = self.ending or reason
        self._filled.set()

    def close(self) -> list[wire.RunAction]:
        """The stream is gone. What was to be run and was never sent."""
        self.is_open = False
        unsent, self._runs = self._runs, []
        return unsent

    async def wait(self) -> None:
        """Until there is something to write, or the stream is to end."""
        await self._filled.wait()
        self._filled.clear()

    def messages(self) -> Iterator[wire.ConnectResponse]:
        """What there is to write, in batches; each is taken off when it is asked for."""
        while self._others:
            yield self._others.popleft()
        while self._acks and (self._are_acks_due or self.is_ended):
            batch = sizes.first_of(self._acks, count=ITEMS_MAX)
            del self._acks[: len(batch)]
            self._has_room.set()
            yield wire.ConnectResponse(ack=wire.AckBatch(acks=batch))
        self._are_acks_due = False
        while self._runs:
            actions = sizes.first_of(self._runs, count=ITEMS_MAX, frame_bytes=FRAME_BYTES)
            del self._runs[: len(actions)]
            yield wire.ConnectResponse(run_action=wire.RunActionBatch(actions=actions))


def count_down(message: wire.ConnectResponse, now_s: float) -> None:
    """Say of the actions in a message that is just written how much time they have left: 0 when none is."""
    for action in message.run_action.actions:
        if action.HasField("deadline"):
            left_s = max(0.0, convert.seconds_of(action.deadline) - now_s)
            action.time_left.CopyFrom(convert.duration(left_s))
