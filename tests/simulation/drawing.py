"""Draws from the strategies of the random documents by one random generator: much faster than hypothesis, and the same
in every process."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any


def drawing(chance: random.Random) -> Callable[[Any], Any]:
    """Return a `draw` for functions of `strategies.composite`.

    It knows only what the random documents use: integers, booleans, one of several values, several different values of
    them, and further composites.
    """

    def draw(strategy: Any) -> Any:
        inner = getattr(strategy, "wrapped_strategy", strategy)
        match type(inner).__name__:
            case "CompositeStrategy":
                return inner.definition(draw, *inner.args, **inner.kwargs)
            case "IntegersStrategy":
                return chance.randint(inner.start, inner.end)
            case "BooleansStrategy":
                return chance.random() < 0.5
            case "SampledFromStrategy" | "JustStrategy":
                return chance.choice(inner.elements)
            case "UniqueSampledListStrategy" | "UniqueListStrategy":
                elements = inner.element_strategy.elements
                size = chance.randint(inner.min_size, min(int(inner.max_size), len(elements)))
                return chance.sample(list(elements), size)
        raise TypeError(f"a document draws from {strategy}, which tests/simulation/drawing.py does not know")

    return draw
