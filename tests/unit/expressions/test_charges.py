"""Each function, operator, filter, test and method of both languages is paid for by the size of what it works on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jinja2.filters import FILTERS as NATIVE_FILTERS
from jinja2.tests import TESTS as NATIVE_TESTS
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.compile import Expression, compile_template
from dalsegno.expressions.jinja import JinjaExpression
from dalsegno.expressions.jinja_filters import FILTERS, TESTS
from dalsegno.expressions.jinja_values import METHODS as JINJA_METHODS
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.expressions.yaql.evaluate import NO_NAMES, YaqlExpression
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import BINARY, UNARY
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS, Builtin

SMALL, LARGE = 400, 3_200
"""Members of a list or a dict, characters of a text, or digits of an integer."""
LEAST = 1 / 200
"""What each further one must cost, in steps or in characters and elements that are built."""


class Scope(PlainScope):
    """Values of one size."""

    def __init__(self, size: int) -> None:
        rows = [{"a": number, "b": "x"} for number in range(size)]
        members = {f"k{number}": number for number in range(size)}
        super().__init__(
            {
                "l": list(range(size)),
                "t": "ab c" * (size // 4),
                "u": "ab c" * (size // 4) + "!",
                "strs": [f"a{number}" for number in range(size)],
                "lists": [[number] for number in range(size)],
                "d": members,
                "e": {**members, "k0": -1},
                "rows": rows,
                "i": int("7" * size),
                "j": int("3" * size),
                "w": int("7" * (size // 2)),
                "json": "[" + "1, " * (size // 3) + "1]",
                "yaml": "[" + "1, " * (size // 3) + "1]",
                "digits": "7" * size,
                "one": 1,
                **{f"v{number}": number for number in range(size)},
            },
            items=[{**members, "ab c" * (size // 4): 1}],
            states={"current": "SUCCESS", "each": "SUCCESS"},
        )
        self._members = members

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        found = super().run(name, route)
        return found and {**found, "items": [(None, "SUCCESS") for _ in self._members]}

    def result(self) -> object:
        return list(self._members)


def cost_of(template: str, size: int, language: Language = MISTRAL) -> int:
    """What the expression pays, without what is paid for handing over its value."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message), language=language)
    assert isinstance(compiled, Expression)
    source, scope, budget = compiled.expression, Scope(size), Budget()
    steps, built = budget.steps, budget.size
    assert source.is_bounded, f"{template} does not run in the engine"
    if isinstance(source, YaqlExpression):
        assert source.closure is not None
        exhaust(source.closure(Frame(scope, budget, NO_NAMES), None))
    else:
        assert source.value(scope, budget) in (True, False)
    return steps - budget.steps + built - budget.size


def exhaust(value: object) -> None:
    """Have everything computed that is computed when it is asked for."""
    if isinstance(value, Iterator) or type(value).__name__ == "Ordering":
        for item in value:  # type: ignore[attr-defined]
            exhaust(item)


def assert_paid(template: str, language: Language = MISTRAL) -> None:
    """Larger values cost more, at least LEAST for each member, character or digit."""
    small, large = cost_of(template, SMALL, language), cost_of(template, LARGE, language)
    assert large - small >= (LARGE - SMALL) * LEAST, f"{template} costs {small} and for eight times as much {large}"


