"""Short ids: lists mark the last characters of an id that identify it.

An id begins with its time, so that ids of one minute begin with equal characters; the last ones are random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

SHORT_MIN = 6
"""The number of last characters that identify an execution; more if they are ambiguous."""


def mark_ids(ids: Sequence[str]) -> list[Text]:
    """Return ids with the last characters, which identify each in the list, in bold.

    >>> [each.spans[-1].start for each in mark_ids(["0193b5c2-5a8f2c1e6b47", "0193b5c2-5a8f0c1e6b47"])]
    [13, 13]
    """
    lengths: dict[str, int] = {}
    length, left = SHORT_MIN, set(ids)
    while left:
        ends = Counter(each[-length:] for each in left)
        lengths |= {each: length for each in left if ends[each[-length:]] == 1 or length >= len(each)}
        left -= lengths.keys()
        length += 1
    return [Text.assemble((each[: -lengths[each]], "dim"), (each[-lengths[each] :], "bold")) for each in ids]
