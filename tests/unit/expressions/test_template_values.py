"""What Jinja and the functions of both languages give, case by case: bounds, other types, and what is refused."""

from __future__ import annotations

import re

import pytest
from tests.hostile.exam import same
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_template
from dalsegno.expressions.environment import evaluate_environment
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.workflow.scope import EvaluationError

SCOPE: dict[str, object] = {
    "a": {"b": 1},
    "n": 3,
    "s": "aB",
    "l": [3, 1, 2],
    "u": None,
    "j": "{bad",
    "f": 1.5,
    "t": True,
    "o": [{"x": 2, "k": "p"}, {"x": 1, "k": "q"}, {"x": 2, "k": "P"}],
}
MISTRAL_VALUES: list[tuple[str, object]] = [
    ("{{ _.l | sum }}", 6),
    ("{{ _.l | sum(start=10) }}", 16),
    ("{{ _.o | sum(attribute='x') }}", 5),
    ("{{ [] | sum }}", 0),
    ("{{ _.l | join('-') }}", "3-1-2"),
    ("{{ _.o | join(',', attribute='k') }}", "p,q,P"),
    ("{{ [1, none, true] | join }}", "1NoneTrue"),
    ("{{ _.o | map(attribute='k') | unique | list }}", ["p", "q"]),
    ("{{ _.o | map(attribute='k') | unique(case_sensitive=true) | list }}", ["p", "q", "P"]),
    ("{{ _.o | unique(attribute='x') | map(attribute='k') | list }}", ["p", "q"]),
    ("{{ [1, 1.0, 2] | unique | list }}", [1, 2]),
    ("{{ _.l | sort }}", [1, 2, 3]),
    ("{{ _.l | sort(reverse=true) }}", [3, 2, 1]),
    ("{{ _.o | sort(attribute='x,k') | map(attribute='k') | list }}", ["q", "p", "P"]),
    ("{{ _.l | first }}", 3),
    ("{{ _.l | last }}", 2),
    ("{{ _.l | reverse | list }}", [2, 1, 3]),
    ("{{ 'abc' | reverse }}", "cba"),
    ("{{ 'abc' | list }}", ["a", "b", "c"]),
    ("{{ _.l | max }}", 3),
    ("{{ _.l | min }}", 1),
    ("{{ _.l | length }}", 3),
    ("{{ 'x' | int }}", 0),
    ("{{ '7' | int }}", 7),
    ("{{ 'x' | int(default=3) }}", 3),
    ("{{ 'ff' | int(base=16) }}", 255),
    ("{{ 'x' | float }}", 0.0),
    ("{{ '1.5' | float }}", 1.5),
    ("{{ -3 | abs }}", 3),
    ("{{ 'aB' | upper }}", "AB"),
    ("{{ 'aB' | lower }}", "ab"),
    ("{{ 'ab cd' | title }}", "Ab Cd"),
    ("{{ 'ab' | capitalize }}", "Ab"),
    ("{{ ' a ' | trim }}", "a"),
    ("{{ 'xax' | trim('x') }}", "a"),
    ("{{ _.u | default(1) }}", None),
    ("{{ _.u | default(1, true) }}", 1),
    ("{{ _.zz | default(2) }}", 2),
    ("{{ _.zz | d(2) }}", 2),
    ("{{ _.o | selectattr('x', 'equalto', 2) | map(attribute='k') | list }}", ["p", "P"]),
    ("{{ _.o | rejectattr('x', 'equalto', 2) | map(attribute='k') | list }}", ["q"]),
    ("{{ _.l | select('odd') | list }}", [3, 1]),
    ("{{ _.l | reject('odd') | list }}", [2]),
    ("{{ _.l | map('string') | list }}", ["3", "1", "2"]),
    ("{{ 2 ** 3 }}", 8),
    ("{{ 2 ** -1 }}", 0.5),
    ("{{ 7 // 2 }}", 3),
    ("{{ 7 / 2 }}", 3.5),
    ("{{ 7 % 3 }}", 1),
    ("{{ 'a' ~ 1 ~ none }}", "a1None"),
    ("{{ 'a' * 2 }}", "aa"),
    ("{{ [1] + [2] }}", [1, 2]),
    ("{{ 3 in _.l }}", True),
    ("{{ 9 in _.l }}", False),
    ("{{ 9 not in _.l }}", True),
    ("{{ [1] in [[1]] }}", True),
    ("{{ 'B' in _.s }}", True),
    ("{{ 'b' in _.a }}", True),
    ("{{ _.l == [3, 1, 2] }}", True),
    ("{{ _.l != [3, 1, 2] }}", False),
    ("{{ 1 < 2 < 3 }}", True),
    ("{{ 3 > 2 > 2 }}", False),
    ("{{ 2 <= 2 }}", True),
    ("{{ none == none }}", True),
    ("{{ not _.u }}", True),
    ("{{ -_.n }}", -3),
    ("{{ +_.n }}", 3),
    ("{{ _.a.b }}", 1),
    ("{{ _.a['b'] }}", 1),
    ("{{ _.l[0] }}", 3),
    ("{{ _.l[-1] }}", 2),
    ("{{ _.l[1:] }}", [1, 2]),
    ("{{ _.l[:-1] }}", [3, 1]),
    ("{{ _.l[::2] }}", [3, 2]),
    ("{{ _.s[0] }}", "a"),
    ("{{ _.n if _.t else 0 }}", 3),
    ("{{ 0 if not _.t else 1 }}", 1),
    ("{{ _.l is iterable }}", True),
    ("{{ _.s is string }}", True),
    ("{{ _.n is number }}", True),
    ("{{ _.u is none }}", True),
    ("{{ _.zz is defined }}", False),
    ("{{ _.n is defined }}", True),
    ("{{ _.n is divisibleby 3 }}", True),
    ("{{ _.n is odd }}", True),
    ("{{ _.a is mapping }}", True),
    ("{{ _.n is in [1, 3] }}", True),
    ("{{ _.a.items() | list }}", [["b", 1]]),
    ("{{ _.a.keys() | list }}", ["b"]),
    ("{{ _.s.upper() }}", "AB"),
    ("{% for i in _.l %}{{ loop.index }}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "13,21,32"),
    ("{% for i in _.l if i > 1 %}{{ i }}{% endfor %}", "32"),
    ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
    ("{% set x = 5 %}{{ x }}", "5"),
    ("{% set x, y = 1, 2 %}{{ x }}{{ y }}", "12"),
    ("{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "12"),
    ("{% if _.t %}a{% elif _.n %}b{% else %}c{% endif %}", "a"),
    ("{{ range(3) | list }}", [0, 1, 2]),
    ("{{ range(1, 7, 2) | list }}", [1, 3, 5]),
    ("{{ dict(a=1) }}", {"a": 1}),
    ("{{ [1, 2] | random in [1, 2] }}", True),
    ("{{ yaml_parse('2001-01-01') }}", "2001-01-01"),
    ("{{ yaml_parse('- 1.5\\n- null\\n- true\\n- 7\\n- x') }}", [1.5, None, True, 7, "x"]),
    ("{{ yaml_parse('1.5: a\\nnull: b\\ntrue: c') }}", {"1.5": "a", "None": "b", "True": "c"}),
    ("{{ json_dump({'a': [1]}) }}", '{\n    "a": [\n        1\n    ]\n}'),
    ("{{ json_dump(1 / 3) }}", "0.3333333333333333"),
    ("{{ uuid() | length }}", 36),
    ("<% executions(state => CANCELLED).first().asked %>", {"state": "CANCELLED"}),
    ("<% tasks(e, recursive => 1) %>", [{"name": "first", "asked": ["e", True, None, False]}, {"name": "second"}]),
    ("<% env() %>", {"k": "value", "n": 7}),
    ("<% execution().id %>", "execution-1"),
    ("<% env().k %>", "value"),
    ("<% json_dump($.f) %>", "1.5"),
    ("<% yaml_dump($.l) %>", "- 3\n- 1\n- 2\n"),
    ("<% now() %>", "2001-09-09T01:46:40.000000"),
]
ORQUESTA_VALUES: list[tuple[str, object]] = [
    ("<% item() %>", 5),
    ("<% task_status(t1) %>", "failed"),
    ("<% task_status(nope) %>", "null"),
    ("<% task_status(t2, 1) %>", "running"),
    ("<% succeeded() %>", True),
    ("<% failed() %>", False),
    ("<% completed() %>", True),
    ("<% result().a %>", [1, 2]),
    ("<% to_json_string({a => 1}) %>", '{"a": 1}'),
    ("<% to_json_string({a => 1}, 2) %>", '{\n  "a": 1\n}'),
    ("<% to_json_string([1, 2], separators => [';', ':']) %>", "[1;2]"),
    ("<% to_json_string({b => 1, a => 2}, sort_keys => true) %>", '{"a": 2,"b": 1}'),
    ("<% to_yaml_string({a => 1}) %>", "a: 1\n"),
    ("<% to_yaml_string({a => [1]}, 4) %>", "a:\n- 1\n"),
    ("<% to_yaml_string('ü') %>", "ü\n"),
    ("<% to_yaml_string('ü', allow_unicode => false) %>", '"\\xFC"\n'),
    ("<% from_json_string('[1]') %>", [1]),
    ("<% from_json_string(1) %>", 1),
    ("<% from_yaml_string('a: 1') %>", {"a": 1}),
    ("<% from_yaml_string(5) %>", 5),
    ("<% from_yaml_string(null) %>", "None"),
    ("<% json_escape('a\"b') %>", 'a\\"b'),
    ("<% use_none(null) %>", "%*****__%NONE%__*****%"),
    ("<% use_none(0) %>", 0),
    ("<% basename('/a/b') %>", "b"),
    ("<% dirname('/a/b') %>", "/a"),
    ("<% to_human_time_from_seconds(0) %>", "0s"),
    ("<% to_human_time_from_seconds(0.5) %>", "0.5μs"),
    ("<% to_human_time_from_seconds(1) %>", "1s"),
    ("<% to_human_time_from_seconds(61) %>", "1m1s"),
    ("<% to_human_time_from_seconds(12345) %>", "3h25m45s"),
    ("<% to_human_time_from_seconds(90000) %>", "1d1h0m0s"),
    ("<% to_human_time_from_seconds(31536000) %>", "1y0d0h0m0s"),
    ("<% version_compare('1.2.0', '1.1.0') %>", 1),
    ("<% version_compare('1.0.0', '1.1.0') %>", -1),
    ("<% version_compare('1.1.0', '1.1.0') %>", 0),
    ("<% version_more_than('1.2.0', '1.1.0') %>", True),
    ("<% version_more_than('1.1.0', '1.1.0') %>", False),
    ("<% version_less_than('1.0.0', '1.1.0') %>", True),
    ("<% version_less_than('1.1.0', '1.1.0') %>", False),
    ("<% version_equal('1.1.0', '1.1.0') %>", True),
    ("<% version_equal('1.1.1', '1.1.0') %>", False),
    ("<% version_match('1.2.0', '>=1.1.0') %>", True),
    ("<% version_match('1.0.0', '>=1.1.0') %>", False),
    ("<% version_bump_major('1.2.3') %>", "2.0.0"),
    ("<% version_bump_minor('1.2.3') %>", "1.3.0"),
    ("<% version_bump_patch('1.2.3') %>", "1.2.4"),
    ("<% version_strip_patch('1.2.3') %>", "1.2"),
    ("<% st2kv('a', default => 5) %>", 5),
    ("<% zip([1, 2], [3]) %>", [[1, 3], [2, None]]),
    ("<% zip([1, 2], [3], pad => 0) %>", [[1, 3], [2, 0]]),
]
MISTRAL_REFUSED = [
    ("{{ _.l | sum(start='a') }}", "TypeError: sum() can't sum strings"),
    ("{{ ['a', 'b'] | sum }}", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
    ("{{ [[1], [1]] | unique | list }}", "TypeError: unique compares no lists and no dicts"),
    ("{{ [{}] | unique | list }}", "TypeError: unique compares no lists and no dicts"),
    ("{{ [] | first }}", "No first item, sequence was empty."),
    ("{{ 5 | length }}", "TypeError: object of type 'int' has no len()"),
    ("{{ 2 ** 'a' }}", "TypeError: unsupported operand type(s) for ** or pow(): 'int' and 'str'"),
    ("{{ 7 // 0 }}", "ZeroDivisionError: integer division or modulo by zero"),
    ("{{ 'a' + 1 }}", 'TypeError: can only concatenate str (not "int") to str'),
    ("{{ 1 in _.s }}", "TypeError: 'in <string>' requires string as left operand, not int"),
    ("{{ 1 in 5 }}", "TypeError: argument of type 'int' is not iterable"),
    ("{{ 'a' < 1 }}", "TypeError: '<' not supported between instances of 'str' and 'int'"),
    ("{{ -_.s }}", "TypeError: bad operand type for unary -: 'str'"),
    ("{{ _.a.zz }}", "'dict object' has no attribute 'zz'"),
    ("{{ _.l[9] }}", "list object has no element 9"),
    ("{{ _.u.x }}", "'None' has no attribute 'x'"),
    ("{{ _.n.x }}", "'int object' has no attribute 'x'"),
    ("{{ _.zz }}", "there is no variable 'zz'"),
    ("{{ _.zz.y }}", "there is no variable 'zz'"),
    ("{{ _.n is nosuch }}", "No test named 'nosuch' found."),
    ("{{ _.n | nosuch }}", "No filter named 'nosuch' found."),
    ("{{ nosuch(1) }}", "'nosuch' is undefined"),
    ("{{ _.s.nosuch() }}", "'str object' has no attribute 'nosuch'"),
    ("{{ executions(1, 2, 3, 4, 5, 6) }}", "executions() does not take 6 arguments"),
    ("{{ global(1) }}", "global() needs the name of a variable, not an integer"),
    ("{{ yaml_parse(1) }}", "yaml_parse() needs a string, not an integer"),
    ("{{ json_parse(1) }}", "json_parse() needs a string, not an integer"),
    (
        "{{ json_parse(_.j) }}",
        "json_parse(): Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    (
        "{{ yaml_parse('[') }}",
        'yaml_parse(): while parsing a flow node did not find expected node content in "<unicode st',
    ),
    ("{{ json_parse('NaN') }}", "json_parse(): NaN is not JSON"),
    ("{{ task(5) }}", "task() needs the name of a task, not an integer"),
    ("{{ tasks(1) }}", "tasks() needs a string, not an integer"),
    ("<% executions(1, 2, 3, 4, 5, 6) %>", "executions() does not take 6 arguments"),
    ("<% executions(nope => 1) %>", "executions() does not take 'nope'"),
    ("<% executions(1, id => 2) %>", "executions() does not take 'id'"),
    ("<% global(1) %>", "global() needs the name of a variable, not an integer"),
    ("<% yaml_parse(1) %>", "yaml_parse() needs a string, not an integer"),
    ("<% json_parse(1) %>", "json_parse() needs a string, not an integer"),
    ("<% task(1) %>", "task() needs the name of a task, not an integer"),
    ("<% tasks(1) %>", "tasks() needs a string, not an integer"),
    ("<% $.nope %>", "there is no variable 'nope'"),
    ("<% $.a.nope %>", "there is no key 'nope'"),
    (
        "<% json_parse($.j) %>",
        "json_parse(): Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
]
ORQUESTA_REFUSED = [
    ("<% ctx(1) %>", "there is no variable 1"),
    ("<% ctx(nope) %>", "there is no variable 'nope'"),
    ("{{ ctx(1) }}", "ctx() needs the name of a variable, not an integer"),
    ("{{ ctx('nope') }}", "there is no variable 'nope'"),
    ("<% item(x) %>", "item('x') needs an item that is a dict, not an integer"),
    ("{{ item('x') }}", "item('x') needs an item that is a dict, not an integer"),
    ("<% task_status(1) %>", "task_status() needs the name of a task, not an integer"),
    ("<% task_status(t2, a) %>", "task_status() needs a route that is an integer, not a string"),
    ("<% task(1) %>", "task() needs the name of a task, not an integer"),
    ("<% task(t1).name %>", "there is no key 'name'"),
    ("<% task(nope) %>", "task 'nope' has not run"),
    ("<% to_json_string({a => 1}, 99) %>", "to_json_string() indents by 0 to 16 spaces"),
    ("<% to_json_string({a => 1}, -1) %>", "to_json_string() indents by 0 to 16 spaces"),
    ("<% to_json_string([1, 2], separators => [';']) %>", "to_json_string() needs two short strings as separators"),
    ("<% to_json_string([1, 2], separators => [1, 2]) %>", "to_json_string() needs two short strings as separators"),
    ("<% from_json_string([]) %>", "from_json_string() needs a string, not a list"),
    ("<% from_yaml_string([]) %>", "from_yaml_string() needs a string, not a list"),
    ("<% basename(1) %>", "basename() needs a string, not an integer"),
    ("<% to_human_time_from_seconds(a) %>", "to_human_time_from_seconds() needs a number, not a string"),
    ("<% to_human_time_from_seconds(true) %>", "to_human_time_from_seconds() needs a number, not a boolean"),
    (
        "<% version_match('1.0.0', 'x') %>",
        "version_match(): match_expr parameter should be in format <op><ver>, where <op> is one of ",
    ),
    ("<% version_compare('x', '1.1.0') %>", "x is not valid SemVer string"),
    ("<% version_compare(1, '1.1.0') %>", "a version function needs a string, not an integer"),
    ("<% regex_substring(a, a, x) %>", "regex_substring() needs an integer as index, not a string"),
    ("<% st2kv(1) %>", "st2kv() needs a key that is a string, not an integer"),
    ("<% st2kv('nope') %>", "st2kv(): there is no key 'nope' in the environment 'user'"),
]


def evaluate(template: str, language: Language) -> object:
    """The value of a template that compiles."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message), language=language)
    return compiled.evaluate(PlainScope(SCOPE, items=[5]))


@pytest.mark.parametrize(
    ("language", "template", "value"),
    [(MISTRAL, *each) for each in MISTRAL_VALUES] + [(ORQUESTA, *each) for each in ORQUESTA_VALUES],
)
def test_values(language: Language, template: str, value: object) -> None:
    """Each has this value, of this type."""
    assert same(value, evaluate(template, language))


@pytest.mark.parametrize(
    ("language", "template", "told"),
    [(MISTRAL, *each) for each in MISTRAL_REFUSED] + [(ORQUESTA, *each) for each in ORQUESTA_REFUSED],
)
def test_refusals(language: Language, template: str, told: str) -> None:
    """What does not apply raises EvaluationError, which shows the expression and says why."""
    with pytest.raises(EvaluationError, match=re.escape(f"{template}: {told}")):
        evaluate(template, language)


def test_an_environment_is_evaluated_against_itself() -> None:
    """Its values may refer to each other as they were given, and to nothing else: there is no task and no execution."""
    given = {"a": 1, "b": "<% env().a + 1 %>", "c": "<% env().b %>"}
    assert evaluate_environment(given, 0.0, "seed") == {"a": 1, "b": 2, "c": "<% env().a + 1 %>"}
    plain = {"a": [1]}
    assert evaluate_environment(plain, 0.0, "seed") == plain
    asked = {"t": "<% task(x) %>", "ts": "<% tasks() %>", "e": "<% executions() %>", "g": "<% global(x) %>"}
    assert evaluate_environment(asked, 0.0, "seed") == {"t": None, "ts": [], "e": [], "g": None}
    assert evaluate_environment({"x": "<% execution() %>"}, 0.0, "seed") == {"x": {}}
    for wrong in ("<% $.nope %>", "<% 1 + %>"):
        with pytest.raises(EvaluationError):
            evaluate_environment({"a": wrong}, 0.0, "seed")


def test_an_environment_draws_from_its_seed_and_its_time() -> None:
    """The same seed gives the same identifiers, another one others; now() is the time that was given."""
    given = {"id": "<% uuid() %>", "at": "<% now() %>"}
    first = evaluate_environment(given, 1_000_000_000.0, "one")
    assert first == evaluate_environment(given, 1_000_000_000.0, "one")
    assert first["id"] != evaluate_environment(given, 1_000_000_000.0, "two")["id"]
    assert str(first["at"]).startswith("2001-09-09T01:46:40")
