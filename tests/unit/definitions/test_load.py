"""YAML as Mistral reads it, with the place of every value."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml

from dalsegno.definitions.load import QUICK_BYTES, SLOW_BYTES_MAX, Limits, Source, load, load_with_anchors
from dalsegno.definitions.problems import Problem, Problems

FILLER = "# " + "filler " * (QUICK_BYTES // 7) + "\n"
"""A comment that makes a text long enough for libyaml."""


def read(text: str, limits: Limits | None = None) -> tuple[Source, tuple[Problem, ...]]:
    problems = Problems()
    source = load(text, problems, limits or Limits())
    return source, problems.listed()


@pytest.mark.parametrize("long", [False, True], ids=["python", "libyaml"])
class TestBothReaders:
    """A text means the same whether it is short or long."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("010", 8),
            ("0x1F", 31),
            ("1_000", 1000),
            ("1:30", 90),
            ("1e3", "1e3"),
            ("1.5", 1.5),
            ("yes", True),
            ("off", False),
            ("~", None),
            ("", None),
            ("=", "="),
            ("'1'", "1"),
            ("!!str 5", "5"),
            ("! 5", 5),
            ("!!int '5'", 5),
            ("2020-01-02", "2020-01-02"),
            ("2020-01-02 03:04:05", "2020-01-02T03:04:05"),
            ("123456789012345678901234567890", 123456789012345678901234567890),
            ("&x", "&x"),
            ("*x", "*x"),
            ("@x y", "@x y"),
            ("[&a 1, *b, {c: @d}]", ["&a 1", "*b", {"c": "@d"}]),
            ("{<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
            ("{1: a, 2.5: c}", {"1": "a", "2.5": "c"}),
        ],
    )
    def test_scalars(self, text: str, value: object, long: bool) -> None:
        """Scalars have SafeLoader's types, dates become text, and anchors do not exist."""
        source, problems = read(f"{FILLER if long else ''}k: {text}\n")
        assert problems == ()
        assert source.data == {"k": value}
        assert type(source.data["k"]) is type(value)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (".nan", "no number"),
            ("-.inf", "no number"),
            ("!!binary aGVsbG8=", "tag"),
            ("!!python/object:os.system x", "tag"),
            ("!!set {a}", "tag"),
            ("2020-13-45", "no timestamp"),
            ('"a\\0b"', "NUL"),
            ("1" * 2000, "at most"),
            ("{a: 1, a: 2}", "is defined twice"),
            ("{? [a] : 1}", "key must be text"),
            ("{<<: 5}", "takes a mapping"),
            ("!!bool maybe", "no bool"),
        ],
    )
    def test_refusals(self, text: str, said: str, long: bool) -> None:
        """What JSON does not have, and what YAML lets pass in silence, is a problem in its line."""
        source, problems = read(f"{FILLER if long else ''}a: 1\nk: {text}\n")
        assert [problem.line for problem in problems] == [3 if long else 2]
        assert said in problems[0].message
        assert source.data["a"] == 1

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("a: b: c", 1),
            ("a: [1, 2", 2),
            ("a: 1\n\tb: 2", 2),
            ("a: 1\n b: 2", 2),
            ("a: 1\n---\nb: 2", 2),
            ("a: %x", 1),
        ],
    )
    def test_errors(self, text: str, line: int, long: bool) -> None:
        """YAML's own errors are problems with a line."""
        source, problems = read(f"{FILLER if long else ''}{text}\n")
        assert not source.complete
        assert [problem.line for problem in problems] == [line + long]


def test_places() -> None:
    """Every key and every item has its line and column, and a path that is not there has its nearest ancestor's."""
    source, _ = read("a:\n  b: [1,\n      {c: d}]\n")
    assert source.locate(("a",)) == (1, 1)
    assert source.locate(("a", "b")) == (2, 3)
    assert source.locate(("a", "b", 1, "c")) == (3, 8)
    assert source.locate(("a", "b", 1, "x", 7)) == (3, 7)
    assert source.locate(("z",)) == (1, 1)


def test_limits() -> None:
    """Depth, keys, values and bytes are bounded, and each bound says so."""
    small = Limits(bytes_max=100, depth_max=5, keys_max=3, values_max=10)
    for text, said in [
        ("x" * 101, "101 bytes"),
        ("[" * 6 + "]" * 6, "levels deep"),
        ("{a: 1, b: 1, c: 1, d: 1}", "more than 3 keys"),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "more than 10 values"),
    ]:
        source, problems = read(text, small)
        assert not source.complete
        assert len(problems) == 1
        assert said in problems[0].message


def test_depth_does_not_recurse() -> None:
    """A hundred thousand brackets are a problem, not a stack overflow."""
    _, problems = read("[" * 100_000)
    assert "levels deep" in problems[0].message


def test_unreadable_characters() -> None:
    """A raw control character or a lone surrogate is a problem in short and in long texts."""
    for bad in ("\0", "\ud800"):
        for filler in ("", FILLER):
            _, problems = read(f"{filler}a: {bad}")
            assert len(problems) == 1, (bad, bool(filler))


@pytest.mark.parametrize("filler", [0, QUICK_BYTES, SLOW_BYTES_MAX], ids=["python", "libyaml", "libyaml alone"])
@pytest.mark.parametrize("read_text", [load, load_with_anchors])
def test_json_escapes_what_is_beyond_16_bits(read_text: Callable[[str, Problems], Source], filler: int) -> None:
    """JSON writes such a character as two surrogates, in keys and values; a backslash before the `u` is its own."""
    data = {"filler": "x" * filler, "k \N{GRINNING FACE}": ["\N{CAT}\N{DOG}", "\\ud83d\\ude00", "\\\N{CAT}"]}
    text = json.dumps(data, indent=1)
    assert "\\ud83d\\ude00" in text
    problems = Problems()
    source = read_text(text, problems)
    assert problems.listed() == ()
    assert source.data == data


@pytest.mark.parametrize("filler", [0, QUICK_BYTES, SLOW_BYTES_MAX])
@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\uD83D \\ude00"])
def test_half_of_a_pair_is_no_character(half: str, filler: int) -> None:
    """A surrogate without the other one is a problem in its line, as a key and as a value."""
    for line in (f'"{half}": 1', f'"k": "{half}"'):
        _, problems = read(f'{{"filler": "{"x" * filler}",\n{line}}}')
        assert [problem.line for problem in problems] == [2], line


def test_anchor_in_large_text() -> None:
    """A text too long for the slow scanner says where its anchor is."""
    _, problems = read("a: 1\n" + "# filler\n" * (SLOW_BYTES_MAX // 9 + 1) + "b: *a\n")
    assert len(problems) == 1
    assert problems[0].line == SLOW_BYTES_MAX // 9 + 3
    assert "`*`" in problems[0].message


def test_same_as_safe_loader() -> None:
    """What SafeLoader makes of a text without anchors is what we make of it."""
    text = 'a: [1, two, 3.0, {x: "q\\u00e9\\n", y: |\n  text\n  more\n, z: ~}]\n'.replace(
        ", y: |\n  text\n  more\n", ""
    )
    text += "b: |\n  kept\n  lines\nc: >-\n  folded\n  lines\nd: 'it''s'\ne: {}\nf: []\n"
    assert read(text)[0].data == yaml.safe_load(text) == read(FILLER + text)[0].data
