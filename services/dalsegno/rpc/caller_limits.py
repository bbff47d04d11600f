"""How much one caller may ask of one server: calls a second, starts a minute, and calls that are open for long."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass

from dalsegno.access.callers import Caller
from dalsegno.access.grants import Role
from dalsegno.v1 import action_service_pb2, execution_service_pb2, operation_pb2
from dalsegno.workflow.refusals import Overloaded

CALLERS_MAX = 10_000
"""The number of callers that are counted. One that has not called for the longest time is forgotten: it may do as much
again as one that is new."""

RETRY_LEAST_S = 0.01

MINUTE_S = 60.0

_STARTS = (execution_service_pb2.StartExecutionRequest, action_service_pb2.RunActionRequest)
_NEW = (operation_pb2.RERUN_FROM_BEGINNING, operation_pb2.RERUN_FROM_CHECKPOINT)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each caller; 0: none."""

    calls_a_second: int = 0
    open_calls: int = 0
    """Streams and waits."""
    starts_a_minute: int = 0
    """Executions, and actions without a workflow."""


class CallerLimits:
    """Counts the calls of each account. Services of our own have no limits: they call for others."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls = _Allowance(limits.calls_a_second, 1.0)
        self._starts = _Allowance(limits.starts_a_minute, MINUTE_S)
        self._open: Counter[str] = Counter()
        """By account: how many streams and waits it has open."""

    def take(self, caller: Caller) -> None:
        """Count a call. Raises Overloaded, with the time after which there is one left."""
        if _is_limited(caller) and (left_s := self._calls.take(caller.account)):
            raise Overloaded(f"{caller.name!r} makes more than {self._limits.calls_a_second} calls a second", left_s)

    def start(self, caller: Caller, request: object) -> None:
        """Count a request that starts something; others, and dry runs, are none. Raises Overloaded, with the time after
        which a start is left."""
        if is_start(request) and _is_limited(caller) and (left_s := self._starts.take(caller.account)):
            most = self._limits.starts_a_minute
            raise Overloaded(f"{caller.name!r} starts more than {most} executions and actions a minute", left_s)

    async def start_in_turn(self, caller: Caller, request: object) -> None:
        """Count a request that starts something as soon as its caller may have another start."""
        while True:
            try:
                self.start(caller, request)
            except Overloaded as refused:
                await asyncio.sleep(refused.retry_s)
            else:
                return

    def limits_starts(self, caller: Caller) -> bool:
        """Return whether the starts of a caller are counted."""
        return bool(self._limits.starts_a_minute) and _is_limited(caller)

    def begin(self, caller: Caller) -> None:
        """Count a stream or a wait that begins. Raises Overloaded if its caller may have no further one."""
        count, most = self._open[caller.account], self._limits.open_calls
        if most and count >= most and _is_limited(caller):
            raise Overloaded(f"{caller.name!r} has {count} streams and waits open: end one, or try again later")
        self._open[caller.account] = count + 1

    def end(self, caller: Caller) -> None:
        """Count the end of one that has begun."""
        self._open[caller.account] -= 1
        if not self._open[caller.account]:
            del self._open[caller.account]


class _Allowance:
    """So many for each account in some time. One that has done nothing for that time may do all of them at once."""

    def __init__(self, most: int, within_s: float) -> None:
        """`most`: 0 for any number."""
        self._most = float(most)
        self._rate = most / within_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By account: how many it had left, and when, by the steady clock."""

    def take(self, account: str) -> float:
        """Count one. Return 0, or after how many seconds there is one left, if there is none."""
        if not self._most:
            return 0.0
        now_s = time.monotonic()
        left, at_s = self._left.get(account, (self._most, now_s))
        left = min(self._most, left + (now_s - at_s) * self._rate)
        if left < 1:
            return max(RETRY_LEAST_S, (1 - left) / self._rate)
        self._left[account] = left - 1, now_s
        self._left.move_to_end(account)
        if len(self._left) > CALLERS_MAX:
            self._left.popitem(last=False)
        return 0.0


def is_start(request: object) -> bool:
    """Return whether a request begins an execution, or an action without a workflow."""
    if isinstance(request, execution_service_pb2.RerunExecutionRequest):
        return request.start_from in _NEW and not request.dry_run
    return isinstance(request, _STARTS) and not getattr(request, "dry_run", False)


def _is_limited(caller: Caller) -> bool:
    return bool(caller.account) and not caller.has_everywhere(Role.SERVICE)
