"""Compiled YAQL against the library itself."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from tests.hostile.exam import same
from tests.unit.expressions.scopes import PlainScope
from tests.unit.expressions.yaql_texts import ORQUESTA_ATOMS, ORQUESTA_SPLIT, VALUES, yaql_texts

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.library import evaluate_by_library
from dalsegno.workflow.scope import EvaluationError

FAILED = "failed"


def scope() -> PlainScope:
    """The scope that both ways of evaluating ask."""
    return PlainScope(VALUES, items=[{"x": 1, "k": "v"}], keys={"user a": 1})


def by_library(text: str, language: Language = MISTRAL) -> object:
    """The library's value, or FAILED."""
    try:
        return evaluate_by_library(text, Frame(scope(), Budget(), {}), language)
    except Exception:
        return FAILED


def by_closures(text: str, language: Language = MISTRAL) -> object:
    """The compiled expression's value, or FAILED."""
    try:
        return compile_yaql(text, language).evaluate(scope())
    except EvaluationError:
        return FAILED


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(yaql_texts())
@example("$.o.where($.x > 1).select($.y)")
@example("$.d.get(missing, 1) + $.i / 2")
@example("$.o.x")
def test_compiled_expressions_equal_the_library(text: str) -> None:
    """Over random expressions both ways of evaluating give the same value, or both fail."""
    assume(compile_yaql(text).closure is not None)
    expected, found = by_library(text), by_closures(text)
    assume(" at 0x" not in repr(expected))
    assert same(expected, found), f"{text}: the library gives {expected!r}, closures give {found!r}"


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(yaql_texts(ORQUESTA_ATOMS, ORQUESTA_SPLIT))
@example("zip(ctx(l), ctx(m), pad => ctx().d).select($[0])")
@example("task(t1, route => 0).result.a + zip(ctx().l)")
@example("to_json_string(ctx().o.select({a => $.x}), sort_keys => true)")
@example("st2kv(a, default => ctx(nope))")
def test_orquesta_compiled_equals_the_library(text: str) -> None:
    """With the functions of Orquesta too, both ways of evaluating give the same value, or both fail."""
    assume(compile_yaql(text, ORQUESTA).closure is not None)
    expected, found = by_library(text, ORQUESTA), by_closures(text, ORQUESTA)
    assume(" at 0x" not in repr(expected))
    assert same(expected, found), f"{text}: the library gives {expected!r}, closures give {found!r}"


@pytest.mark.parametrize(
    "text",
    [
        "let(x => 5) -> $x + 1",
        "let(a => 1) -> let(b => $a + 1) -> $a + $b",
        "$.l.join([1, 2], $1 = $2, [$1, $2])",
        "$.o.groupBy($.x, $.y)",
        "$.o.orderBy($.x).thenByDescending($.y).select($.y)",
        "$.d.inner.y[1].z",
        "{a => 1}.mergeWith({a => 2, b => 3})",
        "{a => {b => [1]}}.mergeWith({a => {b => [1, 2], c => 1}})",
        "$.o.toDict($.y, $.x)",
        "dict([[a, 1], [b, 2]])",
        "dict(a => 1, b => $.i)",
        "$.d.set(k => 2, q => 3)",
        "'a-b'.replace({'a' => 1, '-' => null})",
        "$.s.split(',').select($.toUpper()).join('+')",
        "range(5).where($ mod 2 = 0).toList()",
        "$.l.orderBy(-$)",
        "str($.l) + str($.d.inner)",
        "tasks(execution().id).name",
        "7 / 2 + -7 / 2 + 7.0 / 2",
        "null < 1 and 1 > null",
        "$.o.select({name => $.y, all => $.x})",
        "[3, 1].concat([2]).orderBy($)",
        "$?.u?.x",
        "1 in $.l and 'a' in $.s and not (9 in $.l)",
    ],
)
def test_chosen_expressions_equal_the_library(text: str) -> None:
    """Expressions as people write them are compiled, and have the value that the library gives."""
    assert compile_yaql(text).closure is not None
    expected = by_library(text)
    assert expected != FAILED
    assert same(expected, by_closures(text))
