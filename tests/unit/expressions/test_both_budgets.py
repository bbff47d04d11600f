"""Going through values and building new ones have a budget each: what does both is counted in both."""

from __future__ import annotations

import pytest
from tests.unit.expressions.test_charges import LARGE, LEAST, SMALL, Scope, exhaust

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.compile import Expression, compile_template
from dalsegno.expressions.functions import ASK_COST
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.expressions.orquesta import STORED_COST
from dalsegno.expressions.values import CONTAINER_COST
from dalsegno.expressions.yaql.evaluate import NO_NAMES, YaqlExpression
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.workflow.scope import EvaluationError

YAQL = r"""
$.d + $.e
$.d.keys() - $.e.keys()
$.l = $.l.toList()
$.d = $.d.set(k0, 0)
$.rows = $.rows.toList()
$.d.keys() = $.e.keys()
$.l != $.l.toList()
$.d.keys() < $.e.keys()
concat($.t, $.t)
dict($.l.zip($.l))
distinct($.lists)
enumerate($.l)
float('0.' + $.digits)
format('{0}', $.l)
hex($.i)
isEmpty($.t)
list($.l.select($))
norm($.t)
str($.l)
$.l.select($).defaultIfEmpty([])
$.d.deleteAll([a])
$.strs.distinct()
$.l.enumerate()
$.rows.groupBy($.b)
$.l.insert(1, 1)
$.t.isEmpty()
$.strs.join(',')
$.d.mergeWith($.e)
$.t.norm()
$.l.orderBy($)
$.l.orderByDescending($)
$.t.replace(a, aa)
$.l.reverse()
$.t.rightSplit(c)
$.d.set(a, 1)
$.l.slice(2)
$.t.split(c)
$.l.splitAt(2)
$.t.substring(1)
$.rows.orderBy($.b).thenBy($.a)
$.rows.orderBy($.b).thenByDescending($.a)
$.t.toCharArray()
$.strs.toDict($)
$.l.toList()
$.t.toLower()
$.t.toUpper()
$.t.trim()
$.t.trimLeft(ab)
$.t.trimRight()
$.l.zip($.l)
$.l.zipLongest($.l)
json_dump($.l)
json_parse($.json)
yaml_dump($.l)
yaml_parse($.yaml)
'{0}'.format($.i)
"""
YAQL_OF_ORQUESTA = r"""
basename(ctx(t))
dirname(ctx(t))
from_json_string(ctx(json))
from_yaml_string(ctx(yaml))
json(ctx(json))
json_dump(ctx(l))
json_escape(ctx(t))
json_parse(ctx(json))
task(each)
to_json_string(ctx(l))
to_yaml_string(ctx(l))
yaml_dump(ctx(l))
yaml_parse(ctx(yaml))
zip(ctx(l), ctx(l))
"""
JINJA = r"""
_.l ~ 1
_.l == _.l + []
_.l >= _.l + [1]
_.l[1:]
_.t[::2]
_.t | capitalize
_.digits | int
_.l | join(',')
_.l | list
_.t | lower
_.strs | map('upper') | list
_.l | max
_.strs | min
_.l | reject('odd') | list
_.l | reverse
_.l | select('gt', 5) | list
_.rows | selectattr('a', 'gt', 5) | list
_.strs | sort
_.l | string
_.t | title
_.t | trim
_.strs | unique | list
_.t | upper
_.t.split('c')
_.t.rsplit('c')
_.t.strip()
_.t.lstrip('ab')
_.t.rstrip()
_.t.upper()
_.t.lower()
_.t.title()
"""


def spent(template: str, size: int, language: Language = MISTRAL) -> tuple[int, int]:
    """The steps, and the characters and elements, that the expression pays for."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message), language=language)
    assert isinstance(compiled, Expression)
    source, scope, budget = compiled.expression, Scope(size), Budget()
    steps, built = budget.steps, budget.size
    if isinstance(source, YaqlExpression):
        assert source.closure is not None
        exhaust(source.closure(Frame(scope, budget, NO_NAMES), None))
    else:
        source.value(scope, budget)
    return steps - budget.steps, built - budget.size


@pytest.mark.parametrize(
    ("template", "language"),
    [
        *((f"<% {text} %>", MISTRAL) for text in YAQL.split("\n")[1:-1]),
        *((f"<% {text} %>", ORQUESTA) for text in YAQL_OF_ORQUESTA.split("\n")[1:-1]),
        *(("{{ (" + text + ") is defined }}", MISTRAL) for text in JINJA.split("\n")[1:-1]),
    ],
)
def test_going_through_and_building_are_both_counted(template: str, language: Language) -> None:
    """Larger values cost more steps, and more of what may be built."""
    small, large = spent(template, SMALL, language), spent(template, LARGE, language)
    least = (LARGE - SMALL) * LEAST
    assert large[0] - small[0] >= least, f"steps: {small[0]}, {large[0]}"
    assert large[1] - small[1] >= least, f"built: {small[1]}, {large[1]}"


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("st2kv('system.a', default => 1)", STORED_COST),
        ("task(current)", ASK_COST + SMALL),
        ("task_status(current)", ASK_COST),
        ("completed()", ASK_COST),
        ("succeeded()", ASK_COST),
        ("failed()", ASK_COST),
    ],
)
def test_a_question_to_the_execution_costs_what_its_answer_takes(text: str, least: int) -> None:
    """However small the answer is."""
    assert least <= spent(f"<% {text} %>", SMALL, ORQUESTA)[0] < 2 * least


def test_a_long_list_is_counted_once() -> None:
    """What is handed over is counted in parts, and no part again with the next one."""
    source = compile_template("<% range(10000).select($) %>", print)
    assert isinstance(source, Expression)
    budget = Budget()
    built = budget.size
    source.expression.value(Scope(SMALL), budget)
    assert 10_000 <= built - budget.size < 10_100


@pytest.mark.parametrize(
    "text", ["$.rows.select($.a).len()", "$.l.select($ + 1).len()", "$.l.aggregate($1 + $2)", "$.l.toList().len()"]
)
def test_a_budget_is_spent_to_the_last_step(text: str) -> None:
    """With as many steps as it takes an expression ends well; with one less it takes too many."""
    steps, _ = spent(f"<% {text} %>", SMALL)
    compiled = compile_template(f"<% {text} %>", print)
    assert isinstance(compiled, Expression)
    compiled.expression.value(Scope(SMALL), Budget(steps=steps))
    with pytest.raises(EvaluationError, match="steps"):
        compiled.expression.value(Scope(SMALL), Budget(steps=steps - 1))


def test_each_row_of_a_zip_is_a_list_of_its_own() -> None:
    """Not only its members are counted."""
    assert spent("<% zip(ctx(l), ctx(l)) %>", SMALL, ORQUESTA)[1] >= SMALL * (CONTAINER_COST + 2)


def test_a_long_body_costs_more_for_each_item() -> None:
    """What is done for each item costs steps by the length of its expression."""
    short, long = (
        spent(f"<% $.l.select({body}).len() %>", SMALL)[0] for body in ("$", "not (not (not (not (not $))))")
    )
    assert long - short >= SMALL
