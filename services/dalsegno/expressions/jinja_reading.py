"""Parse templates like Jinja, in a third of the time: texts with expressions only, as nearly all are.

Jinja's own lexer tries a dozen regular expressions in turn for each token; one that has them all does as well. Jinja
itself parses what this cannot parse, and templates with blocks, comments or errors, so that the messages are equal.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, lexer, nodes
from jinja2.parser import Parser

_NAME = r"[\w\d]+"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t]+)
    |(?P<end>-?\}}\}})
    |(?P<float>(?xi:{lexer.float_re.pattern}))
    |(?P<integer>(?xi:{lexer.integer_re.pattern}))
    |(?P<name>{_NAME})
    |(?P<string>{lexer.string_re.pattern})
    |(?P<operator>{lexer.operator_re.pattern})""",
    re.VERBOSE,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class _Unreadable(Exception):
    """Only Jinja itself can parse this."""


def read_expression(source: str, environment: Environment) -> nodes.Expr:
    """Parse one expression, without its marks. Raises the exceptions of Jinja."""
    try:
        parser = _parser(environment, [*_tokens(source, 0, ends=False)][:-1])
        expression = parser.parse_expression()
        if parser.stream.eos:
            return expression
    except (_Unreadable, TemplateSyntaxError):
        pass
    parser = Parser(environment, source, state="variable")
    expression = parser.parse_expression()
    if not parser.stream.eos:
        raise TemplateSyntaxError("chunk after expression", parser.stream.current.lineno)
    return expression


def read_text(text: str, environment: Environment) -> nodes.Template:
    """Parse a text with expressions. Raises the exceptions of Jinja."""
    if "\n" not in text and "\r" not in text and "{%" not in text and "{#" not in text:
        try:
            return _parser(environment, list(_text_tokens(text))).parse()
        except (_Unreadable, TemplateSyntaxError):
            pass
    return environment.parse(text)


def _parser(environment: Environment, tokens: list[lexer.Token]) -> Parser:
    parser = Parser(environment, "")
    parser.stream = lexer.TokenStream(iter(tokens), None, None)
    return parser


def _text_tokens(text: str) -> Iterator[lexer.Token]:
    """Yield the tokens of a text of one line. Raises _Unreadable."""
    position = 0
    while (start := text.find("{{", position)) >= 0:
        if text[start + 2 : start + 3] in ("-", "+"):
            raise _Unreadable  # the space before it may have to be stripped
        if start > position:
            yield lexer.Token(1, "data", text[position:start])
        yield lexer.Token(1, "variable_begin", "{{")
        for token in _tokens(text, start + 2, ends=True):
            if token.type == "end":
                position = int(token.value)
                yield lexer.Token(1, "variable_end", "}}")
            else:
                yield token
    if position < len(text):
        yield lexer.Token(1, "data", text[position:])


def _tokens(text: str, position: int, *, ends: bool) -> Iterator[lexer.Token]:
    """Yield the tokens up to the mark that ends the expression (or, not `ends`, to the end of the text); the last one
    is `end` with the position after it. Raises _Unreadable."""
    open_brackets: list[str] = []
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _Unreadable
        kind, written = found.lastgroup or "", found[0]
        if kind == "end" and (open_brackets or not ends):
            if written[0] == "-" or not open_brackets:
                raise _Unreadable
            kind, written = "operator", "}"
        position += len(written)
        if kind == "end":
            if written[0] == "-":
                raise _Unreadable
            yield lexer.Token(1, "end", str(position))
            return
        if kind == "operator":
            _balance(open_brackets, written)
            yield lexer.Token(1, lexer.operators[written], written)
        elif kind != "space":
            yield lexer.Token(1, kind, _VALUES[kind](written))
    if ends or open_brackets:
        raise _Unreadable
    yield lexer.Token(1, "end", str(position))


def _balance(open_brackets: list[str], written: str) -> None:
    if written in _CLOSING:
        open_brackets.append(_CLOSING[written])
    elif written in (")", "]", "}") and (not open_brackets or open_brackets.pop() != written):
        raise _Unreadable


def _name(written: str) -> str:
    if not written.isidentifier():
        raise _Unreadable
    return written


def _string(written: str) -> str:
    if "\\" not in written:
        return written[1:-1]
    try:
        return written[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:
        raise _Unreadable from None


def _integer(written: str) -> int:
    try:
        return int(written.replace("_", ""), 0)
    except ValueError:
        raise _Unreadable from None


def _float(written: str) -> object:
    return literal_eval(written.replace("_", ""))


_VALUES: dict[str, Callable[[str], Any]] = {"name": _name, "string": _string, "integer": _integer, "float": _float}
