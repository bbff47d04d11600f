"""Limits of an action: how many runs of it an executor has at once, and how many it starts in a period."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PERIODS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"(\d{1,9})/(s|min|h)")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one executor keeps for one action. Other executors that serve the action count for themselves."""

    concurrency: int | None = None
    """How many of it run at once; None: as many as there are slots."""
    starts: int | None = None
    """How many of it start in any period; None: any number."""
    period_s: float = 1.0


def read_limits(concurrency: int | None, rate: str) -> Limits:
    """Return the limits of a number and a rate like "10/s", "600/min" or "5/h"; empty: none. Raises ValueError."""
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"the concurrency must be at least 1, not {concurrency}")
    if not rate:
        return Limits(concurrency)
    found = _RATE.fullmatch(rate)
    if found is None or not int(found[1]):
        raise ValueError(f"the rate {rate!r} is not like 10/s, 600/min or 5/h")
    return Limits(concurrency, int(found[1]), _PERIODS_S[found[2]])


def parse_limits(text: str) -> Limits:
    """Return limits that an operator writes: `4`, `10/s`, or `4,10/s` for both. Raises ValueError."""
    concurrency, rate = None, ""
    for word in text.split(","):
        if word.strip().isdecimal() and concurrency is None:
            concurrency = int(word)
        elif "/" in word and not rate:
            rate = word.strip()
        else:
            raise ValueError(f"the limit {text!r} is not like 4, 10/s or 4,10/s")
    return read_limits(concurrency, rate)
