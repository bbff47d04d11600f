"""In the engine's process only what has a known bound runs: what freezes it elsewhere, stops here at once."""

from __future__ import annotations

import gc
import time
from contextlib import suppress

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions import pool_client
from dalsegno.expressions.budget import STEPS_HERE, Budget, BudgetHere, NeedsPool
from dalsegno.expressions.compile import Expression, compile_template
from dalsegno.expressions.evaluation import Source
from dalsegno.expressions.pool.jobs import Evaluation, SchemaCheck
from dalsegno.expressions.pool_client import Moment, Overrun, Waiting
from dalsegno.expressions.yaql.evaluate import YaqlExpression
from dalsegno.workflow.scope import EvaluationError, Scope, Suspended

PRIME = 2**61 - 1
"""Python's hash of its multiples is 0."""
WIDE = 20_000
"""Items of a list that collide."""
HERE_S = 0.3
"""A wide bound of the processor time that an evaluation has in the engine: it is meant to take 20 ms."""
SCOPE = PlainScope(
    {
        "collide": [PRIME * number for number in range(WIDE)],
        "big": int("7" * 4_000),
        "odd": int("3" * 3_999 + "1"),
        "s": "a" * 100_000,
        "middle": "a" * 25_000,
        "needle": "a" * 6_000 + "b" + "a" * 5_999,
        "rows": [{"name": f"name {number}", "tags": ["a", "b"]} for number in range(20_000)],
        "words": ["word"] * 50_000,
        "names": {f"name {number}": number for number in range(50_000)},
        "merged": "a: &a {x: 1}\nb: &b {<<: [" + ", ".join(["*a"] * 200) + "]}\n",
        "nested": "[" * 3_000,
    }
)


