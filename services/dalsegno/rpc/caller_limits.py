"""How much one caller may ask of one server: calls a second, and calls that are open for long."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass

from dalsegno.access.callers import Caller
from dalsegno.access.grants import Role
from dalsegno.workflow.refusals import Overloaded

CALLERS_MAX = 10_000
"""The number of callers whose calls are counted. One that has not called for the longest time is forgotten: it has a
full second of calls again."""

RETRY_LEAST_S = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each caller; 0: none."""

    calls_a_second: int = 0
    open_calls: int = 0
    """Streams and waits."""


class CallerLimits:
    """Counts the calls of each account. Services of our own have no limits: they call for others."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By account: how many calls it had left, and when, by the steady clock."""
        self._open: Counter[str] = Counter()
        """By account: how many streams and waits it has open."""

    def take(self, caller: Caller) -> None:
        """Count a call. Raises Overloaded, with the time after which there is one left."""
        rate = self._limits.calls_a_second
        if not rate or not _is_limited(caller):
            return
        now_s = time.monotonic()
        left, at_s = self._left.get(caller.account, (float(rate), now_s))
        left = min(float(rate), left + (now_s - at_s) * rate)
        if left < 1:
            raise Overloaded(
                f"{caller.name!r} makes more than {rate} calls a second", max(RETRY_LEAST_S, (1 - left) / rate)
            )
        self._left[caller.account] = left - 1, now_s
        self._left.move_to_end(caller.account)
        if len(self._left) > CALLERS_MAX:
            self._left.popitem(last=False)

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


def _is_limited(caller: Caller) -> bool:
    return bool(caller.account) and not caller.has_everywhere(Role.SERVICE)
