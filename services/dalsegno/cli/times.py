"""Times and durations as text for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.exits import CommandError
from dalsegno.cli.printing import PRINTING


def moment(stamp: Timestamp) -> str:
    """Return a time in ISO 8601, UTC, to the millisecond; empty for none."""
    if not stamp.ByteSize():
        return ""
    text = stamp.ToDatetime(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def clock(stamp: Timestamp) -> str:
    """Return a time in the style of `--time`; by default the time of day, with the date when it is not today."""
    if not stamp.ByteSize():
        return ""
    when = stamp.ToDatetime(UTC)
    if PRINTING.time == "relative":
        return _relative(when.timestamp() - time.time())
    if PRINTING.time:
        return when.astimezone(_zone(PRINTING.time)).isoformat(" ", timespec="seconds").replace("+00:00", "Z")
    local = when.astimezone()
    return local.strftime(
        "%H:%M:%S" if local.date() == datetime.fromtimestamp(time.time()).astimezone().date() else "%Y-%m-%d %H:%M:%S"
    )


def due(stamp: Timestamp) -> str:
    """Return a future time, absolute and relative to now.

    >>> due(Timestamp())
    ''
    """
    if not stamp.ByteSize():
        return ""
    relative = _relative(stamp.ToDatetime(UTC).timestamp() - time.time())
    return relative if PRINTING.time == "relative" else f"{clock(stamp)} ({relative})"


def check_time_style(style: str) -> str:
    """Return the style. Raises CommandError if it is neither a style nor a time zone."""
    if style not in ("", "relative", "local", "utc"):
        _zone(style)
    return style


def span(start: Timestamp, end: Timestamp) -> str:
    """Return the duration as text; empty if `start` or `end` is not set."""
    if not start.ByteSize() or not end.ByteSize():
        return ""
    return seconds((end.ToDatetime(UTC) - start.ToDatetime(UTC)).total_seconds())


def seconds(amount_s: float) -> str:
    """Return an amount of time as text.

    >>> seconds(0.042), seconds(3.14159), seconds(125), seconds(7300), seconds(200_000)
    ('42 ms', '3.1 s', '2 min 05 s', '2 h 01 min', '2 d 7 h')
    """
    if amount_s < 1:
        return f"{max(0, round(amount_s * 1000))} ms"
    if amount_s < 59.95:
        return f"{amount_s:.1f} s"
    minutes, rest_s = divmod(round(amount_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _relative(from_now_s: float) -> str:
    """Return a time relative to now.

    >>> _relative(-5.2), _relative(61), _relative(-0.4)
    ('5 s ago', 'in 1 min 01 s', 'now')
    """
    if abs(from_now_s) < 1:
        return "now"
    amount = f"{abs(from_now_s):.0f} s" if abs(from_now_s) < 59.5 else seconds(abs(from_now_s))
    return f"in {amount}" if from_now_s > 0 else f"{amount} ago"


def _zone(name: str) -> tzinfo | None:
    """Return the time zone of a style; None: the local one."""
    if name in ("local", "utc"):
        return UTC if name == "utc" else None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CommandError(
            f"--time {name}: neither relative, local, utc nor a time zone", "for instance --time Europe/Lisbon"
        ) from None
