"""The JSON text of data: what JSON cannot carry is refused with its place, however the text is made."""

from __future__ import annotations

import json

import pytest

from dalsegno.workflow.value import UnfitValue, encode

WIDE = 2**70
"""An integer beyond 64 bits: the quicker library does not take it."""


@pytest.mark.parametrize("beside", [None, 1, WIDE], ids=["null", "a number", "a wide integer"])
@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({1: "one"}, r"\$.*: has a key that is not a string: 1"),
        (float("nan"), r"\$.*: nan is not JSON"),
        (float("-inf"), r"\$.*: -inf is not JSON"),
        ("\ud800", r"\$.*: holds a lone surrogate"),
        ({"a": [object()]}, r"\$.*\.a\[0\]: a object is not JSON"),
    ],
)
def test_what_json_cannot_carry_is_refused_beside_anything(data: object, fault: str, beside: object) -> None:
    """Data that JSON cannot carry is refused, with its place, also beside what takes another way through the code."""
    with pytest.raises(UnfitValue, match=fault):
        encode([beside, data])


@pytest.mark.parametrize(
    "data", [[None, (1, 2)], {"a": [WIDE, None]}, (WIDE, "ä"), {"a": {"b": [None] * 3}, "c": WIDE}, [WIDE, (None,)]]
)
def test_nulls_tuples_and_wide_integers_are_written(data: object) -> None:
    """What the quicker library does not take, or what looks like a NaN in its text, is written all the same."""
    assert json.loads(encode(data)) == json.loads(json.dumps(data))
