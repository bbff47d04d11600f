"""The process apart: what it evaluates, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_template
from dalsegno.expressions.isolation import Isolation
from dalsegno.workflow.scope import EvaluationError

SCOPE = PlainScope({"s": "abc", "l": [3, 1, 2], "big": list(range(100_000))})


@pytest.fixture(scope="module")
def isolation() -> Iterator[Isolation]:
    """A process of the tests' own, ready."""
    made = Isolation()
    assert made.evaluate("yaql", "1 + 1", SCOPE, "") == 2
    yield made
    made.close()


@pytest.mark.parametrize(
    ("language", "text", "value"),
    [
        ("yaql", "$.s =~ 'a.c'", True),
        ("yaql", "regex('[ac]').split($.s)", ["", "b", ""]),
        ("yaql", "$.l.toSet()", [1, 2, 3]),
        ("yaql", "task(t1).name + execution().id + env().k", "t1execution-1value"),
        ("yaql", "tasks(e, true).name", ["first", "second"]),
        ("yaql", "$.len()", 3),
        ("yaql", "$.get(nope, 1)", 1),
        ("yaql", "executions(id => x).first().asked", {"id": "x"}),
        ("yaql", "global(g)", 5),
        ("jinja", "{{ _.l | map('string') | batch(2) | list }}", [["3", "1"], ["2"]]),
        ("jinja text", "{% for x in _.l %}{{ loop.index }}:{{ x }} {% endfor %}", "1:3 2:1 3:2 "),
    ],
)
def test_values_from_the_process(isolation: Isolation, language: str, text: str, value: object) -> None:
    """Expressions of both languages are evaluated there and ask back for what they need."""
    assert isolation.evaluate(language, text, SCOPE, "") == value


def test_same_chance_on_both_sides(isolation: Isolation) -> None:
    """uuid() is the same in the process as here: it depends on the event and the place alone."""
    here = compile_template("<% uuid() %>", print, ("a",)).evaluate(SCOPE)
    assert isolation.evaluate("yaql", "uuid()", SCOPE, "a") == here


@pytest.mark.parametrize(
    ("language", "text", "cause"),
    [
        ("yaql", "$.nope =~ a", "<% $.nope =~ a %>: there is no key 'nope'"),
        ("yaql", "regex('(')", "error: missing ), unterminated subpattern at position 0"),
        ("jinja", "{{ _.l | nope }}", "{{ _.l | nope }}: "),
        ("jinja", "{{ ''.__class__.mro() }}", "unsafe"),
        ("jinja", "{{ _.l.append(1) }}", "unsafe"),
    ],
)
def test_errors_from_the_process(isolation: Isolation, language: str, text: str, cause: str) -> None:
    """What fails there is an ordinary error here, and the process goes on."""
    process = isolation.process
    with pytest.raises(EvaluationError) as failure:
        isolation.evaluate(language, text, SCOPE, "")
    assert cause in str(failure.value)
    assert isolation.process is process


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("yaql", "regex('(a+)+$').matches('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')"),
        ("yaql", "sequence().where(false).len()"),
        ("yaql", "[1] * 1000000000"),
        ("jinja", "{{ 'a' * 10000000000 }}"),
        ("jinja text", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        ("jinja text", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"),
    ],
)
def test_runaways_are_killed(isolation: Isolation, language: str, text: str) -> None:
    """What never ends or needs too much is an error within two seconds, and the next expression has its value."""
    started = time.monotonic()
    with pytest.raises(EvaluationError, match=r"takes more than|needs more than|too much memory|too deeply"):
        isolation.evaluate(language, text, SCOPE, "")
    assert time.monotonic() - started < 2
    assert isolation.evaluate("yaql", "$.s.matches('^a')", SCOPE, "") is True


def test_a_killed_process_is_replaced(isolation: Isolation) -> None:
    """Somebody else may end the process: that expression fails, the next one does not."""
    assert isolation.process is not None
    isolation.process.kill()
    isolation.process.wait()
    assert isolation.evaluate("yaql", "1 + 2", SCOPE, "") == 3


@pytest.mark.parametrize(
    "template",
    ["<% $.s =~ 'a+' %>", "{% for x in _.l %}{{ x }}{% endfor %}", "{{ 'a' * 3 }}", "{{ _.l | batch(2) | list }}"],
)
def test_templates_use_it(template: str) -> None:
    """What has no budget of its own goes there by itself."""
    assert compile_template(template, print).evaluate(SCOPE)