def source_of(template: str) -> Source:
    """What the template consists of."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message))
    assert isinstance(compiled, Expression)
    return compiled.expression


FREEZERS = (
    "<% $.collide.distinct().len() %>",
    "<% $.collide.groupBy($).len() %>",
    "<% $.collide.toDict($).len() %>",
    "<% dict($.collide.select([$, 1])).len() %>",
    "<% $.collide.aggregate($1.set($2, 1), {}).len() %>",
    "<% $.collide.aggregate($1 + {$2 => 1}, {}).len() %>",
    "<% [$.collide, [1]].distinct().len() %>",
    "{{ _.collide | unique | list | length }}",
    "<% pow($.big, $.odd, $.big - 1) %>",
    "<% pow($.odd, -1, $.big) %>",
    "<% range(100000).select(pow($.big, 5, $.odd)).len() %>",
    "<% range(100000).select($.big * 3 mod $.odd) %>",
    "<% range(60000).select(hex(pow(16, 3500))) %>",
    "<% let(n => $.big) -> range(60000).select(hex($n)) %>",
    "<% let(n => $.big) -> range(100000).select(str($n)).len() %>",
    "<% let(n => $.big) -> range(100000).select(-$n).len() %>",
    "<% let(n => str($.big)) -> range(100000).select(int($n)).len() %>",
    "<% range(pow(10, 4200), pow(10, 4200) + 100000).toList().len() %>",
    "<% range(100000).enumerate(pow(10, 4200)).len() %>",
    "<% range(100000).aggregate($1.concat([$2]), []).len() %>",
    "<% range(100000).aggregate($1.append($2), []).len() %>",
    "<% range(100000).aggregate($1 + [$2], []).len() %>",
    "<% range(100000).select([$].select($)).sum().len() %>",
    "<% let(s => $.middle, n => $.needle) -> range(100000).select($n in $s) %>",
    "<% let(s => $.middle, n => $.needle) -> range(100000).select($s.indexOf($n)) %>",
    "<% let(s => $.s, n => $.needle) -> range(100000).select($s.lastIndexOf($n)) %>",
    "<% let(s => $.s, n => $.needle) -> range(100000).select($s.rightSplit($n)) %>",
    "<% let(s => $.middle, n => $.needle) -> range(100000).select($s.replace($n, '')) %>",
    "<% $.s.trim($.needle * 50) %>",
    "<% json_dump($.rows) %>",
    "<% str($.rows) %>",
    "<% yaml_dump($.rows) %>",
    "<% $.rows = $.rows.toList() %>",
    "<% {name => 1} in $.rows %>",
    "<% $.rows.distinct().len() %>",
    "<% $.rows.orderBy($.name).first() %>",
    "<% range(1000).aggregate([$1].select($), $.words).flatten().flatten().len() %>",
    "<% let(d => $.names) -> range(100000).select($d.values().count()) %>",
    "<% let(d => $.names) -> range(100000).select($d.keys() = $d.keys()) %>",
    "<% let(d => $.names) -> range(100000).select(($d.keys() - $d.keys()).len()) %>",
    "<% yaml_parse($.merged) %>",
    "<% yaml_parse($.nested) %>",
    "<% range(1000).select(yaml_parse('[' * 99)) %>",
    "<% range(100000).select($.x.len()) %>",
    "{{ _.rows == _.rows + [] }}",
    "{{ _.rows + [] < _.rows + [1] }}",
    "{{ {'name': 1} in _.rows }}",
    "{{ _.rows | sort(attribute='name') | length }}",
    "{{ _.rows | map(attribute='tags') | sum(start=[]) | length }}",
    "{{ _.rows | map('string') | map('title') | join }}",
    "{{ _.words | map('upper') | list }}",
    "{{ _.words | reject('in', _.words) | list }}",
    "{{ _.rows | string | length }}",
    "{{ _.s.rsplit(_.needle) }}",
    "{{ _.needle in _.middle }}",
    "{{ _.s.strip(_.needle * 50) | length }}",
    "{{ _.s * 20 ~ _.rows }}",
    "{{ _.s[::2] * 100 }}",
    "{{ _.big ** _.big }}",
    "{{ '%1000000000d' is odd }}",
    "{{ ('9' * 1000000) | int(base=16) }}",
    "{{ _.rows }} {{ _.rows }} {{ _.rows }}",
    "<% $.rows %> <% $.rows %> <% $.rows %>",
    "<% $.s %> " * 1_000,
    "{{ _.s }} " * 60,
)
"""Expressions over plain data that took seconds and more, or as much memory, and some of their neighbours."""


@pytest.mark.parametrize("template", FREEZERS, ids=lambda template: template[:60])
def test_nothing_freezes_the_engine(template: str) -> None:
    """Each is stopped at once, or ends: here all of them are tried as in the engine."""
    source = source_of(template)
    gc.disable()  # A collection would look through all that other tests have left in this process.
    started = time.thread_time()
    try:
        source.value(SCOPE, BudgetHere())
    except (NeedsPool, RecursionError):
        pass
    except Exception as error:
        source.failure(error)
    finally:
        took_s = time.thread_time() - started
        gc.enable()
    assert took_s < HERE_S


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<% $.collide.distinct().len() %>", WIDE),
        ("<% $.collide.groupBy($).len() %>", WIDE),
        ("<% $.collide.limit(2000).toDict($).len() %>", 2_000),
        ("{{ _.collide | unique | list | length }}", WIDE),
        ("<% range(100000).select($ + 1).sum() %>", 5_000_050_000),
        ("<% str([1, 2].select($)) + str(range(100000).len()) %>", "(1, 2)100000"),
        ("{{ _.words | map('upper') | unique | list }}", ["WORD"]),
        ("n = <% range(100000).sum() %> <% uuid().len() %>", "n = 4999950000 36"),
    ],
)
def test_what_is_too_long_for_the_engine_is_moved(template: str, value: object) -> None:
    """A process apart evaluates it, with the same closures: there the library would show an address in memory."""
    source = source_of(template)
    with pytest.raises(NeedsPool):
        source.value(SCOPE, BudgetHere())
    assert source.evaluate(SCOPE) == value


@pytest.mark.parametrize("notation", ["<% {} %>", "n = <% {} %> <% 1 %>"])
def test_chance_is_the_same_where_it_is_evaluated(notation: str) -> None:
    """uuid() and random() do not tell whether the expression was moved."""
    template = compile_template(notation.format("[uuid(), uuid(), random()]"), print, ("a", "b"))
    assert template.evaluate(PlainScope()) == template.evaluate(PlainScope(steps_left=0))


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<% [1, 1.0, true, 2, 2.5, 2.5].distinct() %>", [1, 2, 2.5]),
        ("<% [true, 1, 0, false, 0.0].distinct() %>", [True, 0]),
        ("<% ['1', 1, null, null, [1], [1.0], {a => 1}, {a => true}].distinct() %>", ["1", 1, None, [1], {"a": 1}]),
        ("<% [[1, a], [1.0, b]].groupBy($[0], $[1]).toList() %>", [[1, ["a", "b"]]]),
        ("<% [100000000000000000000, float('1e20'), pow(10, 20)].distinct().len() %>", 1),
        ("<% [float(nan), float(nan)].distinct().len() %>", 2),
        ("<% {1 => a, 2000000 => b}.get(2000000.0) %>", "b"),
        ("{{ [1, 1.0, true, '1', 'A', 'a'] | unique | list }}", [1, "1", "A"]),
    ],
)
def test_equal_values_are_found_as_before(template: str, value: object) -> None:
    """1, 1.0 and true are equal, to YAQL's library and to Python; texts and numbers are not."""
    found = source_of(template).value(SCOPE, Budget())
    assert found == value
    assert str(found) == str(value)


