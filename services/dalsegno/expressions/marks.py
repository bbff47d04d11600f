"""Find the expressions in a text. With regular expressions this takes time that grows with the square of a text full
of opening marks; this code reads the text once."""

from __future__ import annotations

from collections.abc import Iterator


def find_marked(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Start and end of each part from an opening mark to the next closing one on the same line, in order."""
    start = text.find(opening)
    close = -1
    while start >= 0:
        inside = start + len(opening)
        if close < inside:
            close = text.find(closing, inside)
            if close < 0:
                return
        line_end = text.find("\n", start, close)
        if line_end < 0:
            yield start, close + len(closing)
            line_end = close + len(closing) - 1
        start = text.find(opening, line_end + 1)


def has_marked(text: str, opening: str, closing: str) -> bool:
    """Return whether there is such a part."""
    return next(find_marked(text, opening, closing), None) is not None
