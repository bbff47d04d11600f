"""JSON values: what comes from outside is checked once, and text and data are the same value."""

from __future__ import annotations

import math
import struct

import pytest

from dalsegno.workflow import value as value_module
from dalsegno.workflow.codec import Texts, decode_changes, encode_changes
from dalsegno.workflow.value import (
    INLINE_BYTES,
    VALUE_BYTES_MAX,
    UnfitValue,
    Value,
    checked,
    decode,
    encode,
    limit,
    made,
)


@pytest.mark.parametrize("pattern", [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48, 0xFFF0 << 48, (0x7FF0 << 48) + 1])
def test_no_float_without_a_value_is_written(pattern: int) -> None:
    """NaN of any kind and the infinities are refused at their place, also beside nulls, and finite floats are not."""
    (odd,) = struct.unpack("<d", pattern.to_bytes(8, "little"))
    with pytest.raises(UnfitValue, match=r"\$\.a\[1\]: -?(nan|inf) is not JSON"):
        encode({"a": [None, odd, "g"], "b": 1.5})
    (finite,) = struct.unpack("<d", (pattern & ~(1 << 62)).to_bytes(8, "little"))
    assert math.isfinite(finite)
    assert decode(encode([None, finite])) == [None, finite]


@pytest.mark.parametrize("beside", [1, None, 10**30, [10**30, None]], ids=str)
@pytest.mark.parametrize(
    ("unfit", "fault"),
    [
        ("x\0", r"\$\[1\]\.k: holds a NUL character"),
        ("\ud800", r"\$\[1\]\.k: holds a lone surrogate"),
        (math.nan, r"\$\[1\]\.k: nan is not JSON"),
        ([-math.inf], r"\$\[1\]\.k\[0\]: -inf is not JSON"),
        ({"\0": 1}, r"\$\[1\]\.k\.?.* \(a key\): holds a NUL character"),
        ({7: 1}, r"\$\[1\]\.k: has a key that is not a string: 7"),
        ({1, 2}, r"\$\[1\]\.k: a set is not JSON"),
        (b"x", r"\$\[1\]\.k: a bytes is not JSON"),
    ],
    ids=repr,
)
def test_data_that_is_no_json_is_refused_at_its_place(unfit: object, fault: str, beside: object) -> None:
    """What is beside it makes no difference, not even an integer that orjson cannot write."""
    with pytest.raises(UnfitValue, match=fault):
        encode([beside, {"k": unfit}])


def test_integers_of_any_length_are_written_as_they_are() -> None:
    """So is what is beside them: the same text as of data without them."""
    for beside in ({"b": [1.5, "ä\n\x7f", {}]}, (1, 2), [[None, True]], "nul"):
        assert encode([10**40, beside]) == f"[1{'0' * 40},{encode(beside)}]"
        assert decode(encode([-(10**40), beside])) == [-(10**40), decode(encode(beside))]


def test_what_is_too_large_is_not_searched() -> None:
    """The size is told first: to search megabytes that are refused anyway would hold up others."""
    with pytest.raises(UnfitValue, match="too large"):
        made([None, math.nan, "x" * VALUE_BYTES_MAX])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not JSON"),
        ("NaN", "not JSON"),
        ("[1e400]", "not JSON"),
        ("[12345678901234567890, NaN]", "NaN is not JSON"),
        ('["\\u0000"]', r"\$\[0\]: holds a NUL character"),
        ('{"a": {"\\u0000": 1}}', r"\$\.a \(a key\): holds a NUL character"),
        ('[12345678901234567890, "\\ud800"]', r"\$\[1\]: holds a lone surrogate|not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_what_is_unfit_is_refused_at_its_place(text: str, fault: str) -> None:
    """A text from outside that no service could carry never becomes a value."""
    with pytest.raises(UnfitValue, match=fault):
        checked(text)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("null", None),
        ('"\\\\u0000"', "\\u0000"),
        ('"\\u00e4 \\ud83d\\ude00"', "ä 😀"),
        ("[12345678901234567890, 1]", [12345678901234567890, 1]),
        ("1234567890123456789012345678901234567890", 1234567890123456789012345678901234567890),
        ('{"a": 1.5}', {"a": 1.5}),
    ],
)
def test_what_is_fit_is_kept_exactly(text: str, data: object) -> None:
    """The text stays as it came; integers of any length are exact, and a backslash before `u0000` is no NUL."""
    value = checked(text)
    assert (value.text, value.data, decode(text)) == (text, data, data)


def test_a_value_may_have_so_many_bytes() -> None:
    """The limit itself is allowed, one more is not, whoever has made the value; letters count by their bytes."""
    assert checked("12", bytes_max=2).data == 12
    with pytest.raises(UnfitValue, match="too large: 4 bytes, at most 3"):
        checked('"ä"', bytes_max=3)
    limit(VALUE_BYTES_MAX)
    with pytest.raises(UnfitValue, match=r"too large: a value of 4,000,001 bytes; a value has at most 4,000,000"):
        limit(VALUE_BYTES_MAX + 1)
    assert len(made("a" * (VALUE_BYTES_MAX - 2)).text) == VALUE_BYTES_MAX
    with pytest.raises(UnfitValue, match="too large"):
        made("ä" * (VALUE_BYTES_MAX // 2))


def test_values_are_equal_by_their_text() -> None:
    """Whether they were made of data or of text; nothing else is equal to them."""
    assert Value(data={"a": 1}) == Value(text='{"a":1}')
    assert len({Value(data=[1]), Value(text="[1]"), Value(data=[2])}) == 2
    assert Value(data=1) != Value(data=2)
    assert Value(data=1) != 1
    assert (Value(data=1).digest == Value(text="1").digest, Value(data=1).digest == Value(data=2).digest) == (
        True,
        False,
    )


def test_the_data_is_made_again_of_the_text() -> None:
    """A value of which only the text is kept gives the same data; one that has no text yet keeps its data."""
    value = Value(data={"a": [1]})
    value.drop_data()
    assert value.data == {"a": [1]}
    assert value.text == '{"a":[1]}'
    value.drop_data()
    assert value.data == {"a": [1]}


def test_escapes_of_other_characters_are_not_searched_for_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expression that finds an escaped NUL would take longer than all else in a value with many escapes."""
    monkeypatch.setattr(value_module, "_NUL", None)
    assert checked('["\\u00e9", "\\\\"]').data == ["é", "\\"]


@pytest.mark.parametrize(
    ("text", "is_large"),
    [("a" * (INLINE_BYTES - 2), False), ("a" * (INLINE_BYTES - 1), True), ("ä" * (INLINE_BYTES // 2), True)],
)
def test_a_long_text_is_kept_apart(text: str, is_large: bool) -> None:
    """By its bytes, not by its letters."""
    assert Value(data=text).is_large == is_large


def test_only_records_and_values_go_into_the_store_and_come_from_it() -> None:
    """Anything else is a mistake in the program: nothing is stored in its place."""
    with pytest.raises(TypeError, match="a object does not go into the store"):
        encode_changes([object()], Texts())  # type: ignore[list-item]
    assert decode_changes(encode_changes([], Texts()), Texts()) == []