NINES = "let(t => pow(10, 4299)) -> $t * 9 + ($t - 1)"
"""The largest integer."""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (NINES, 10**4300 - 1),
        (f"-({NINES})", 1 - 10**4300),
        (f"hex({NINES})", hex(10**4300 - 1)),
        (f"str({NINES}).len()", 4_300),
        ("pow(1, 100000000) + pow(-1, 100000001) + pow(0, 5)", 0),
        ("pow(2, 14284) mod 7", pow(2, 14284, 7)),
        ("shiftBitsLeft(0, 100000000)", 0),
        ("shiftBitsRight(5, 100000000)", 0),
    ],
    ids=lambda given: str(given)[:40] if isinstance(given, str) else "value",
)
def test_integers_have_up_to_4300_digits(expression: str, value: object) -> None:
    """What is shorter has its value, and what only looks long too."""
    assert source_of(f"<% {expression} %>").value(SCOPE, Budget()) == value


TOO_LONG = "an integer grows beyond 4,300 digits"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("<% pow(10, 4300) %>", TOO_LONG),
        ("<% $.big * $.big %>", TOO_LONG),
        ("<% range(20).aggregate($1 + $1, pow(10, 4299)) %>", TOO_LONG),
        ("<% shiftBitsLeft(1, 14285) %>", TOO_LONG),
        (f"<% ({NINES}) + 1 %>", TOO_LONG),
        (f"<% bitwiseNot({NINES}) %>", TOO_LONG),
        ("<% yaml_parse('0x' + 'f' * 3580) %>", TOO_LONG),
        ("{{ 10 ** 4300 }}", TOO_LONG),
        ("{{ _.big * _.big }}", TOO_LONG),
        ("{{ ('f' * 3580) | int(base=16) }}", TOO_LONG),
        ("{{ [10 ** 4299] * 11 | sum }}", "TypeError"),
        ("{{ ([10 ** 4299] * 11) | sum }}", TOO_LONG),
        ("{{ '%s' % (2 ** 14284 * 4) }}", TOO_LONG),
        ("<% '\\u0000' %>", "a text with a NUL character"),
        ("<% json_parse('\"\\\\u0000\"') %>", "a text with a NUL character"),
        ('<% json_parse(\'[{"a": "\\\\u0000"}]\') %>', "a text with a NUL character"),
        ("<% json_parse('{\"\\\\u0000\": 1}') %>", "a text with a NUL character"),
        ("<% ['\\u0000' + $.s] %>", "a text with a NUL character"),
        ("<% {'\\u0000' => 1} %>", "a text with a NUL character"),
        ("<% [1].select('\\u0000') %>", "a text with a NUL character"),
        ("<% yaml_parse('\"\\\\0\"') %>", "a text with a NUL character"),
        ("n <% '\\u0000' %>", "a text with a NUL character"),
        ("<% regex('a').replace(a, '\\u0000') %>", "a text with a NUL character"),
        ("{{ '\\0' }}", "a text with a NUL character"),
        ("{{ ['\\0'] }}", "a text with a NUL character"),
        ("n {{ '\\0' }}", "a text with a NUL character"),
        ("{{ '%c' % 0 }}", "a text with a NUL character"),
        ("{% for x in '\\0' %}{{ x }}{% endfor %}", "a text with a NUL character"),
        ("<% '\\ud800' %>", "half a surrogate pair"),
        ("<% json_parse('\"\\\\ud83d\"') + json_parse('\"\\\\ude00\"') %>", "half a surrogate pair"),
        ("{{ '\\ud800' }}", "half a surrogate pair"),
        ("{{ {'\\ud800': 1} }}", "half a surrogate pair"),
        ("{{ '%c' % 55296 }}", "half a surrogate pair"),
        ("<% float(nan) %>", "nan, which JSON does not have"),
        ("<% [float(inf)] %>", "inf, which JSON does not have"),
        ("<% json_parse('1e999') %>", "inf, which JSON does not have"),
        ("<% json_parse('[1e999]') %>", "inf, which JSON does not have"),
        ("<% yaml_parse('[.nan]') %>", "nan, which JSON does not have"),
        ("{{ 1e308 * 10 }}", "inf, which JSON does not have"),
        ("{{ ['nan' | float] }}", "nan, which JSON does not have"),
        ("<% range(300).aggregate([$1], 1) %>", "nested deeper than 200 levels"),
        ("<% range(300).aggregate({a => $1}, 1) %>", "nested deeper than 200 levels"),
        ("<% range(300).aggregate([$1].select($), 1) %>", "nested deeper than 200 levels"),
        ("<% json_parse('[' * 300 + ']' * 300) %>", "nested deeper than 200 levels"),
        ("<% json_parse('[' * 100000 + ']' * 100000) %>", "it nests too deeply"),
        ("{{ ('[' * 300 + ']' * 300) | json_parse }}", "nested deeper than 200 levels"),
        ("<% {[1].select($) => 1} %>", "an iterator as a key"),
        ("{{ {(1, 2): 1} }}", "a list as a key"),
        ("{{ _.s.upper }}", "which is not JSON data"),
        ("{{ [_.s.upper] }}", "which is not JSON data"),
        ("<% pow(-8, 0.5) %>", "which is not JSON data"),
        ("<% $.s.encode() %>", "there is no method encode()"),
        ("{{ _.s.encode() }}", "which is not JSON data"),
    ],
    ids=lambda given: given[:50],
)
def test_what_json_cannot_hold_here_is_an_error_of_the_expression(template: str, reason: str) -> None:
    """In either language, in texts and apart: never something that is found when the value is written."""
    with pytest.raises(EvaluationError, match=reason):
        source_of(template).evaluate(SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<% {1 => a, 2.5 => b, null => c, false => d} %>", {"1": "a", "false": "d", "2.5": "b", "null": "c"}),
        ("<% {a => 1}.keys() - {b => 1}.keys() %>", ["a"]),
        ("<% json_parse('\"\\\\u0000\"').len() %>", 1),
        ("<% '\U0001f600' %>", "\U0001f600"),
        ("<% json_parse('\"\\\\ud83d\\\\ude00\"') %>", "\U0001f600"),
        ('<% json_parse(\'{"a": [1, 2.5, null, "x"]}\') %>', {"a": [1, 2.5, None, "x"]}),
    ],
)
def test_what_json_can_hold(template: str, value: object) -> None:
    """Keys become texts and sets lists in order; what was unfit on the way does not matter."""
    assert source_of(template).evaluate(SCOPE) == value


