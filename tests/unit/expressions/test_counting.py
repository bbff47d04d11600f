"""What is counted of an evaluation, where no expression shows it by itself."""

from __future__ import annotations

from itertools import repeat

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.values import NESTING, BuiltDict, check_nesting
from dalsegno.expressions.yaql.evaluate import NO_NAMES
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import collect, pay_for_members
from dalsegno.workflow.scope import EvaluationError


@pytest.mark.parametrize("budget", [Budget(steps=1_000), Budget(size=1_000)], ids=("steps", "size"))
def test_a_list_of_what_comes_without_end_is_soon_given_up(budget: Budget) -> None:
    """Each of its items is counted, in both budgets, before the next one is taken."""
    taken = [0]

    def items() -> object:
        for item in repeat(0, 100_000):
            taken[0] += 1
            yield item

    with pytest.raises(EvaluationError, match=r"it (takes|builds) more than"):
        collect(Frame(PlainScope(), budget, NO_NAMES), items())  # type: ignore[arg-type]
    assert taken[0] <= 1_001


def test_long_keys_of_a_dict_that_was_built_are_counted() -> None:
    """Each look-up reads a key from end to end; the keys of the scope are short."""
    budget = Budget()
    frame, before = Frame(PlainScope(), budget, NO_NAMES), budget.steps
    pay_for_members(frame, {"k" * 100_000: 1}, 1)
    assert budget.steps == before
    pay_for_members(frame, BuiltDict({"k": 1}), 1)
    short = before - budget.steps
    pay_for_members(frame, BuiltDict({"k" * 100_000: 1}), 1)
    assert before - budget.steps - 2 * short > 100


def nested(depth: int, value: object) -> object:
    """The value inside of so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def test_values_may_be_nested_up_to_a_limit() -> None:
    """Also where an integer is in them that is too large for the quick way of looking."""
    large = 1 << 70
    assert check_nesting(nested(NESTING, large)) == NESTING
    assert check_nesting({"a": [large, {"b": large}]}) == 4
    with pytest.raises(EvaluationError, match=f"nested deeper than {NESTING} levels"):
        check_nesting(nested(NESTING + 1, large))