YAQL_OPERATORS = {
    "+": ["$.l + $.l", "$.t + $.u", "$.d + $.e", "$.i + $.j", "$.l.select($) + $.l"],
    "-": ["$.i - $.one", "$.d.keys() - $.e.keys()"],
    "*": ["$.w * 3", "$.w * $.w", "$.l * 2", "$.t * 2", "2 * $.t"],
    "/": ["$.i / 7", "$.i / $.w"],
    "mod": ["$.i mod 7", "$.i mod $.w"],
    "=": [
        "$.l = $.l.toList()",
        "$.t = $.u",
        "$.d = $.d.set(k0, 0)",
        "$.rows = $.rows.toList()",
        "$.d.keys() = $.e.keys()",
    ],
    "!=": ["$.l != $.l.toList()", "$.t != $.u"],
    "<": ["$.t < $.u", "$.d.keys() < $.e.keys()"],
    "<=": ["$.t <= $.u"],
    ">": ["$.t > $.u"],
    ">=": ["$.t >= $.u"],
    "in": ["-1 in $.l", "'zz' in $.t", "$.u in $.strs.concat([$.t])", "[0] in $.rows", "x in $.l.select($)"],
}
"""Comparing two integers takes less than a step: they have at most 4,300 digits."""
YAQL_UNARY = {"-": "-$.i", "+": None, "not": None}
YAQL_FUNCTIONS = {
    "abs": "abs(-$.i)",
    "all": "all($.l.select(true))",
    "any": "any($.l.select(false))",
    "append": "append($.l, 1)",
    "bitwiseAnd": "bitwiseAnd($.i, $.j)",
    "bitwiseNot": "bitwiseNot($.i)",
    "bitwiseOr": "bitwiseOr($.i, $.j)",
    "bitwiseXor": "bitwiseXor($.i, $.j)",
    "bool": None,
    "coalesce": None,
    "concat": "concat($.t, $.t)",
    "dict": "dict($.l.zip($.l))",
    "distinct": "distinct($.lists)",
    "enumerate": "enumerate($.l)",
    "float": "float('0.' + $.digits)",
    "format": "format('{0}', $.l)",
    "hex": "hex($.i)",
    "int": "int($.digits)",
    "isBoolean": None,
    "isDict": None,
    "isEmpty": "isEmpty($.t)",
    "isInteger": None,
    "isIterable": None,
    "isList": None,
    "isNumber": None,
    "isSet": None,
    "isString": None,
    "len": None,
    "list": "list($.l.select($))",
    "max": "max($.i, $.j)",
    "min": "min($.i, $.j)",
    "norm": "norm($.t)",
    "pow": "pow($.w, 2)",
    "random": "random($.j, $.i)",
    "range": "range($.l.len())",
    "round": "round($.i, -2)",
    "selectCase": None,
    "shiftBitsLeft": "shiftBitsLeft($.i, 1)",
    "shiftBitsRight": "shiftBitsRight($.i, 1)",
    "sign": None,
    "str": "str($.l)",
}
"""For each an expression that has it do more for larger values; None for what never does."""
YAQL_METHODS = {
    "accumulate": "$.l.accumulate($1 + $2)",
    "aggregate": "$.l.aggregate($1 + $2)",
    "all": "$.l.all($ >= 0)",
    "any": "$.l.any($ < 0)",
    "append": "$.l.append(1)",
    "concat": "$.l.concat($.l)",
    "contains": "$.l.contains(-1)",
    "containsKey": "{a => 1}.containsKey($.t)",
    "containsValue": "$.d.containsValue(-1)",
    "count": "$.l.count()",
    "defaultIfEmpty": "$.l.select($).defaultIfEmpty([])",
    "delete": "$.l.delete(1)",
    "deleteAll": "$.d.deleteAll([a])",
    "distinct": "$.strs.distinct()",
    "endsWith": "$.t.endsWith($.t)",
    "enumerate": "$.l.enumerate()",
    "filter": "$.l.filter(true)",
    "first": None,
    "flatten": "$.lists.flatten()",
    "format": "'{0}'.format($.t)",
    "get": "{a => 1}.get($.t)",
    "groupBy": "$.rows.groupBy($.b)",
    "indexOf": "$.t.indexOf(zz)",
    "indexWhere": "$.l.indexWhere($ < 0)",
    "insert": "$.l.insert(1, 1)",
    "insertMany": "$.l.insertMany(1, $.l)",
    "isEmpty": "$.t.isEmpty()",
    "items": None,
    "join": "$.strs.join(',')",
    "keys": None,
    "last": "$.l.select($).last()",
    "lastIndexOf": "$.t.lastIndexOf(zz)",
    "lastIndexWhere": "$.l.lastIndexWhere($ < 0)",
    "len": "$.l.select($).len()",
    "limit": "$.l.select($).limit(99999)",
    "map": "$.l.map($)",
    "max": "$.l.max()",
    "mergeWith": "$.d.mergeWith($.e)",
    "min": "$.l.min()",
    "norm": "$.t.norm()",
    "orderBy": "$.l.orderBy($)",
    "orderByDescending": "$.l.orderByDescending($)",
    "reduce": "$.l.reduce($1 + $2)",
    "repeat": "1.repeat($.l.len())",
    "replace": "$.t.replace(a, aa)",
    "reverse": "$.l.reverse()",
    "rightSplit": "$.t.rightSplit(c)",
    "select": "$.l.select($)",
    "selectMany": "$.lists.selectMany($)",
    "set": "$.d.set(a, 1)",
    "single": None,
    "skip": "$.l.skip(1)",
    "skipWhile": "$.l.skipWhile(true)",
    "slice": "$.l.slice(2)",
    "split": "$.t.split(c)",
    "splitAt": "$.l.splitAt(2)",
    "startsWith": "$.t.startsWith($.t)",
    "substring": "$.t.substring(1)",
    "sum": "$.l.sum()",
    "switchCase": None,
    "take": "$.l.select($).take(99999)",
    "takeWhile": "$.l.takeWhile(true)",
    "thenBy": "$.rows.orderBy($.b).thenBy($.a)",
    "thenByDescending": "$.rows.orderBy($.b).thenByDescending($.a)",
    "toCharArray": "$.t.toCharArray()",
    "toDict": "$.strs.toDict($)",
    "toList": "$.l.toList()",
    "toLower": "$.t.toLower()",
    "toUpper": "$.t.toUpper()",
    "trim": "$.t.trim()",
    "trimLeft": "$.t.trimLeft(ab)",
    "trimRight": "$.t.trimRight()",
    "values": None,
    "where": "$.l.where(true)",
    "zip": "$.l.zip($.l)",
    "zipLongest": "$.l.zipLongest($.l)",
}
MISTRAL_FUNCTIONS = {
    "callback_url": None,
    "env": None,
    "execution": None,
    "executions": None,
    "global": None,
    "task": None,
    "tasks": None,
    "uuid": None,
    "json_dump": "json_dump($.l)",
    "json_parse": "json_parse($.json)",
    "yaml_dump": "yaml_dump($.l)",
    "yaml_parse": "yaml_parse($.yaml)",
}
"""The records of tasks and executions cost the same for any execution: lists of them have at most 1,000."""
ORQUESTA_FUNCTIONS = {
    "basename": "basename(ctx(t))",
    "callback_url": None,
    "completed": None,
    "ctx": "ctx()[ctx(t), 1]",
    "dirname": "dirname(ctx(t))",
    "failed": None,
    "from_json_string": "from_json_string(ctx(json))",
    "from_yaml_string": "from_yaml_string(ctx(yaml))",
    "item": "item(ctx(t))",
    "json": "json(ctx(json))",
    "json_dump": "json_dump(ctx(l))",
    "json_escape": "json_escape(ctx(t))",
    "json_parse": "json_parse(ctx(json))",
    "result": "result()",
    "st2kv": "st2kv(ctx(t), default => 1)",
    "succeeded": None,
    "task": "task(each)",
    "task_status": None,
    "to_human_time_from_seconds": None,
    "to_json_string": "to_json_string(ctx(l))",
    "to_yaml_string": "to_yaml_string(ctx(l))",
    "use_none": None,
    "version_bump_major": None,
    "version_bump_minor": None,
    "version_bump_patch": None,
    "version_compare": None,
    "version_equal": None,
    "version_less_than": None,
    "version_match": None,
    "version_more_than": None,
    "version_strip_patch": None,
    "yaml_dump": "yaml_dump(ctx(l))",
    "yaml_parse": "yaml_parse(ctx(yaml))",
    "zip": "zip(ctx(l), ctx(l))",
}
"""A version has at most 256 characters, and costs the same whatever it is."""
OTHER_YAQL = (
    "$.rows.a",
    "$",
    "$.len()",
    "$[$.t, 1]",
    "let(x => $.l) -> $x.len() + $x.select($).len()",
)
JINJA_OPERATORS = (
    "_.d.keys() - {}.keys()",
    "{}.keys() - _.d.keys()",
    "_.l + _.l",
    "_.t + _.u",
    "_.i + _.j",
    "_.i - 1",
    "_.w * 3",
    "_.w * _.w",
    "_.l * 2",
    "2 * _.t",
    "_.i // 7",
    "_.i % 7",
    "_.w ** 2",
    "_.l ~ 1",
    "_.t ~ _.u",
    "_.l == _.l + []",
    "_.t == _.u",
    "_.d == _.e",
    "_.i < _.j",
    "_.t < _.u",
    "_.l >= _.l + [1]",
    "_.t <= _.t <= _.u",
    "-1 in _.l",
    "'zz' in _.t",
    "-1 not in _.l",
    "[-1] in _.lists",
    "_.t in _.d",
    "_.l[1:]",
    "_.t[::2]",
    "-1 in _.d.values()",
)
JINJA_FILTERS = {
    "abs": "_.i | abs",
    "capitalize": "_.t | capitalize",
    "count": None,
    "d": None,
    "default": None,
    "first": None,
    "float": "_.digits | float",
    "int": "_.digits | int",
    "join": "_.l | join(',')",
    "last": None,
    "length": None,
    "list": "_.l | list",
    "lower": "_.t | lower",
    "map": "_.strs | map('upper') | list",
    "max": "_.l | max",
    "min": "_.strs | min",
    "reject": "_.l | reject('odd') | list",
    "rejectattr": "_.rows | rejectattr('a') | list",
    "reverse": "_.l | reverse",
    "select": "_.l | select('gt', 5) | list",
    "selectattr": "_.rows | selectattr('a', 'gt', 5) | list",
    "sort": "_.strs | sort",
    "string": "_.l | string",
    "sum": "_.l | sum",
    "title": "_.t | title",
    "trim": "_.t | trim",
    "unique": "_.strs | unique | list",
    "upper": "_.t | upper",
}
JINJA_TESTS = {
    "defined": None,
    "undefined": None,
    "none": None,
    "string": None,
    "number": None,
    "integer": None,
    "float": None,
    "boolean": None,
    "mapping": None,
    "sequence": None,
    "iterable": None,
    "true": None,
    "false": None,
    "odd": "_.i is odd",
    "even": "_.i is even",
    "in": "-1 is in _.l",
    "eq": "_.l is eq _.l",
    "equalto": "_.d is equalto _.e",
    "==": None,
    "ne": "_.l is ne _.l",
    "!=": None,
    "lt": "_.t is lt _.u",
    "lessthan": "_.t is lessthan _.u",
    "<": None,
    "le": "_.i is le _.j",
    "<=": None,
    "gt": "_.t is gt _.u",
    "greaterthan": "_.t is greaterthan _.u",
    ">": None,
    "ge": "_.t is ge _.u",
    ">=": None,
}
"""Signs stand in arguments only: they are the tests of the same names."""
JINJA_CALLS = {
    "get": "{}.get(_.t)",
    "keys": None,
    "values": None,
    "items": None,
    "split": "_.t.split('c')",
    "rsplit": "_.t.rsplit('c')",
    "strip": "_.t.strip()",
    "lstrip": "_.t.lstrip('ab')",
    "rstrip": "_.t.rstrip()",
    "upper": "_.t.upper()",
    "lower": "_.t.lower()",
    "title": "_.t.title()",
    "startswith": "_.t.startswith(_.t)",
    "endswith": "_.t.endswith(_.u)",
    "isdigit": "_.digits.isdigit()",
}