def test_values_of_the_scope_pass_as_they_are() -> None:
    """However deep they are: they are JSON already, and nobody looks through them."""
    deep: object = 1
    for _ in range(650):
        deep = [deep]
    scope = PlainScope({"deep": deep})
    for template in ("<% $.deep %>", "{{ _.deep }}", "<% coalesce($.deep) %>"):
        assert compile_template(template, print).evaluate(scope) is deep


@pytest.mark.parametrize("around", [["<% $.x %>"], {"a": "{{ _.x }}"}, {"a": [1, {"b": "<% coalesce($.x) %>"}]}])
def test_lists_around_expressions_do_not_nest_without_end(around: object) -> None:
    """A loop that puts a variable into a list, again and again, ends with an error that names the expression."""
    template = compile_template(around, print)
    scope = PlainScope({"x": 2**70})

    def go_round() -> None:
        for _ in range(1_000):
            scope.values["x"] = template.evaluate(scope)

    with pytest.raises(EvaluationError, match=r"x.*: it gives a value nested deeper than 700 levels"):
        go_round()


def test_an_evaluation_draws_on_what_its_event_has() -> None:
    """Its steps are counted, also those of one that fails; with nothing left it is evaluated apart, to the same end."""
    scope = PlainScope({"l": list(range(1_000)), "a": {"b": 1}}, steps_left=10_000)
    template = compile_template("<% $.l.select($ + 1).sum() %>", print)
    value = template.evaluate(scope)
    used = 10_000 - scope.steps_left
    assert 1_000 < used < 10_000
    with pytest.raises(EvaluationError):
        compile_template("<% $.l.select($ / 0).sum() %>", print).evaluate(scope)
    assert scope.steps_left < 10_000 - used - 1_000
    scope.steps_left = 500
    assert template.evaluate(scope) == value
    assert scope.steps_left < 500
    scope.steps_left = 0
    assert template.evaluate(scope) == value
    assert scope.steps_left == 0
    assert compile_template("<% $.a.b %>", print).evaluate(scope) == 1  # what only follows a path stays here


