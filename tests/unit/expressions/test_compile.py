"""compile_template: which strings are expressions, and what becomes of everything around them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.expressions.yaql.compile import DEPTH
from dalsegno.workflow.scope import Constant, EvaluationError

SCOPE = PlainScope({"n": 3, "s": "abc", "l": [3, 1, 2], "d": {"k": "v"}, "u": None, "t": True, "code": "<% 1 + 1 %>"})


def value_of(template: object) -> object:
    """The value of a template without problems."""
    problems: list[ExpressionProblem] = []
    compiled = compile_template(template, problems.append)
    assert problems == []
    return compiled.evaluate(SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<% $.n %>", 3),
        ("<%$.n%>", 3),
        ("{{ _.n }}", 3),
        ("{{ _.l }}", [3, 1, 2]),
        ("{{ '1' }}", "1"),
        ("<% '%' %>", "%"),
        (" <% $.n %>", " 3"),
        ("<% $.n %> ", "3 "),
        ("n=<% $.n %>", "n=3"),
        ("<% $.n %><% $.s %>", "3abc"),
        ("l=<% $.l %>, <% $.u %>, <% $.t %>", "l=[3, 1, 2], None, True"),
        ("d={{ _.d }}, {{ _.u }}, {{ _.t }}", "d={'k': 'v'}, None, True"),
        ("{{ _.n }}{{ _.s }}", "3abc"),
        ("{% if _.t %}yes{% else %}no{% endif %}", "yes"),
        ("{% for x in _.l %}{{ x }};{% endfor %}", "3;1;2;"),
        ("a <% b", "a <% b"),
        ("50%", "50%"),
        ("{ not jinja }", "{ not jinja }"),
        ("<% $.n +\n 1 %>", "<% $.n +\n 1 %>"),
        ("<% $.code %>", "<% 1 + 1 %>"),
        ("{{ _.code }}", "<% 1 + 1 %>"),
        ({"<% $.n %>": "<% $.n %>"}, {"<% $.n %>": 3}),
        ([1, {"a": ["{{ _.n }}", None]}], [1, {"a": [3, None]}]),
        (True, True),
        ("<% $.d.items() %>", [["k", "v"]]),
        ("<% {x => [$.d.items()]} %>", {"x": [[["k", "v"]]]}),
        ("{{ _.d.items() }}", [["k", "v"]]),
        ("i=<% $.d.items() %>", "i=[['k', 'v']]"),
    ],
)
def test_values(template: object, value: object) -> None:
    """One expression keeps its type, text around makes text, keys and results are never evaluated."""
    found = value_of(template)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("template", ["plain", 1, None, {"a": [1, "b"]}, [], "a <% b"])
def test_constants_are_shared(template: object) -> None:
    """A value without expressions is a Constant of that very value: evaluating it costs nothing."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message))
    assert isinstance(compiled, Constant)
    assert compiled.value is template


def test_all_problems_at_once() -> None:
    """Each bad expression is one problem with its path and the position within it; nothing is raised."""
    problems: list[ExpressionProblem] = []
    compile_template(
        {
            "good": "<% $.n %>",
            "bad": ["<% $. %>", "x {{ * }}"],
            "both": "<% $.n %> {{ _.n }}",
            "signs": "<% 1 ~ 2 %> and <% * %>",
            "block": "{% if _.t %}",
            "empty": "<%  %>",
        },
        problems.append,
        ("tasks", "t1"),
    )
    found = [(problem.path, problem.message) for problem in problems]
    assert [path[2:] for path, _ in found] == [
        ("bad", 0),
        ("bad", 1),
        ("both",),
        ("signs",),
        ("signs",),
        ("block",),
        ("empty",),
    ]
    assert found[0][1] == "<% $. %>: unexpected end of the expression"
    assert "unexpected '*'" in found[1][1]
    assert found[2][1] == "YAQL and Jinja expressions in one string"
    assert found[3][1] == "<% 1 ~ 2 %>: illegal character '~' at position 2"
    assert found[4][1] == "<% * %>: unexpected '*' at position 0"
    assert "endif" in found[5][1]
    assert found[6][1] == "<%  %>: the expression is empty"


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.text("<%>{}_.$()[]'\"`\\ab1 +-|=,#~^\n", max_size=40),
    st.sampled_from(["%s", "<% %s %>", "{{ %s }}", "{%% %s %%}"]),
)
@example(r"'\N{no such name}'", "<% %s %>")
@example(r"'\U99999999'", "<% %s %>")
@example("9" * 5_000, "<% %s %>")
@example("9" * 5_000, "{{ %s }}")
def test_broken_texts_are_problems(text: str, marks: str) -> None:
    """Whatever stands between the marks: a template or problems, never another exception."""
    problems: list[ExpressionProblem] = []
    template = compile_template(marks.replace("%s", text), problems.append)
    assert template is not None
    assert all(problem.message for problem in problems)