def cases(*tables: dict[str, str | None]) -> list[str]:
    """The expressions of the tables."""
    return [text for table in tables for text in table.values() if text]


def own(table: dict[str, Builtin]) -> set[str]:
    """The names in the table, without what other tests have planted in it."""
    return {name for name, entry in table.items() if entry.implementation.__module__.startswith("dalsegno.")}


def test_nothing_is_left_out() -> None:
    """Whatever is added has to say here what it costs."""
    assert YAQL_OPERATORS.keys() == BINARY.keys()
    assert YAQL_UNARY.keys() == UNARY.keys()
    assert YAQL_FUNCTIONS.keys() == own(FUNCTIONS)
    assert YAQL_METHODS.keys() == own(METHODS)
    assert MISTRAL_FUNCTIONS.keys() == MISTRAL.quick_functions
    assert ORQUESTA_FUNCTIONS.keys() == ORQUESTA.quick_functions
    assert JINJA_FILTERS.keys() == FILTERS
    assert JINJA_TESTS.keys() == TESTS
    assert JINJA_CALLS.keys() == JINJA_METHODS.keys()


@pytest.mark.parametrize(
    "text",
    [
        *(text for texts in YAQL_OPERATORS.values() for text in texts),
        *cases(YAQL_UNARY, YAQL_FUNCTIONS, YAQL_METHODS, MISTRAL_FUNCTIONS),
        *OTHER_YAQL,
    ],
)
def test_yaql_is_paid_for(text: str) -> None:
    """By the size of the operands, in the engine as anywhere."""
    assert_paid(f"<% {text} %>")


