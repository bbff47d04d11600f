"""Expressions as a typed grammar: a form has holes `<kind>` that are filled with expressions of that kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

HOLE = re.compile(r"<(\w+)>")
WILD_IN = 25
"""One hole in so many is filled with something of another kind."""
PLAIN = re.compile(r"[\w$]+(\.\w+)*")

Choose = Callable[[Sequence[str]], str]
"""Takes one of several."""
Dice = Callable[[int], int]
"""A number below the one that is given."""


def split(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """The forms of each kind, which stand in one text with semicolons between."""
    return {
        kind: [" ".join(form.split()) for form in forms.split(";") if form.strip()] for kind, forms in texts.items()
    }


class Grammar:
    """Atoms and forms by kind. `heads` are the kinds that a whole expression may be."""

    def __init__(self, atoms: Mapping[str, str], forms: Mapping[str, str], heads: Sequence[str]) -> None:
        self.atoms = split(atoms)
        self.forms = split(forms)
        self.heads = heads

    def write(self, kind: str, depth: int, choose: Choose, dice: Dice) -> str:
        """An expression of this kind, of at most so many levels."""
        if kind in self.heads and dice(WILD_IN) == WILD_IN - 1:
            kind = choose(self.heads)
        if depth == 0 or kind not in self.forms:
            return choose(self.atoms[kind])
        form = choose(self.forms[kind])
        return HOLE.sub(lambda hole: self._fill(hole[1], depth - 1 - dice(2), choose, dice), form)

    def _fill(self, kind: str, depth: int, choose: Choose, dice: Dice) -> str:
        text = self.write(kind, max(depth, 0), choose, dice)
        return text if PLAIN.fullmatch(text) else f"({text})"

    def text(self) -> str:
        """All of it, to see what is in it."""
        return "\n".join(form for table in (self.atoms, self.forms) for forms in table.values() for form in forms)