@pytest.mark.parametrize("text", ["<% " + "(" * 5_000 + "1" + ")" * 5_000 + " %>", "{{ " + "(" * 5_000 + " }}"])
def test_deep_expressions_are_problems(text: str) -> None:
    """Nesting that would exhaust the stack is reported like any other mistake."""
    problems: list[ExpressionProblem] = []
    compile_template(text, problems.append)
    assert [problem.path for problem in problems] == [()]


@pytest.mark.parametrize("text", ["<% '" + "a" * 70_000 + "' %>", "{{ '" + "a" * 70_000 + "' }}"])
def test_long_expressions_are_problems(text: str) -> None:
    """An expression has at most 65,536 characters."""
    problems: list[ExpressionProblem] = []
    compile_template(text, problems.append)
    assert "longer than 65,536 characters" in problems[0].message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("<% $.nope %>", "<% $.nope %>: there is no variable 'nope'"),
        ("<% $.d.nope %>", "<% $.d.nope %>: there is no key 'nope'"),
        ("<% $.u.x %>", "<% $.u.x %>: null has no key 'x'"),
        ("<% $.n + $.s %>", "<% $.n + $.s %>: '+' does not apply to an integer and a string"),
        ("<% my_func() %>", "<% my_func() %>: there is no function my_func()"),
        ("<% $.my_func() %>", "<% $.my_func() %>: there is no method my_func()"),
        ("<% 1 / 0 %>", "<% 1 / 0 %>: division by zero"),
        ("<% $.l[5] %>", "<% $.l[5] %>: there is no index 5 in a list of 3"),
        ("{{ _.nope }}", "{{ _.nope }}: there is no variable 'nope'"),
        ("x {{ _.nope }}", "x {{ _.nope }}: there is no variable 'nope'"),
        ("{{ _.n.x }}", "{{ _.n.x }}: 'int object' has no attribute 'x'"),
    ],
)
def test_errors_name_the_expression(template: str, message: str) -> None:
    """What fails says in which expression and why."""
    compiled = compile_template(template, lambda problem: pytest.fail(problem.message))
    with pytest.raises(EvaluationError) as failure:
        compiled.evaluate(SCOPE)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    "text", ["<% $.d.k + $.s %>", "{{ _.d.k }}", "{{ _.d.k + _.s }}", "<% $.get(d) %>", "<% $.containsKey(d) %>"]
)
def test_only_what_is_named_is_asked(text: str) -> None:
    """An expression that names variables never has the whole context put together."""
    scope = PlainScope(SCOPE.values)
    compile_template(text, lambda problem: pytest.fail(problem.message)).evaluate(scope)
    assert set(scope.asked) <= {"d", "s"}
    assert scope.asked


def test_data_is_not_copied() -> None:
    """The value of a variable is handed on as it is, however large."""
    assert value_of("<% $.l %>") is SCOPE.values["l"]
    assert value_of("{{ _.d }}") is SCOPE.values["d"]


@pytest.mark.parametrize(
    ("template", "value"),
    [("{{ -_.n }}", -3), ("{{ -(-1) }}", 1), ("{{ +1 }}", 1), ("{{- _.n -}}", 3), ("{{-_.n}}", 3), ("{{- -_.n }}", -3)],
)
def test_signs_of_jinja(template: str, value: object) -> None:
    """A sign right at a mark belongs to the mark, any other to the expression."""
    assert value_of(template) == value


def test_an_expression_nests_up_to_a_limit() -> None:
    """One more level than that is a problem of the definition."""
    problems: list[ExpressionProblem] = []
    for levels in (DEPTH - 1, DEPTH):
        compile_template(f"<% {'[' * levels}1{']' * levels} %>", problems.append)
        assert len(problems) == (levels == DEPTH)
    assert "nests too deeply" in problems[0].message
