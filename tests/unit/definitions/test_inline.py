"""Parameters in one line behind a name."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX, read_inline


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("std.noop", "std.noop", {}),
        ("std.noop=1", "std.noop=1", {}),
        ("std.echo output=1", "std.echo", {"output": 1}),
        ("std.echo output=\"1\" x='two words'", "std.echo", {"output": "1", "x": "two words"}),
        ("std.echo output=unquoted", "std.echo", {}),
        ("std.echo output=-1", "std.echo", {}),
        ("std.echo output = 1", "std.echo", {}),
        ('std.echo output={"a":1}', "std.echo", {}),
        ("std.echo output=False", "std.echo", {}),
        ("std.echo a=true b=false c=null", "std.echo", {"a": True, "b": False, "c": None}),
        ("std.echo a=1.5 b=10abc", "std.echo", {"a": 1, "b": 10}),
        ("std.echo a=[1, 2] ", "std.echo", {"a": [1, 2]}),
        ("std.echo a=[<% $.n %>]", "std.echo", {"a": "[<% $.n %>]"}),
        ("std.echo a=<% $.x + 1 %> b=<% $.y %>", "std.echo", {"a": "<% $.x + 1 %>", "b": "<% $.y %>"}),
        ("std.echo a={{ _.x }}", "std.echo", {"a": "{{ _.x }}"}),
        ("std.echo a=[NaN]", "std.echo", {"a": "[NaN]"}),
        ("<% $.name %> a=1", "<% $.name %>", {"a": 1}),
        ("fail(msg=<% $.x %>)", "fail", {"msg": "<% $.x %>"}),
        ('fail(msg="two words")', "fail", {"msg": "two words"}),
        ("wf a-b=1 c_d=2 é=3", "wf", {"a-b": 1, "c_d": 2, "é": 3}),
    ],
)
def test_forms(text: str, name: str, parameters: dict[str, object]) -> None:
    """Each form that Mistral knows is found, and what is none of them is ignored."""
    inline = read_inline(text)
    assert inline is not None
    assert (inline.name, inline.parameters) == (name, parameters)


def test_no_name() -> None:
    """A text that begins with no name is refused, not guessed at."""
    assert read_inline("- x=1") is None


_VALUE = r"\"[^\"]*\"\s*|'[^']*'\s*|\{\{.*\}\}|\{%.*%\}|<%.*?%>|\[.*\]\s*|true|false|null|\d+"
_PATTERN = re.compile(rf"([-_\w]+)=({_VALUE})")


@given(st.text(alphabet="ab=-\"'<%>{}[]1 \ntrue,", max_size=60))
def test_same_as_the_pattern(text: str) -> None:
    """Walking by hand finds the names that Mistral's pattern finds."""
    inline = read_inline("x " + text)
    assert inline is not None
    assert list(inline.parameters) == list(dict.fromkeys(name for name, _ in _PATTERN.findall("x " + text)))


@pytest.mark.parametrize("part", ["a", "a=[", "a={{", "a=<%", 'a="', "=", "a= "])
def test_no_text_is_slow(part: str) -> None:
    """The longest text allowed is read in less than a second, whatever is in it."""
    began = time.process_time()
    read_inline("x " + part * (INLINE_LENGTH_MAX // len(part)))
    assert time.process_time() - began < 1
