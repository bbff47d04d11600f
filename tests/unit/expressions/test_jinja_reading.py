"""Templates are read as Jinja itself reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError
from jinja2.lexer import Lexer
from jinja2.parser import Parser
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_text
from dalsegno.expressions.jinja_environment import environment
from dalsegno.expressions.jinja_reading import read_expression, read_text
from dalsegno.expressions.language import ORQUESTA
from dalsegno.expressions.yaql.parse import SyntaxProblem

# Python says that of `\c` in a text; Jinja's lexer would take it for an error where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")

JINJA = environment(ORQUESTA)

PIECES = (
    "a",
    "ctx",
    "class",
    "not",
    "is",
    "in",
    "if",
    "else",
    "and",
    "or",
    "none",
    "True",
    "_x1",
    "\u00e9t\u00e9",
    "e\u0301",
    "5abc",
    "0",
    "12",
    "1_000",
    "0x1F",
    "0b11",
    "1.5",
    "1e3",
    "1.5e-3",
    "1_0.5",
    "007",
    "1.",
    ".5",
    "'s'",
    '"d"',
    "'it\\'s'",
    "'\\n'",
    "'\\x'",
    "'{{'",
    "'}}'",
    "'\u00e4'",
    "'",
    '"',
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "{{",
    "}}",
    "-}}",
    "{{-",
    "{%",
    "%}",
    "{#",
    "#}",
    ".",
    ",",
    ":",
    "|",
    "~",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "==",
    "!=",
    ">=",
    "<",
    "=",
    "!",
    "?",
    "$",
    "\\",
    " ",
    "\t",
    "\n",
    "\u00a0",
    " upper",
    ".b",
    "()",
    "['k']",
)

TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def read_as_jinja_does(source: str) -> object:
    parser = Parser(JINJA, source, state="variable")
    expression = parser.parse_expression()
    if not parser.stream.eos:
        raise TemplateSyntaxError("chunk after expression", parser.stream.current.lineno)
    return expression


def outcome(read: object, text: str) -> object:
    """What is read of a text, or what is wrong with it."""
    try:
        return repr(read(text))  # type: ignore[operator]
    except TemplateSyntaxError as error:
        return error.message, error.lineno
    except (ValueError, OverflowError) as error:
        return type(error)


@pytest.mark.parametrize(
    "text",
    [
        "ctx().a",
        "ctx('a').b | upper ~ 1",
        "{'a': [1, 2.5], 'b': (not x)}",
        "a if b else 'c'",
        "a[1:2]",
        "a b",
        "",
        "'\\u00e4\\t'",
        "x is defined and y not in z",
        "f(a, *b, k=1, **c)",
        "1 + -2 ** 3 // 4 % 5",
        "a.0",
        "'a' 'b'",
    ],
)
def test_expressions(text: str) -> None:
    """Whatever can stand in one, and what is wrong with it."""
    assert outcome(lambda each: read_expression(each, JINJA), text) == outcome(read_as_jinja_does, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("{{ -1 }}", -1), ("{{- -1 -}}", -1), ("{{ +1 }}", 1), ("{{- 1 -}}", 1), ("{{+ 1 }}", 1), ("{{-1-}}", 1)],
)
def test_signs_are_no_marks(text: str, value: int) -> None:
    """A sign that stands apart from the mark belongs to the number."""
    assert compile_text(text, ORQUESTA).evaluate(PlainScope()) == value
    with pytest.raises(SyntaxProblem):
        compile_text("{{ 1 + }}", ORQUESTA)


@pytest.mark.parametrize(
    "text", ["{{ {'a': 1 -}} }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1 -}}} }}", "{{ (1 -}} ) }}"]
)
def test_marks_inside_of_brackets(text: str) -> None:
    """There they are brackets, and a minus sign before them is none of a mark."""
    assert outcome(lambda each: read_text(each, JINJA), text) == outcome(JINJA.parse, text)


def test_what_is_usual_is_read_without_the_lexer_of_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes most of the time of reading; what has statements, comments or lines in it is left to it."""

    def read(lexer: Lexer, source: str, *_: object) -> Iterator[tuple[int, str, str]]:
        assert not source, f"{source} is read by Jinja"
        return iter(())

    monkeypatch.setattr(Lexer, "tokeniter", read)
    for text in ("{{ ctx().a }}", "a {{ ctx('b') | upper }} and {{ {'c': {'d': [1]}}.c }}", "plain"):
        read_text(text, JINJA)
    for text in ("ctx().a", "{'a': {'b': 1}}", "[1, 2][0]"):
        read_expression(text, JINJA)
    for text in ("{% if a %}b{% endif %}", "{# no #}", "a\nb"):
        with pytest.raises(AssertionError, match="is read by Jinja"):
            read_text(text, JINJA)


@given(TEXTS)
def test_any_expression(text: str) -> None:
    """Anything that is put together from parts of expressions."""
    assert outcome(lambda each: read_expression(each, JINJA), text) == outcome(read_as_jinja_does, text)


@given(st.lists(TEXTS | TEXTS.map(lambda text: f"{{{{ {text} }}}}"), max_size=4).map("".join))
def test_any_text(text: str) -> None:
    """Anything with expressions in it, and whatever looks like one."""
    assert outcome(lambda each: read_text(each, JINJA), text) == outcome(JINJA.parse, text)
