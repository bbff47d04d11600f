"""Expressions that a grammar makes to do harm: none ends the process, none takes long, and each value is right."""

from __future__ import annotations

import re

import pytest
from tests.hostile.jinja_forms import GRAMMAR as JINJA_GRAMMAR
from tests.hostile.run import FIXED_SEED, run, seed_of_the_day
from tests.hostile.yaql_forms import MISTRAL_GRAMMAR, ORQUESTA_GRAMMAR

from dalsegno.expressions.jinja_filters import FILTERS, TESTS
from dalsegno.expressions.jinja_values import METHODS as JINJA_METHODS
from dalsegno.expressions.language import MISTRAL, ORQUESTA
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS

EXAMPLES = 50
"""With each seed. By hand there are as many as one likes: `python -m tests.hostile`."""


@pytest.mark.parametrize("start", [FIXED_SEED, seed_of_the_day()], ids=["fixed", "of the day"])
@pytest.mark.timeout(300)
def test_hostile_expressions(start: int, capsys: pytest.CaptureFixture[str]) -> None:
    """At least half evaluate beyond their first operator, and at least a tenth meet a limit: else they show nothing.

    An expression that is wrong is shown, and repeated with the seed.
    """
    tally = run(EXAMPLES, start)
    with capsys.disabled():
        print(f"\nhostile expressions, seed {start}: {tally}")
    assert tally.counts["all"] >= EXAMPLES
    assert tally.share("beyond the first operator") >= 0.5
    assert tally.share("met a limit") >= 0.1


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (MISTRAL_GRAMMAR.text(), {*FUNCTIONS, *METHODS, *MISTRAL.quick_functions}),
        (ORQUESTA_GRAMMAR.text(), ORQUESTA.quick_functions - {"yaml_parse", "yaml_dump", "json_parse", "json_dump"}),
        (JINJA_GRAMMAR.text(), {*FILTERS, *(test for test in TESTS if test.isalpha()), *JINJA_METHODS}),
    ],
    ids=["mistral", "orquesta", "jinja"],
)
def test_the_grammar_has_all_functions(written: str, names: set[str]) -> None:
    """Whatever is added has to stand in the grammar too."""
    missing = {name for name in names if not re.search(rf"\b{name}\b", written)}
    assert {name for name in missing if not name.startswith("planted_")} == set()  # other tests plant some