@pytest.mark.parametrize("text", cases(ORQUESTA_FUNCTIONS))
def test_functions_of_orquesta_are_paid_for(text: str) -> None:
    """In YAQL; Jinja calls the same functions."""
    assert_paid(f"<% {text} %>", ORQUESTA)


@pytest.mark.parametrize("text", [*JINJA_OPERATORS, *cases(JINJA_FILTERS, JINJA_TESTS, JINJA_CALLS)])
def test_jinja_is_paid_for(text: str) -> None:
    """The value itself is not handed over, so that nothing is paid for it."""
    assert_paid("{{ (" + text + ") is defined }}")


@pytest.mark.parametrize("text", ["x {{ _.l }}", "{% if _.t == _.u %}{{ _.t }}{% endif %}x", "x <% $.l %> <% $.t %>"])
def test_texts_are_paid_for(text: str) -> None:
    """What is put into a text, as it is written there."""
    compiled = compile_template(text, print)
    assert isinstance(compiled, Expression)
    costs = []
    for size in (SMALL, LARGE):
        budget = Budget()
        before = budget.steps + budget.size
        compiled.expression.value(Scope(size), budget)
        costs.append(before - budget.steps - budget.size)
    assert costs[1] - costs[0] >= (LARGE - SMALL) * LEAST


