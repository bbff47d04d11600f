"""The simple forms of Orquesta's definitions: numbers or expressions, lists of one-key mappings.

A Reader never raises: what does not fit becomes a problem, and the caller continues with the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dalsegno.definitions.forms import Forms
from dalsegno.definitions.orquesta.expressions import inspect_text
from dalsegno.definitions.orquesta.inline import INLINE_LENGTH_MAX, Inline, read_inline
from dalsegno.definitions.orquesta.parts import Assignment, Reference
from dalsegno.definitions.problems import EXPRESSION, Path, shown
from dalsegno.expressions.language import ORQUESTA


class Reader(Forms):
    """Reads the parts of one Orquesta document and adds the problems."""

    def references(self, value: object, path: Path) -> tuple[Reference, ...]:
        """Check every expression of a value, also in keys, add warnings for unknown functions, and return the
        references to variables."""
        return tuple(self._references(value, path))

    def _references(self, value: object, path: Path) -> Iterator[Reference]:
        if isinstance(value, str):
            found = inspect_text(value)
            for problem in found.problems:
                self.fault(path, problem, category=EXPRESSION)
            self.warn_of_unknown(value, path, ORQUESTA)
            for variable in found.variables:
                yield Reference(variable, path)
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from self._references(key, (*path, key))
                yield from self._references(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._references(item, (*path, index))

    def number(self, value: object, path: Path) -> tuple[Reference, ...]:
        """Read a whole number that is not negative, or a text, which must be an expression for one."""
        if isinstance(value, str) and value:
            return self.references(value, path)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fault(path, f"must be a whole number from 0 on or an expression, not {shown(value)}")
        return ()

    def keys_of_text(self, mapping: dict[str, Any], path: Path) -> None:
        """Add a problem for each key that is not text in YAML."""
        if id(mapping) in self._source.odd_keys and mapping:
            self.mapping(mapping, path)

    def assignments(self, value: object, path: Path, *, names_alone: bool = False) -> tuple[Assignment, ...]:
        """Read a list of one-key mappings, at least one, none twice; with `names_alone` an item may be only a name."""
        if not isinstance(value, list) or not value:
            hint = "begin each item with `- ` in a line of its own" if isinstance(value, dict) and value else ""
            what = "names and of mappings with one key" if names_alone else "mappings with one key"
            self.fault(path, f"must be a list of {what} that is not empty, not {shown(value)}", hint)
            return ()
        read: list[Assignment] = []
        seen: set[str] = set()
        for index, item in enumerate(value):
            place = (*path, index)
            identity = json.dumps(item, sort_keys=True)
            if identity in seen:
                self.fault(place, f"{shown(item)} is twice in the list")
            seen.add(identity)
            assignment = self._assignment(item, place, names_alone)
            if assignment is not None:
                read.append(assignment)
        return tuple(read)

    def _assignment(self, item: object, path: Path, names_alone: bool) -> Assignment | None:
        if names_alone and isinstance(item, str):
            name = self.text(item, path)
            return None if name is None else Assignment(name, None)
        if not isinstance(item, dict) or len(item) != 1:
            wanted = "a name or a mapping with exactly one key" if names_alone else "a mapping with exactly one key"
            hint = "put each in an item of its own" if isinstance(item, dict) and item else ""
            self.fault(path, f"must be {wanted}, not {shown(item)}", hint)
            references = self.references(item, path)
            return Assignment("", item, references) if references else None
        self.keys_of_text(item, path)
        ((name, value),) = item.items()
        return Assignment(name, value, self.references(item, path))

    def inline(self, text: str, path: Path) -> Inline:
        """Return the inline parameters of a text."""
        if len(text) > INLINE_LENGTH_MAX:
            self.fault(path, f"longer than {INLINE_LENGTH_MAX:,} characters", "do not write it in one line")
            return Inline()
        return read_inline(text)
