"""The expressions of Orquesta: how they name the context, and every function in YAQL and in Jinja."""

from __future__ import annotations

import re
import time
from inspect import Parameter, signature

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import Expression, ExpressionProblem, compile_template
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.expressions.orquesta import STATUSES
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import TaskState

VALUES: dict[str, object] = {
    "a": {"b": 1},
    "n": 3,
    "k": "a",
    "u": None,
    "xs": [1, 2],
    "ys": ["p", "q", "r"],
    "j": '{"foo": {"bar": [1, null]}}',
    "d": {"foo": {"bar": [1, "ü"]}, "a": True},
    "code": "<% ctx(n) %> {{ ctx('n') }}",
    "__state": {"secret": 1},
}
STORED: dict[str, object] = {"system a": "stored", "system b.c": {"d": 1}, "user mine": "own", "lab a": 7}


def scope(**given: object) -> PlainScope:
    """A scope over VALUES and STORED."""
    return PlainScope(VALUES, **{"keys": STORED, "items": [{"x": 5}], **given})  # type: ignore[arg-type]


def value_of(template: object, language: Language = ORQUESTA, **given: object) -> object:
    """The value of a template without problems."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message), language=language)
    return compiled.evaluate(scope(**given))


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<% ctx().a.b %>", 1),
        ("<% ctx(a).b %>", 1),
        ("<% ctx('a') %>", {"b": 1}),
        ("<% ctx()[n] %>", 3),
        ("<% ctx(ctx(k)).b %>", 1),
        ("<% ctx().get(n) %>", 3),
        ("<% ctx().get(nope, 1) %>", 1),
        ("<% ctx().containsKey(nope) %>", False),
        ("<% ctx().xs.select($ + ctx().n) %>", [4, 5]),
        ("<% ctx().xs.select(ctx(a).b + $) %>", [2, 3]),
        ("<% ctx().keys().where($ =~ '^[ax]').orderBy($) %>", ["a", "xs"]),
        ("<% $ %>", None),
        ("{{ ctx().a.b }}", 1),
        ("{{ ctx('a').b }}", 1),
        ("{{ ctx()['a']['b'] }}", 1),
        ("{{ ctx(ctx('k')).b }}", 1),
        ("{{ 'n' | ctx }}", 3),
        ("{{ ctx().get('nope', 1) }}", 1),
        ("{{ 'n' in ctx() }}", True),
        ("{{ ctx() | list | sort }}", ["a", "code", "d", "j", "k", "n", "u", "xs", "ys"]),
        ("{% for x in ctx().xs %}{{ x }};{% endfor %}", "1;2;"),
        ("{% if ctx('n') == 3 %}yes{% endif %}", "yes"),
        ("{% raw %}{{ ctx().n }}{% endraw %} {{ ctx().n }}", "{{ ctx().n }} 3"),
        ("n = {{ ctx().n }}\n", "n = 3\n"),
        ("<% ctx().n %>: {# kept #}", "3: {# kept #}"),
        ("{{ ctx().n }}: {# kept #}", "3: {# kept #}"),
        ("<% ctx().u %>{{", "None{{"),
        ("{{ ctx().a }} {{ ctx().u }} {{ true }}", "{'b': 1} None True"),
        ({"<% ctx(k) %>": {"n {{ ctx().n }}": ["<% ctx(n) %>"]}}, {"a": {"n 3": [3]}}),
        ({"<% ctx(n) %>": 1}, {"3": 1}),
        ({"<% ctx(u) %>": 1, "{{ true }}": 2, "<% 1.5 %>": 3}, {"null": 1, "true": 2, "1.5": 3}),
        ("<% ctx(code) %>", "<% ctx(n) %> {{ ctx('n') }}"),
        ("{{ ctx('code') }}", "<% ctx(n) %> {{ ctx('n') }}"),
    ],
)
def test_context(template: object, value: object) -> None:
    """`ctx()` is the context; keys are expressions too; text around an expression stays as it is; values are data."""
    assert value_of(template) == value


@pytest.mark.parametrize("template", ["<% ctx() %>", "{{ ctx() }}", "<% ctx().keys().toSet().len() %>"])
def test_hidden_variables(template: str) -> None:
    """The whole context is that without what begins with two underscores."""
    shown = {name: value for name, value in VALUES.items() if name != "__state"}
    assert value_of(template) == (len(shown) if "len" in template else shown)


@pytest.mark.parametrize(
    "text",
    [
        *("<% ctx().a.b %>", "<% ctx(a).b %>", "<% ctx()[a] %>", "<% ctx().get(a) %>", "<% str(ctx(a)) =~ b %>"),
        *("{{ ctx().a.b }}", "{{ ctx('a').b }}", "{{ ctx()['a'] }}", "{{ ctx().a.b + 1 }}", "{{ ctx()['a'].b }} text"),
    ],
)
def test_only_what_is_named_is_asked(text: str) -> None:
    """An expression that names a variable has no other one put together, in the evaluation process neither."""
    asked = scope()
    compile_template(text, lambda problem: pytest.fail(problem.message), language=ORQUESTA).evaluate(asked)
    assert set(asked.asked) == {"a"}


@pytest.mark.parametrize(
    ("yaql", "jinja", "value"),
    [
        ("item().x", "item().x", 5),
        ("item(x)", "item('x')", 5),
        ("item(x)", "'x' | item", 5),
        ("result().a[1]", "result().a[1]", 2),
        ("task_status(t1)", "task_status('t1')", "failed"),
        ("task_status(t2, route=>1)", "task_status('t2', route=1)", "running"),
        ("task_status(t2, 1)", "task_status('t2', 1)", "running"),
        ("task_status(nope)", "'nope' | task_status", "null"),
        ("task(t1).task_name", "task('t1').task_name", "t1"),
        ("task(t2, route => 1).route", "task('t2', route=1).route", 1),
        ("task().task_id", "task().task_id", "current"),
        (
            "task(task_id => t1)",
            "task(task_id='t1')",
            {
                "task_execution_id": "run of t1",
                "workflow_execution_id": "execution-1",
                "task_name": "t1",
                "task_id": "t1",
                "route": 0,
                "result": {"a": [1, 2]},
                "status": "failed",
                "start_timestamp": "1970-01-01 00:00:00+00:00",
                "end_timestamp": "1970-01-01 00:00:01.500000+00:00",
            },
        ),
        ("st2kv('system.a')", "st2kv('system.a')", "stored"),
        ("st2kv('system.b.c').d", "('system.b.c' | st2kv).d", 1),
        ("st2kv('lab.a', decrypt => true)", "st2kv('lab.a', decrypt=true)", 7),
        ("st2kv(mine)", "st2kv('mine')", "own"),
        ("st2kv('user.mine', false, x)", "st2kv('user.mine', false, 'x')", "own"),
        ("st2kv('system.no', default => x)", "st2kv('system.no', default='x')", "x"),
        ("st2kv('system.no', default => null)", "st2kv('system.no', default=none)", None),
        ("st2kv('no.no', default => ctx().n)", "st2kv('no.no', default=ctx().n)", 3),
    ],
)
def test_functions_on_the_execution(yaql: str, jinja: str, value: object) -> None:
    """Each has the same value in YAQL, where names need no quotes, and in Jinja, as a call and as a filter."""
    assert value_of(f"<% {yaql} %>") == value
    assert value_of("{{ " + jinja + " }}") == value


@pytest.mark.parametrize(
    ("state", "status", "succeeded", "failed", "completed"),
    [
        ("SUCCESS", "succeeded", True, False, True),
        ("SKIPPED", "succeeded", True, False, True),
        ("ERROR", "failed", False, True, True),
        ("CANCELLED", "canceled", False, False, True),
        ("RUNNING", "running", False, False, False),
        ("RUNNING_DELAYED", "delayed", False, False, False),
        ("PAUSED", "paused", False, False, False),
        ("IDLE", "requested", False, False, False),
        ("WAITING", "requested", False, False, False),
    ],
)
def test_states(state: str, status: str, succeeded: bool, failed: bool, completed: bool) -> None:
    """Our states in Orquesta's words: a skipped task succeeded, a cancelled one completed but did not fail."""
    states = {"current": state, "t": state}
    expected = [status, succeeded, failed, completed]
    assert value_of("<% [task_status(t), succeeded(), failed(), completed()] %>", states=states) == expected
    assert value_of("{{ [task_status('t'), succeeded(), failed(), completed()] }}", states=states) == expected


