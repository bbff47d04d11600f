"""What is unparsed of parameters that are written in one line: both languages pass over what they do not understand."""

from __future__ import annotations

from collections.abc import Iterable

_SEPARATORS = " \t\r\n,;\\"
"""What stands between parameters and means nothing, a backslash at the end of a line among it."""


def find_unparsed(text: str, taken: Iterable[tuple[int, int]]) -> str:
    """The parts of a text that none of the spans (start and end) covers, but for separators; "" when there are none."""
    parts = []
    end = 0
    for start, stop in sorted((*taken, (len(text), len(text)))):
        parts.append(text[end:start].strip(_SEPARATORS))
        end = max(end, stop)
    return " … ".join(filter(None, parts))