@pytest.mark.parametrize("text", ["'nope' in ctx()", "ctx() is mapping"])
def test_all_variables_together_are_paid_for(text: str) -> None:
    """Looking through all variables costs more the more there are, and asking what the context is costs nothing."""
    costs = [cost_of("{{ (" + text + ") is defined }}", size, ORQUESTA) for size in (SMALL, LARGE)]
    assert (costs[1] - costs[0] >= LARGE - SMALL) == ("in" in text.split())


@pytest.mark.parametrize("name", sorted(set(NATIVE_FILTERS) - FILTERS))
def test_other_filters_run_apart(name: str) -> None:
    """What is not paid for is not done in the engine, in whatever way it is called."""
    for text in (f"_.t | {name}", f"_.l | map('{name}') | list"):
        assert not expression(text).is_bounded


@pytest.mark.parametrize("name", sorted(set(NATIVE_TESTS) - TESTS))
def test_other_tests_run_apart(name: str) -> None:
    """What is not paid for is not done in the engine, in whatever way it is called."""
    for text in (f"_.t is {name}(1)", f"_.l | select('{name}') | list", f"_.l | rejectattr('a', '{name}') | list"):
        assert not expression(text).is_bounded


@pytest.mark.parametrize(
    "text",
    [
        "_.t.format(1)",
        "_.t.encode()",
        "_.t.join(_.l)",
        "_.t.center(9)",
        "range(9)",
        "_.f()",
        "dict(a=1)",
        "_.l | map(_.name) | list",
        "_.l | select(_.name) | list",
        "_.l | selectattr('a', _.name) | list",
        "_.l | map(*_.l) | list",
        "_.l | map('map', 'upper') | list",
        "cycler(1)",
        "(_.a or _.b)()",
        "_['get']()",
    ],
)
def test_unknown_calls_run_apart(text: str) -> None:
    """Nobody can tell what they cost."""
    assert not expression(text).is_bounded


def expression(text: str) -> JinjaExpression:
    """The Jinja expression."""
    compiled = compile_template("{{ " + text + " }}", lambda problem: pytest.fail(problem.message))
    assert isinstance(compiled, Expression)
    assert isinstance(compiled.expression, JinjaExpression)
    return compiled.expression


@pytest.mark.parametrize(
    "text", ["for x in _.l %}{% endfor", "set x = 1", "macro f() %}{% endmacro", "filter upper %}{% endfilter"]
)
def test_blocks_that_repeat_or_keep_run_apart(text: str) -> None:
    """Loops and macros are counted by nobody."""
    compiled = compile_template("{% " + text + " %}", print)
    assert isinstance(compiled, Expression)
    assert not compiled.expression.is_bounded
