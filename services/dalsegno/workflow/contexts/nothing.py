"""What most records have none of: one empty dict for all of them, which nobody can put anything into."""

from __future__ import annotations

from typing import Any, Never


class Nothing(dict[Any, Any]):
    """Empty, and stays so: whoever is the first to have something makes a dict of its own."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __setitem__(self, key: object, value: object) -> Never:
        raise TypeError("this dict is everybody's: make one of your own")


NOTHING = Nothing()
