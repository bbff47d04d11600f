"""Sequences that stand on each other without end."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_template

STACKS = (
    "$1.select($)",
    "$1.where(true)",
    "$1.zip([1])",
    "$1.zipLongest([1])",
    "$1.skip(0)",
    "$1.limit(1)",
    "$1.takeWhile(true)",
    "$1.skipWhile(false)",
    "$1.append()",
    "$1.concat([])",
    "$1.flatten()",
    "$1.distinct()",
    "$1.enumerate()",
    "$1.slice(1)",
    "$1.selectMany($)",
    "$1.delete(5)",
    "$1.replace(5, 1)",
    "$1.insertMany(0, [])",
    "$1.accumulate($2, 1)",
    "$1.join([1], true, $1)",
    "$1 + [].select($)",
    "$1.defaultIfEmpty([1])",
    "$1.orderBy(1)",
    "$1.reverse()",
    "$1.groupBy(1)",
    "[$1.first(null).select($)]",
    "let(a => $1) -> [1].selectMany($a)",
)
"""What an `aggregate` may make of what it has made before."""


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_stands_on_so_much_that_the_stack_overflows(stack: str) -> None:
    """A hundred thousand levels, in a process of their own: this one would go with it."""
    expression = f"range(0, 100000).aggregate({stack}, [1].select($)).count()"
    program = f"""
from tests.unit.expressions.scopes import PlainScope
from dalsegno.expressions.budget import Budget
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.workflow.scope import EvaluationError
try:
    compile_yaql({expression!r}).closure(Frame(PlainScope(), Budget(), {{}}), None)
except (EvaluationError, RecursionError):
    pass
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("range(0, 1000).aggregate($1.select($ + 1), [1]).first()", 1001),
        ("range(0, 100).aggregate($1.append($2), []).len()", 100),
        ("[1, 0].select(1 / $).first()", 1),
        ("range(1000000000).where($ > 5).select($ * 2).first()", 12),
        ("let(x => [1, 2].select($)) -> [$x.len(), $x.len()]", [2, 0]),
        ("[[1, [2]], [[[3]]], 4].flatten()", [1, 2, 3, 4]),
    ],
)
def test_they_are_computed_as_they_are_asked_for(expression: str, value: object) -> None:
    """Nothing is computed before somebody asks for it, and all of it once."""
    assert compile_template(f"<% {expression} %>", print).evaluate(PlainScope()) == value