def test_one_evaluation_uses_no_more_than_it_may_have() -> None:
    """What was not done, because it would have been too much, is not counted."""
    scope = PlainScope({"l": list(range(1_000))}, steps_left=200_000)
    assert compile_template("<% ($.l * 1000).len() %>", print).evaluate(scope) == 1_000_000
    assert scope.steps_left > 199_000
    assert compile_template("<% range(200000).len() %>", print).evaluate(scope) == 200_000
    assert 200_000 - STEPS_HERE - 2_000 < scope.steps_left < 200_000 - STEPS_HERE + 2_000


class Remembering(Waiting):
    """The evaluator of a thread that steps an event again and again: it has no value at first."""

    def __init__(self) -> None:
        self.overruns: dict[Moment, Overrun] = {}
        self.has_value = False

    def keep_overrun(self, moment: Moment, overrun: Overrun) -> None:
        self.overruns[moment] = overrun

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        if not self.has_value:
            raise Suspended
        return super().value(job, scope)


def test_what_was_too_much_for_the_engine_is_not_tried_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is stepped again asks the pool at once, for the same price; what was quick is evaluated again."""
    evaluator = Remembering()
    monkeypatch.setattr(pool_client, "_waiting", evaluator)
    tried: list[str] = []
    value = YaqlExpression.value

    def try_here(source: YaqlExpression, scope: Scope, budget: Budget) -> object:
        tried.append(source.text)
        return value(source, scope, budget)

    monkeypatch.setattr(YaqlExpression, "value", try_here)
    large, quick = (compile_template(f"<% range({count}).len() %>", print) for count in (STEPS_HERE, 10))

    def step() -> tuple[list[object], int]:
        scope = PlainScope({}, steps_left=200_000)
        values = [quick.evaluate(scope)]
        with suppress(Suspended):
            values.append(large.evaluate(scope))
        values.append(quick.evaluate(scope))
        return values, scope.steps_left

    values, left = step()
    assert values == [10, 10]
    evaluator.has_value = True
    assert step() == ([10, STEPS_HERE, 10], left)
    assert [text.count(str(STEPS_HERE)) for text in tried] == [0, 1, 0, 0, 0]
