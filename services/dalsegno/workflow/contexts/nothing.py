"""One empty dict for the fields that most records leave empty; it cannot be written to."""

from __future__ import annotations

from typing import Any, Never


class Nothing(dict[Any, Any]):
    """A dict that stays empty: code that adds a first entry creates a new dict."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __setitem__(self, key: object, value: object) -> Never:
        raise TypeError("this empty dict is shared and read-only: make a new one")


NOTHING = Nothing()
