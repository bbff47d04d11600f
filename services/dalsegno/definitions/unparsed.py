"""The parts of one-line parameters that both languages ignore, because they cannot parse them."""

from __future__ import annotations

from collections.abc import Iterable

_SEPARATORS = " \t\r\n,;\\"
"""Characters between parameters without a meaning, such as a backslash at the end of a line."""


def find_unparsed(text: str, taken: Iterable[tuple[int, int]]) -> str:
    """Return the parts of a text outside of the spans (start and end), without separators; "" for none."""
    parts = []
    end = 0
    for start, stop in sorted((*taken, (len(text), len(text)))):
        parts.append(text[end:start].strip(_SEPARATORS))
        end = max(end, stop)
    return " … ".join(filter(None, parts))
