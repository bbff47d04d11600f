"""No expression takes long or much, whatever it says."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.budget import Budget, BudgetHere, NeedsPool
from dalsegno.expressions.compile import Expression, compile_template
from dalsegno.expressions.evaluation import Source
from dalsegno.expressions.functions import dump_json
from dalsegno.workflow.scope import EvaluationError

SCOPE = PlainScope({"l": list(range(2_000)), "s": "a" * 100_000, "o": [{"x": "y" * 1_000}] * 1_000})


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        ("range(0, 1000000000).len()", "steps"),
        ("range(1000000000)", "steps"),
        ("range(1000000).select($).sum()", "steps"),
        ("range(100000).select(range(100000).len())", "steps"),
        ("'a' * 100000000", "builds more than"),
        ("[1] * 1000000000", "builds more than"),
        ("$.s * 1000", "builds more than"),
        ("$.o * 10000", "builds more than"),
        ("[$.o, $.o, $.o, $.o, $.o, $.o, $.o, $.o, $.o, $.o]", "builds more than"),
        ("str($.o) + str($.o) + str($.o) + str($.o) + str($.o) + str($.o)", "builds more than"),
        ("$.s.split(a) * 1000", "builds more than"),
        ("$.s.replace(a, $.s)", "builds more than"),
        ("range(100000).join($.s)", "builds more than"),
        ("$.l.select($.s + 'x')", "has no key"),
        ("let(x => $.s) -> range(100000).select($x + $)", "'+' does not apply"),
        ("let(x => $.s) -> range(100000).select($x + 'b')", "builds more than"),
        ("let(x => $.s) -> range(1000000).where('b' in $x)", "steps"),
        ("let(x => $.s) -> range(1000000).where($x = $x + '')", "builds more than"),
        ("$.l.join($.l, $1 = $2, $1)", "steps"),
        ("1.repeat().len()", "steps"),
        ("pow(10, 1000000000)", "integer grows beyond"),
        ("range(1, 1000000).aggregate($1 * $2)", "an integer grows beyond 4,300 digits"),
        ("shiftBitsLeft(1, 1000000000)", "an integer grows beyond 4,300 digits"),
        ("range(60).aggregate([$1, $1], [1])", "takes more than"),
        ("range(60).aggregate([$1, $1], [1]) = range(60).aggregate([$1, $1], [1])", "steps"),
        ("str(range(60).aggregate([$1, $1], [1]))", "takes more than"),
        ("json_dump(range(60).aggregate([$1, $1], [1]))", "takes more than"),
        ("range(1000).select(tasks())", "steps"),
        ("('{0}' * 1000000).format(1)", "steps"),
        ("('{0}' * 100).format($.s)", "builds more than"),
        ("('{0:>1000}' * 9000).format(1)", "builds more than"),
        ("'{0:>100000000}'.format(1)", "at most 1,000 characters"),
        ("'{0:.1000000000f}'.format(1.5)", "at most 1,000 characters"),
        ("'{0}'.format($.o) + '{0}'.format($.o) + '{0}{0}{0}{0}{0}{0}'.format($.o)", "builds more than"),
        ("float('inf')", "which JSON does not have"),
    ],
)
def test_yaql_stops(expression: str, cause: str) -> None:
    """A runaway expression soon ends with an error that says what it used up, and in the engine much sooner."""
    assert_stops(source_of(f"<% {expression} %>"), cause)


def source_of(template: str) -> Source:
    """What the template consists of."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message))
    assert isinstance(compiled, Expression)
    return compiled.expression


def assert_stops(source: Source, cause: str) -> None:
    """Of processor time: what else runs on the machine is not its fault."""
    assert source.is_bounded
    started = time.thread_time()
    with pytest.raises((EvaluationError, NeedsPool)):
        source.value(SCOPE, BudgetHere())
    assert time.thread_time() - started < 0.5
    with pytest.raises(EvaluationError) as failure:
        source.evaluate_here(SCOPE, "")
    assert cause in str(failure.value)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        ("10 ** 1000000", "an integer grows beyond 4,300 digits"),
        ("_.s * 10000000", "builds more than"),
        ("_.o | map(attribute='x') | join(_.s)", "builds more than"),
        ("_.s | map('upper') | map('replace', 'A', _.s) | join", "it "),
        ("_.o.append(1)", "unsafe"),
        ("_.__class__", "there is no variable '__class__'"),
        ("''.__class__.__mro__", "unsafe"),
        ("_._scope", "there is no variable '_scope'"),
    ],
)
def test_jinja_stops(expression: str, cause: str) -> None:
    """Jinja neither runs away nor gets at Python."""
    source = source_of("{{ " + expression + " }}")
    with pytest.raises(EvaluationError) as failure:
        source.evaluate_here(SCOPE, "")
    assert cause in str(failure.value)


def test_a_text_that_repeats_itself_stops() -> None:
    """What stands in a loop of a template is counted each time."""
    source = source_of("{% for each in _.l %}" + "x" * 20_000 + "{% endfor %}")
    with pytest.raises(EvaluationError, match="builds more than"):
        source.value(SCOPE, Budget())


def test_json_is_counted_while_it_is_written() -> None:
    """A value that is short becomes long with much space before each line: writing stops where the budget ends."""
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationError, match="builds more than"):
            dump_json(Budget(), [0] * 2_000, indent=50_000)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("expression", "cause"), [("'%1000000000d' % 1", "needs more than"), ("range(1000000)", "Range too big")]
)
def test_unbounded_jinja_stops_apart(expression: str, cause: str) -> None:
    """What has no bound is left to the limits of the process apart."""
    with pytest.raises(EvaluationError, match=cause):
        source_of("{{ " + expression + " }}").evaluate(SCOPE)


def test_jinja_reckons() -> None:
    """Arithmetic needs no process, nor does a text that is repeated; one that is formatted does."""
    assert source_of("{{ 7 * 3 % 4 + 2 ** 3 }} {{ 'ab' * 2 }} {{ '%03d' % 7 }}").evaluate(SCOPE) == "9 abab 007"


def test_ordinary_work_fits() -> None:
    """Ten thousand items are filtered, grouped and ordered within the budget."""
    scope = PlainScope({"rows": [{"k": f"key {n % 100}", "n": n} for n in range(10_000)]})
    template = compile_template(
        "<% $.rows.where($.n > 10).groupBy($.k).orderBy($[0]).select($[1].len()).sum() %>", print
    )
    assert template.evaluate(scope) == 9_989
