"""Parameters in one line."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dalsegno.definitions.orquesta.inline import INLINE_LENGTH_MAX, read_inline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('core.echo message="a b" n=3', [("message", "a b"), ("n", 3)]),
        ("a='x',b='y';c='z'\nd=\"w\"", [("a", "x"), ("b", "y"), ("c", "z"), ("d", "w")]),
        ("a=-1 b=2.5 c=-.5 d=true e=FALSE f=null", [*zip("abcdef", [-1, 2.5, "-.5", True, False, None], strict=True)]),
        ('a="1" b=\'true\' c=""', [("a", "1"), ("b", "true"), ("c", "")]),
        ("a=[1, [2.5, true], null]", [("a", [1, [2.5, True], None])]),
        ('a=[1, "two", [3]]', [("a", '[1, "two", [3]]')]),
        ("a=['x']\nb=[\"<% ctx(x) %>\"]\nc=[]", [("a", "['x']"), ("b", '["<% ctx(x) %>"]'), ("c", [])]),
        ('a=[1, "two]', [("a", '[1, "two]')]),
        ("a=\"'x'\" b='\"y\"'", [("a", "x"), ("b", '"y"')]),
        ("a=[1, two]", [("a", "[1, two]")]),
        ("a='{\"k\": 1}'", [("a", {"k": 1})]),
        ("a='{{ ctx().x }}'", [("a", "{{ ctx().x }}")]),
        ("a=<% ctx(x) %> b={{ ctx('x') }}", [("a", "<% ctx(x) %>"), ("b", "{{ ctx('x') }}")]),
        ("a=<% ctx(x) = 1 and y=2 %>", [("a", "<% ctx(x) = 1 and y=2 %>")]),
        ('j=abc i={"k":1} k=1', [("k", 1)]),
        ("a=1 a=2", [("a", 1), ("a", 2)]),
        ("nothing here", []),
        ("= =1 a= b", []),
        ('a="open b=1', [("b", 1)]),
    ],
)
def test_values(text: str, expected: list[tuple[str, Any]]) -> None:
    """Values are read where they are values; what is none is ignored."""
    assert read_inline(text).parameters == expected


@pytest.mark.parametrize("part", ["a=", "a=[", 'a="b ', "a=<% ", "a={{ ", "a='b\n", "a", "=", "a=[\n"])
def test_time_grows_with_the_text(part: str) -> None:
    """No text that is allowed takes long, whatever is repeated in it."""
    begin_s = time.thread_time()
    read_inline(part * (INLINE_LENGTH_MAX // len(part)))
    assert time.thread_time() - begin_s < 2
