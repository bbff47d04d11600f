"""The functions about workflows, in both languages."""

from __future__ import annotations

import re

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_template
from dalsegno.workflow.scope import EvaluationError

VALUES: dict[str, object] = {"d": {"a": [1, None]}, "name": "t1", "bomb": "a: &a [1]\nb: [*a, *a]"}


def value_of(template: str, **scope: object) -> object:
    """The value over VALUES."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message))
    return compiled.evaluate(PlainScope(VALUES, **scope))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("yaql", "jinja", "value"),
    [
        ("task().name", "task().name", "current"),
        ("task(t1).name", "task('t1').name", "t1"),
        ("task($.name).name", "task(_.name).name", "t1"),
        ("task(nope)", "task('nope')", None),
        ("task(t1).result.a[1]", "task('t1').result.a[1]", 2),
        ("tasks().len()", "tasks() | length", 2),
        (
            "tasks(e, true, ERROR, true).first().asked",
            "tasks('e', True, 'ERROR', True)[0].asked",
            ["e", True, "ERROR", True],
        ),
        ("tasks(e, state => ERROR).first().asked", "tasks('e', state='ERROR')[0].asked", ["e", False, "ERROR", False]),
        ("execution().id", "execution().id", "execution-1"),
        ("executions(id => x).first().asked", "executions(id='x')[0].asked", {"id": "x"}),
        (
            "executions(x, null, ERROR).asked.first()",
            "executions('x', None, 'ERROR')[0].asked",
            {"id": "x", "state": "ERROR"},
        ),
        ("env().k", "env().k", "value"),
        ("env().get(nope, 1)", "env().get('nope', 1)", 1),
        ("global(g)", "global('g')", 5),
        ("global(nope)", "global('nope')", None),
        ("json_dump({a => 1})", "json_dump({'a': 1})", '{\n    "a": 1\n}'),
        ("json_dump($.d)", "_.d | json_dump", '{\n    "a": [\n        1,\n        null\n    ]\n}'),
        ("json_parse('[1, null]')", "'[1, null]' | json_parse", [1, None]),
        ("yaml_dump({a => [1]})", "yaml_dump({'a': [1]})", "a:\n- 1\n"),
        ("yaml_parse('a: [1, b]')", "yaml_parse('a: [1, b]')", {"a": [1, "b"]}),
        ("yaml_parse('1: 2')", "yaml_parse('1: 2')", {"1": 2}),
        ("yaml_parse($.bomb)", "_.bomb | yaml_parse", {"a": [1], "b": [[1], [1]]}),
        ("uuid().len()", "uuid() | length", 36),
    ],
)
def test_functions_in_both_languages(yaql: str, jinja: str, value: object) -> None:
    """Each function has the same value in YAQL and in Jinja, as a call and as a filter."""
    assert value_of(f"<% {yaql} %>") == value
    assert value_of("{{ " + jinja + " }}") == value


@pytest.mark.parametrize("template", ["<% [uuid(), uuid()] %>", "{{ [uuid(), uuid()] }}", "<% [random(), random()] %>"])
def test_chance_belongs_to_the_event(template: str) -> None:
    """Stepped again an event gives the same; asked twice, or another event, it gives something else."""
    first = value_of(template)
    assert value_of(template) == first
    assert isinstance(first, list)
    assert first[0] != first[1]
    assert value_of(template, seed="event 2") != first


def test_places_differ() -> None:
    """Two expressions of one event do not get the same UUID, though their texts are the same."""
    compiled = compile_template({"a": "<% uuid() %>", "b": "<% uuid() %>", "c": "<% uuid() %> <% uuid() %>"}, print)
    found = compiled.evaluate(PlainScope())
    assert isinstance(found, dict)
    assert len({found["a"], found["b"], *found["c"].split()}) == 4
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", found["a"])


def test_now_is_the_time_of_the_event() -> None:
    """`now()` is a function of the event, not of the clock."""
    assert value_of("<% now() %>") == "2001-09-09T01:46:40.000000"
    assert value_of("<% now().year %>", at_s=0.0) == 1970


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("<% task(1) %>", "task() needs the name of a task, not an integer"),
        ("<% json_parse('{') %>", "json_parse(): "),
        ("<% json_parse(1) %>", "json_parse() needs a string, not an integer"),
        ("<% yaml_parse('a: b: c') %>", "yaml_parse(): mapping values are not allowed"),
        ("<% yaml_parse('!!python/object:os.system {}') %>", "yaml_parse(): could not determine a constructor"),
        ("<% executions(nope => 1) %>", "executions() does not take 'nope'"),
        ("<% tasks(nope => 1) %>", "tasks() takes workflow_execution_id, recursive, state and flat"),
        ("{{ executions(nope=1) }}", "executions() does not take 'nope'"),
    ],
)
def test_wrong_use(template: str, cause: str) -> None:
    """Wrong arguments are errors that say what was expected."""
    with pytest.raises(EvaluationError, match=re.escape(cause)):
        value_of(template)


@pytest.mark.long("goes on to the limit")
def test_yaml_bombs_stop() -> None:
    """Aliases of aliases are paid for each time they are met."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = PlainScope({"bomb": "\n".join(lines)})
    with pytest.raises(EvaluationError, match="it takes more than"):
        compile_template("<% yaml_parse($.bomb) %>", print).evaluate(bomb)
