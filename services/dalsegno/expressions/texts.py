"""The costs of work on texts.

Python searches from the end, or in a text that is not long, in time that grows with the product of both lengths, and
an author can choose such texts.
"""

from __future__ import annotations

from dalsegno.expressions.budget import CHARACTERS_PER_STEP, Budget

COMPARED_PER_STEP = 512
"""Characters that are compared with each other in the time of one step."""
LONG = 30_000
"""From this number of characters on Python searches forwards in linear time."""
SPLIT_PER_STEP = 16
"""Characters that are cut into pieces in the time of one step."""


def pay_for_search(budget: Budget, text: str, part: str, *, backwards: bool = False) -> None:
    """Count a search for all places of a part in the text."""
    length, width = len(text), len(part)
    if CHARACTERS_PER_STEP < length >= width:
        pairs = (length - width + 1) * (width if backwards or length < LONG else min(width, 8))
        budget.step((length + width) // CHARACTERS_PER_STEP + pairs // COMPARED_PER_STEP)


def pay_for_strip(budget: Budget, text: str, characters: str | None) -> None:
    """Count the removal of characters from the ends of a text: each is compared with all of them."""
    budget.read(text)
    if characters is not None:
        budget.step(len(text) * len(characters) // COMPARED_PER_STEP)
    budget.build(len(text))


def pay_for_split(budget: Budget, text: str, separator: str | None, *, backwards: bool = False) -> None:
    """Count a split of a text."""
    if separator is not None:
        pay_for_search(budget, text, separator, backwards=backwards)
    budget.step(len(text) // SPLIT_PER_STEP)
    budget.build(len(text))


def pay_for_replace(budget: Budget, text: str, old: str, new: str, count: int) -> None:
    """Count a replacement of a text: the new text is inserted at each place."""
    pay_for_search(budget, text, old)
    budget.step(1 + len(text) // CHARACTERS_PER_STEP)
    found = text.count(old) if count < 0 else min(text.count(old), count)
    budget.step(found // SPLIT_PER_STEP)
    budget.build(max(len(text) + found * (len(new) - len(old)), 0))


def pay_for_case(budget: Budget, text: str) -> None:
    """Count a conversion of letters: one may become three."""
    budget.step(len(text) * 3 // CHARACTERS_PER_STEP)
    budget.build(len(text) if text.isascii() else 3 * len(text))
