"""Hostile expressions as a hypothesis strategy."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from tests.hostile.exam import Case
from tests.hostile.forms import Grammar
from tests.hostile.jinja_forms import GRAMMAR as JINJA_GRAMMAR
from tests.hostile.jinja_forms import HEAVY as HEAVY_JINJA
from tests.hostile.jinja_forms import TEXTS
from tests.hostile.yaql_forms import HEAVY as HEAVY_YAQL
from tests.hostile.yaql_forms import MISTRAL_GRAMMAR, ORQUESTA_GRAMMAR

DEPTH = 3
HEAVY_IN = 6
"""One expression in so many is repeated until it meets a limit."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An expression in YAQL, of either language, or in Jinja, alone or in a text; of two to four levels."""

    def dice(sides: int) -> int:
        return draw(st.integers(0, sides - 1))

    def write(grammar: Grammar, heavy: Sequence[str]) -> str:
        kind = draw(st.sampled_from(grammar.heads))
        written = grammar.write(kind, 2 + dice(DEPTH), lambda choices: draw(st.sampled_from(choices)), dice)
        return draw(st.sampled_from(heavy)) % f"({written})" if dice(HEAVY_IN) == 0 else written

    language = draw(st.sampled_from(["mistral", "mistral", "mistral", "orquesta"]))
    if language == "orquesta":
        return Case("yaql", language, write(ORQUESTA_GRAMMAR, HEAVY_YAQL))
    if dice(5) < 3:
        return Case("yaql", language, write(MISTRAL_GRAMMAR, HEAVY_YAQL))
    text = draw(st.sampled_from(TEXTS)) if dice(4) == 0 else TEXTS[0]
    written = text % tuple(write(JINJA_GRAMMAR, HEAVY_JINJA) for _ in range(text.count("%s")))
    return Case("jinja" if text == TEXTS[0] else "jinja text", language, written)