def test_a_key_that_is_none() -> None:
    """A list or a dict is no key."""
    with pytest.raises(EvaluationError, match="a list as a key"):
        value_of({"<% ctx(xs) %>": 1})


@pytest.mark.parametrize("name", ["succeeded", "failed", "completed"])
def test_no_task(name: str) -> None:
    """Where there is no task, in `vars` and `output`, nothing can be said of it."""
    with pytest.raises(EvaluationError, match="there is no task"):
        value_of(f"<% {name}() %>", states={})


def test_items_in_the_record() -> None:
    """`task()` of a task with items has each item's status and result, as StackStorm keeps them."""
    items = [{"status": "succeeded", "result": {"a": 1}}, {"status": "requested", "result": None}]
    states = {"each": "RUNNING"}
    assert value_of("<% task(each).result.items.select($.status) %>", states=states) == ["succeeded", "requested"]
    assert value_of("{{ task('each').result['items'] }}", states=states) == items
    assert value_of("<% task(each).result.items.where($.status =~ '.*') %>", states=states) == items


def test_every_state_has_a_word() -> None:
    """There is no state that task_status() cannot tell."""
    assert set(STATUSES) == set(TaskState)


@pytest.mark.parametrize(
    ("yaql", "jinja", "value"),
    [
        ("json(ctx(j)).foo.bar", "(ctx('j') | json).foo.bar", [1, None]),
        ("json({a => 1})", "json({'a': 1})", {"a": 1}),
        ("zip(ctx(xs), ctx(ys))", "zip(ctx('xs'), ctx('ys'))", [[1, "p"], [2, "q"], [None, "r"]]),
        ("zip(ctx(xs), ctx(ys), pad=>0)", "ctx('xs') | zip(ctx('ys'), pad=0)", [[1, "p"], [2, "q"], [0, "r"]]),
        ("zip(ctx(xs))", "zip(ctx('xs'))", [1, 2]),
        ("zip(null)", "zip(none)", []),
        ("zip()", "zip()", []),
        ("zip(ctx(a))", "zip(ctx('a'))", {"b": 1}),
        ("zip(pq, ctx(a), [0])", "zip('pq', ctx('a'), [0])", [["p", "b", 0], ["q", None, None]]),
        ("zip(null, [1], [2, 3])", "zip(none, [1], [2, 3])", [[None, 1, 2], [None, None, 3]]),
        ("from_json_string(ctx(j))", "from_json_string(ctx('j'))", {"foo": {"bar": [1, None]}}),
        ("json_parse('3')", "3 | json_parse", 3),
        ("from_yaml_string('a: [1, b]')", "'a: [1, b]' | from_yaml_string", {"a": [1, "b"]}),
        ("yaml_parse(value => '1: 2')", "yaml_parse(value='1: 2')", {"1": 2}),
        ("to_json_string(ctx(d))", "ctx('d') | to_json_string", '{"foo": {"bar": [1,"\\u00fc"]},"a": true}'),
        (
            "json_dump(ctx(d), sort_keys => true, indent => 1)",
            "json_dump(ctx('d'), sort_keys=true, indent=1)",
            '{\n "a": true,\n "foo": {\n  "bar": [\n   1,\n   "\\u00fc"\n  ]\n }\n}',
        ),
        ("json_dump([1, 2], sortKeys => true)", "json_dump([1, 2])", "[1,2]"),
        (
            "to_json_string([1, {a => 2}], separators => [';', '='])",
            "to_json_string([1, {'a': 2}], separators=(';', '='))",
            '[1;{"a"=2}]',
        ),
        ("to_json_string({c => ctx().a})", "to_json_string({'c': ctx().a})", '{"c": {"b": 1}}'),
        ("to_yaml_string(ctx(d))", "ctx('d') | to_yaml_string()", "a: true\nfoo:\n  bar:\n  - 1\n  - ü\n"),
        (
            "yaml_dump(ctx(d), indent => 4, allow_unicode => false)",
            "yaml_dump(ctx('d'), 4, allow_unicode=false)",
            'a: true\nfoo:\n    bar:\n    - 1\n    - "\\xFC"\n',
        ),
        ("json_escape('a\"b')", "'a\"b' | json_escape", 'a\\"b'),
        ("use_none(ctx(u))", "ctx('u') | use_none", "%*****__%NONE%__*****%"),
        ("use_none(ctx(n))", "use_none(ctx('n'))", 3),
        ("basename('/etc/a.txt')", "'/etc/a.txt' | basename", "a.txt"),
        ("dirname('/etc/a.txt')", "dirname('/etc/a.txt')", "/etc"),
        ("jsonpath_query(ctx(d), '$.foo.bar[*]')", "ctx('d') | jsonpath_query('$.foo.bar[*]')", [1, "ü"]),
        ("jsonpath_query(ctx(d), 'foo.nope')", "jsonpath_query(ctx('d'), 'foo.nope')", None),
        ("jsonpath_query(ctx(), 'a.b')", "jsonpath_query(ctx(), 'a.b')", [1]),
        ("regex_match(xyz, x)", "'xyz' | regex_match('x')", True),
        ("regex_match(xyz, y)", "regex_match('xyz', 'y')", False),
        ("regex_match(xyz, X, ignorecase => true)", "regex_match('xyz', 'X', ignorecase=true)", True),
        ("regex_search(xyz, y)", "regex_search('xyz', 'y')", True),
        ("regex_search(ctx(n), '[0-9]')", "ctx('n') | regex_search('[0-9]')", True),
        ("regex_replace(xyz, '(x)', 'w\\\\1')", "'xyz' | regex_replace('(x)', 'w\\\\1')", "wxyz"),
        ("regex_substring('a1 b22', '[0-9]+')", "regex_substring('a1 b22', '[0-9]+')", "1"),
        ("regex_substring('a1 b22', '[0-9]+', 1)", "'a1 b22' | regex_substring('[0-9]+', result_index=1)", "22"),
        ("regex_substring('a1 b22', '[0-9]+', -2)", "'a1 b22' | regex_substring('[0-9]+', result_index=-2)", "1"),
        ("regex_substring('a1', '(.)(.)')", "regex_substring('a1', '(.)(.)')", ["a", "1"]),
        ("to_human_time_from_seconds(12345)", "12345 | to_human_time_from_seconds", "3h25m45s"),
        ("to_human_time_from_seconds(0)", "to_human_time_from_seconds(0)", "0s"),
        ("to_human_time_from_seconds(0.5)", "to_human_time_from_seconds(0.5)", "0.5μs"),
        ("to_human_time_from_seconds(59.6)", "to_human_time_from_seconds(59.6)", "1m0s"),
        ("to_human_time_from_seconds(3456001)", "to_human_time_from_seconds(3456001)", "40d0h0m1s"),
        ("to_human_time_from_seconds(31536000)", "to_human_time_from_seconds(31536000)", "1y0d0h0m0s"),
        ("version_compare('1.0.0', '1.0.1')", "'1.0.0' | version_compare('1.0.1')", -1),
        ("version_compare('1.0.0', '1.0.0-rc.1')", "version_compare('1.0.0', '1.0.0-rc.1')", 1),
        ("version_more_than('1.0.1', '1.0.0')", "'1.0.1' | version_more_than('1.0.0')", True),
        ("version_less_than('1.0.1', '1.0.0')", "version_less_than('1.0.1', '1.0.0')", False),
        ("version_equal('1.0.0', '1.0.0+b')", "version_equal('1.0.0', '1.0.0+b')", True),
        ("version_match('1.2.0', '>=1.0.0')", "'1.2.0' | version_match('>=1.0.0')", True),
        ("version_match('1.2.0', '<1.0.0')", "version_match('1.2.0', '<1.0.0')", False),
        ("version_bump_major('1.2.3')", "'1.2.3' | version_bump_major", "2.0.0"),
        ("version_bump_minor('1.2.3')", "version_bump_minor('1.2.3')", "1.3.0"),
        ("version_bump_patch('1.2.3')", "version_bump_patch('1.2.3')", "1.2.4"),
        ("version_strip_patch('1.2.3')", "version_strip_patch('1.2.3')", "1.2"),
    ],
)
def test_functions_on_values(yaql: str, jinja: str, value: object) -> None:
    """Orquesta's and StackStorm's functions have the same value in both languages, as a call and as a filter."""
    assert value_of(f"<% {yaql} %>") == value
    assert value_of("{{ " + jinja + " }}") == value


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("<% ctx().nope %>", "there is no variable 'nope'"),
        ("<% ctx(nope) %>", "there is no variable 'nope'"),
        ("<% ctx('__state') %>", "there is no variable '__state'"),
        ("<% ctx().get('__state').secret %>", "null has no key 'secret'"),
        ("{{ ctx('__state') }}", "there is no variable '__state'"),
        ("{{ ctx().__state }}", "there is no variable '__state'"),
        ("{{ ctx()['__state'] }}", "there is no variable '__state'"),
        ("{{ ctx().nope }}", "there is no variable 'nope'"),
        ("{{ ctx()['nope'] + 1 }}", "there is no variable 'nope'"),
        ("{{ ctx('nope') + 1 }}", "there is no variable 'nope'"),
        ("{{ ctx(n) }}", "'n' is undefined"),
        ("{{ ctx().a.nope }}", "has no attribute 'nope'"),
        ("<% $.a %>", "'$' is nothing here, the context is ctx()"),
        ("{{ _.a }}", "'_' is undefined"),
        ("<% item(y) %>", "the item has no key 'y'"),
        ("<% task_status() %>", "task_status() does not take 0 arguments"),
        ("{{ task_status() }}", "task_status() does not take 0 arguments"),
        ("<% task_status(t1, nope => 1) %>", "task_status(): got an unexpected keyword argument 'nope'"),
        ("<% task_status(t1, route => x) %>", "task_status() needs a route that is an integer, not a string"),
        ("<% task(nope) %>", "task 'nope' has not run"),
        ("{{ task('nope') }}", "task 'nope' has not run"),
        ("<% st2kv('system.no') %>", "there is no key 'no' in the environment 'system'"),
        ("<% st2kv('system.a', decrypt => 1) %>", "st2kv() needs a boolean for decrypt, not an integer"),
        ("<% json([1]) %>", "json() needs a string, not a list"),
        ("<% json('[NaN]') %>", "json(): NaN is not JSON"),
        ("<% zip([1], 2) %>", "zip() needs a list, not an integer"),
        ("<% from_json_string('{') %>", "from_json_string(): "),
        ("<% from_yaml_string('a: b: c') %>", "from_yaml_string(): mapping values are not allowed"),
        ("<% to_json_string(1, indent => 1000000000) %>", "indents by 0 to 16 spaces"),
        ("<% to_json_string(1, separators => ',') %>", "needs two short strings as separators"),
        ("<% to_json_string(1, separators => [1, ',', ':']) %>", "needs two short strings as separators"),
        ("<% to_json_string(1, separators => [',', ':', ';']) %>", "needs two short strings as separators"),
        ("<% basename(1) %>", "basename() needs a string, not an integer"),
        ("<% version_compare('1', '2') %>", "1 is not valid SemVer"),
        ("<% version_match('1.0.0', '~1.0.0') %>", "version_match(): "),
        ("<% regex_match(a, '(') %>", "the pattern is none: "),
        ("<% regex_replace(a, a, '\\\\9') %>", "the replacement does not fit: invalid group reference"),
        ("<% regex_substring(a, b) %>", "regex_substring() finds 0, there is no number 0"),
        ("<% regex_substring(a1, '[0-9]', 1) %>", "regex_substring() finds 1, there is no number 1"),
        ("<% regex_substring(a1, '[0-9]', -2) %>", "regex_substring() finds 1, there is no number -2"),
        ("<% jsonpath_query({}, '][') %>", "jsonpath_query(): "),
        ("<% to_human_time_from_seconds(x) %>", "needs a number, not a string"),
    ],
)
def test_wrong_use(template: str, cause: str) -> None:
    """What is wrong is an error that says what was expected, wherever it is evaluated."""
    with pytest.raises(EvaluationError, match=re.escape(cause)):
        value_of(template)


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        ("range(1000000).select(result())", "takes more than"),
        ("range(1000000).select(task(t1))", "builds more than"),
        ("range(1000000).select(st2kv('system.a'))", "takes more than"),
        ("range(1000000).select(basename(ctx().s))", "builds more than"),
        ("range(1000000).select(json_escape(ctx().s))", "builds more than"),
        ("range(1000000).select(json_parse(ctx().j))", "takes more than"),
        ("zip(range(1000000), range(1000000), range(1000000), range(1000000), range(1000000))", "steps"),
        ("version_compare(ctx().s, '1.0.0')", "a version has at most 256 characters"),
    ],
)
def test_runaways_stop(expression: str, cause: str) -> None:
    """What Orquesta's functions cost is counted, so that none of them can block the engine."""
    compiled = compile_template(f"<% {expression} %>", lambda problem: pytest.fail(problem.message), language=ORQUESTA)
    started = time.thread_time()
    with pytest.raises(EvaluationError, match=cause):
        compiled.evaluate(PlainScope({"s": "a" * 100_000, "j": f"[{'1,' * 50_000}1]"}, keys=STORED))
    assert time.thread_time() - started < 2  # of processor time: what else runs on the machine is not its fault


