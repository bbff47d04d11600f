"""The stream to one executor: the actions that it serves, its credit, and the messages to write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping

from dalsegno.rpc import convert, sizes
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.targets import is_meant

FRAME_BYTES = 40
"""The maximum size of an item in a message in addition to its own, with the time that it has left, in bytes."""

ITEMS_MAX = 500
"""The maximum number of actions or acknowledgements in one message."""

REPORTS_MAX = 1_000
REPORTS_BYTES_MAX = 8 * 1024 * 1024
"""While more reports of an executor are not stored yet, its stream is not read."""

UNREAD_MAX = 10_000
"""While it has not read more acknowledgements, its stream is not read either."""

ACKS_AT_ONCE = 100
ACK_WITHIN_S = 0.02
"""Nobody waits for an acknowledgement, so several travel together. A message costs as much as a small batch."""


class ExecutorStream:
    """The conductor's thread owns `credit`. The event loop owns everything that is written."""

    def __init__(
        self,
        session_id: str,
        executor_id: str,
        actions: Mapping[str, ActionDescription],
        labels: Mapping[str, str],
        credit: int,
        slots: int,
        peer: str = "",
        principal: str = "",
        *,
        answers_inventory: bool = False,
        told_of: Collection[int] = (),
    ) -> None:
        """`principal`: the name of the caller; empty: the engine asks for no token. `told_of`: the numbers of the ended
        engines of which it is known what the executor has."""
        self.answers_inventory = answers_inventory
        self.told_of = set(told_of)
        self.asked: dict[str, float] = {}
        """The ended engines, by id, of which the executor has not yet told what it has; and when it was asked, by the
        steady clock."""
        self.session_id = session_id
        self.principal = principal
        self.executor_id = executor_id
        self.actions = actions
        self.labels = labels
        self.credit = credit
        self.slots = slots
        """The number of actions that its session may run at once, over all its streams."""
        self.peer = peer
        """The address at its other end."""
        self.is_open = True
        """Whether more may be handed out. The event loop sets it, the thread reads it."""
        self.is_ended = False
        """Whether nothing more is written."""
        self.ending: Exception | None = None
        """Why the engine ends the stream."""
        self.heard = False
        """Whether any message came since the lease was last renewed."""
        self._runs: list[wire.RunAction] = []
        self._acks: list[wire.Ack] = []
        self._are_acks_due = False
        self._others: deque[wire.ConnectResponse] = deque()
        self._filled = asyncio.Event()
        self._reports = self._reports_bytes = 0
        self._has_room = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether the engine does not read the stream because too many reports are not stored yet. So the executor
        counts as heard."""
        return self._reports > REPORTS_MAX or self._reports_bytes > REPORTS_BYTES_MAX

    def take_in(self, size: int) -> None:
        """Count a report of this many bytes, which is to be stored."""
        self._reports += 1
        self._reports_bytes += size

    def settle(self, size: int) -> None:
        """Count a report as stored or refused."""
        self._reports -= 1
        self._reports_bytes -= size
        self._has_room.set()

    @property
    def is_full(self) -> bool:
        """Whether the stream must not be read on."""
        return self._reports > REPORTS_MAX or self._reports_bytes > REPORTS_BYTES_MAX or len(self._acks) > UNREAD_MAX

    async def room(self) -> None:
        """Wait until the stream may be read on."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()

    def fits(self, target: str) -> bool:
        """Return whether a task's `target` names this executor."""
        return is_meant(target, self.executor_id, self.labels)

    def serves(self, action: str, digest: str, given: tuple[str, ...] | None) -> bool:
        """Return whether it may get an attempt of the action whose input has the parameters `given`.

        That is so if it serves the action with the description of this digest, or with one that accepts such an input.
        If `given` is None, the parameters are unknown, and it may.
        """
        own = self.actions.get(action)
        return own is not None and (given is None or own.digest == digest or own.takes(given))

    def run(self, actions: list[wire.RunAction]) -> None:
        """Send actions."""
        self._runs.extend(actions)
        self._filled.set()

    def acknowledge(self, ack: wire.Ack) -> None:
        """Send an acknowledgement."""
        self._acks.append(ack)
        count = len(self._acks)
        if count >= ACKS_AT_ONCE and not self._are_acks_due:
            self._acks_due()
        elif count == 1:
            asyncio.get_running_loop().call_later(ACK_WITHIN_S, self._acks_due)

    def _acks_due(self) -> None:
        self._are_acks_due = True
        self._filled.set()

    def send(self, message: wire.ConnectResponse) -> None:
        """Send any other message, before the actions and acknowledgements."""
        self._others.append(message)
        self._filled.set()

    def end(self, reason: Exception | None = None) -> None:
        """Write all messages, then end the stream."""
        self.is_open = False
        self.is_ended = True
        self.ending = self.ending or reason
        self._filled.set()

    def close(self) -> list[wire.RunAction]:
        """Close the stream. Return the actions that were never sent."""
        self.is_open = False
        unsent, self._runs = self._runs, []
        return unsent

    async def wait(self) -> None:
        """Wait until there is something to write, or the stream must end."""
        await self._filled.wait()
        self._filled.clear()

    def messages(self) -> Iterator[wire.ConnectResponse]:
        """Yield the messages to write. Each is removed when the caller asks for it."""
        while self._others:
            yield self._others.popleft()
        while self._acks and (self._are_acks_due or self.is_ended):
            batch = sizes.first_of(self._acks, count=ITEMS_MAX)
            del self._acks[: len(batch)]
            self._has_room.set()
            message = wire.ConnectResponse()
            message.ack.acks.extend(batch)  # filled in place: a batch that is made first would be copied
            yield message
        self._are_acks_due = False
        while self._runs and not self.is_ended:  # otherwise they count as never sent
            actions = sizes.first_of(self._runs, count=ITEMS_MAX, frame_bytes=FRAME_BYTES)
            del self._runs[: len(actions)]
            message = wire.ConnectResponse()
            message.run_action.actions.extend(actions)
            yield message


def count_down(message: wire.ConnectResponse, now_s: float) -> None:
    """Set the time that the actions in a message have left, just before it is written. 0: the time is over."""
    for action in message.run_action.actions:
        if action.HasField("deadline"):
            left_s = max(0.0, convert.seconds_of(action.deadline) - now_s)
            action.time_left.CopyFrom(convert.duration(left_s))
