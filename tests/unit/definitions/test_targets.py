"""`target` in definitions of both languages."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.definitions.test_reverts import BOTH

from dalsegno.definitions.document import read
from dalsegno.workflow.scope import Constant

WRONG = "'zone in north' is no target: it is a name, or label=value"


@BOTH
def test_a_target_is_a_text_or_an_expression(of: Any) -> None:
    """A text is kept as it is, an expression is evaluated when the action begins; reverts have the same."""
    task = of("{action: core.noop, target: 'zone in (north, east)', revert: {action: my.undo, target: '!gpu'}}")
    assert task.target == Constant("zone in (north, east)")
    assert task.revert.target == Constant("!gpu")
    assert not isinstance(of("{action: core.noop, target: 'zone=<% 1 %>'}").target, Constant | None)


@pytest.mark.parametrize(
    "text",
    [
        "version: '2.0'\nw:\n  tasks:\n    t: {action: std.noop, target: zone in north}\n",
        "version: '2.0'\nw:\n  tasks:\n    t: {action: std.noop, revert: {action: a.b, target: zone in north}}\n",
        "version: 1.0\ntasks:\n\n  t: {action: core.noop, target: zone in north}\n",
        "version: 1.0\ntasks:\n\n  t: {action: core.noop, revert: {action: a.b, target: zone in north}}\n",
    ],
)
def test_a_target_that_means_nothing_is_a_problem(text: str) -> None:
    """The problem has the line, and says what a target is."""
    (problem,) = read(text, name="w" if "1.0" in text else "").problems

    assert (problem.line, problem.path.rpartition(".")[2]) == (4, "target")
    assert problem.message.startswith(WRONG)