@pytest.mark.parametrize("expression", ["regex_match(%s, '(a+)+$')", "regex_search(%s, '(a|aa)+$')"])
def test_slow_patterns_are_killed(expression: str) -> None:
    """A pattern that would run for years is an error."""
    with pytest.raises(EvaluationError, match="it takes more than 1 s"):
        value_of(f"<% {expression % repr('a' * 60 + '!')} %>")


@pytest.mark.parametrize("name", sorted(ORQUESTA.functions.keys() - {"ctx"}))
def test_arguments_by_name_are_no_reason_to_leave_the_engine(name: str) -> None:
    """A function with named arguments runs where it runs with others."""
    function = ORQUESTA.functions[name]
    named = [
        f"{parameter.name} => 1"
        for parameter in [*signature(function.implementation).parameters.values()][1:]
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    compiled = compile_template(
        f"<% {name}({', '.join(named)}) %>", lambda problem: pytest.fail(problem.message), language=ORQUESTA
    )
    assert isinstance(compiled, Expression)
    assert compiled.expression.is_bounded != function.apart


@pytest.mark.parametrize("name", ["env()", "global(x)", "tasks()", "execution()", "executions()", "uuid()"])
def test_functions_of_mistral_are_unknown(name: str) -> None:
    """What Mistral has and Orquesta has not is no function in Orquesta's expressions."""
    with pytest.raises(EvaluationError, match="there is no function"):
        value_of(f"<% {name} %>")
    with pytest.raises(EvaluationError, match="is undefined"):
        value_of("{{ " + name + " }}")


@pytest.mark.parametrize("name", ["ctx()", "ctx(a)", "item()", "result()", "succeeded()", "st2kv(x)", "zip([1])"])
def test_functions_of_orquesta_are_unknown_to_mistral(name: str) -> None:
    """Mistral's expressions are what they were."""
    with pytest.raises(EvaluationError, match="there is no function"):
        value_of(f"<% {name} %>", language=MISTRAL)
    with pytest.raises(EvaluationError, match="is undefined"):
        value_of("{{ " + name + " }}", language=MISTRAL)


def test_problems_of_keys() -> None:
    """A bad expression in a key is a problem, with the path of its entry."""
    problems: list[ExpressionProblem] = []
    compile_template({"a": {"<% * %>": "{{ * }}"}}, problems.append, ("input",), language=ORQUESTA)
    assert [problem.path for problem in problems] == [("input", "a", "<% * %>")] * 2
    assert {problem.message[:2] for problem in problems} == {"<%", "{{"}


def test_both_languages_in_one_string() -> None:
    """YAQL and Jinja do not mix in one string."""
    problems: list[ExpressionProblem] = []
    compile_template("<% ctx(a) %> {{ ctx('a') }}", problems.append, language=ORQUESTA)
    assert [problem.message for problem in problems] == ["YAQL and Jinja expressions in one string"]


def test_jinja_repeats_the_same_expression() -> None:
    """Each marked part of a text is evaluated by itself, on its own line only."""
    assert value_of("{{ ctx().n }}+{{ ctx().n }}\n{{ ctx().u }}") == "3+3\nNone"
