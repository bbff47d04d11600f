"""The grammar of filters: what it reads, and what it refuses with the term and the place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.store.filters import ATTEMPT_FIELDS, EXECUTION_FIELDS, Filter, InvalidFilter, Term, parse_filter


def test_terms_become_data() -> None:
    """Fields become columns, values alternatives, times seconds, and quotation marks keep spaces and commas."""
    text = '  state=RUNNING,ERROR label.my-team="red, \\"blue\\"",x root= created>=2026-01-01T00:00:00Z '
    assert parse_filter(text, EXECUTION_FIELDS) == Filter(
        (
            Term("state", "=", ("RUNNING", "ERROR")),
            Term("label", "=", ('red, "blue"', "x"), "my-team"),
            Term("root_id", "=", ("",)),
            Term("created_s", ">=", (1767225600.0,)),
        )
    )
    assert parse_filter("item=3 accepted=true,false", ATTEMPT_FIELDS) == Filter(
        (Term("item", "=", (3,)), Term("accepted", "=", (True, False)))
    )
    assert parse_filter(" \t", EXECUTION_FIELDS) == Filter()


def test_states_are_read_in_any_case() -> None:
    """A state may be written in small letters and is the same filter."""
    assert parse_filter("state=running", EXECUTION_FIELDS) == parse_filter("state=RUNNING", EXECUTION_FIELDS)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("state=RUNNING colour=red", 15, "no such field; there are state, workflow"),
        ("state", 1, "not of the form"),
        (" state=GOING", 2, "'GOING' is none of IDLE, RUNNING"),
        ("state>RUNNING", 1, "> is for times only"),
        ("created>2026-01-01,2026-01-02", 1, "takes one value"),
        ("created>yesterday", 1, "'yesterday' is not a time like"),
        ("label=red", 1, "no such field; there are"),
        ("state.x=red", 1, "no such field"),
        ('workflow=a workflow="b', 12, "not"),
        ('workflow="a"b', 1, "a comma is missing"),
        ('workflow="\\q"', 1, "escape"),
        ('workflow="\\u0000"', 1, "NUL"),
        ('"', 1, "quotation mark is not closed"),
    ],
)
def test_bad_filters_name_the_term(text: str, position: int, reason: str) -> None:
    """A filter that cannot be read is refused with the term, the character it begins at, and what is wrong (R16)."""
    with pytest.raises(InvalidFilter) as refusal:
        parse_filter(text, EXECUTION_FIELDS)
    assert refusal.value.position == position
    assert refusal.value.violations[0].subject == "filter"
    assert reason in str(refusal.value)
    assert refusal.value.term in text


@pytest.mark.parametrize("text", ["item=x", "item=-1", "accepted=yes", "item=99999999999999999999"])
def test_bad_numbers_and_flags(text: str) -> None:
    """Numbers and flags are read strictly; a number beyond the columns' size never reaches the database."""
    with pytest.raises(InvalidFilter):
        parse_filter(text, ATTEMPT_FIELDS)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is written, the answer is a filter or InvalidFilter, never another error."""
    with suppress(InvalidFilter):
        assert (parse_filter(text, EXECUTION_FIELDS) == Filter()) == (not text.strip())
