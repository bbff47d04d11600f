"""The grammar of filters: what it reads, and what it refuses with the term and the place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.store.filters import (
    ATTEMPT_FIELDS,
    DEFINITION_FIELDS,
    EXECUTION_FIELDS,
    Filter,
    InvalidFilter,
    Prefix,
    Suffix,
    Term,
    parse_filter,
)


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


def test_words_of_the_contract_are_read_with_or_without_their_prefix() -> None:
    """EXECUTION_STATE_RUNNING, as messages show it in JSON, is RUNNING."""
    fields = {"state": EXECUTION_FIELDS, "language": DEFINITION_FIELDS}
    for text in ("state=RUNNING,ERROR", "state=EXECUTION_STATE_RUNNING,execution_state_error"):
        assert parse_filter(text, fields["state"]).terms[0].values == ("RUNNING", "ERROR")
    assert parse_filter("language=LANGUAGE_MISTRAL", fields["language"]).terms[0].values == ("mistral",)


def test_values_may_be_excluded_and_given_by_their_beginning() -> None:
    """`!=` takes the same values as `=`; a `*` at the end matches any rest, in quotation marks only itself."""
    chosen = parse_filter('workflow!=pack.*,"a b"*,"star*" label.team=*', EXECUTION_FIELDS)
    assert chosen == Filter(
        (
            Term("workflow", "!=", (Prefix("pack."), Prefix("a b"), "star*")),
            Term("label", "=", (Prefix(""),), "team"),
        )
    )
    assert parse_filter("id=*302099A8057".lower(), EXECUTION_FIELDS).terms[0].values == (Suffix("302099a8057"),)


def test_times_may_count_from_now() -> None:
    """`-1h30m` is that long ago; read later it is another moment and the same filter, so that its tokens continue."""
    first, later = (parse_filter("created>-1h30m", EXECUTION_FIELDS, now_s) for now_s in (10_000.0, 10_005.0))
    assert [each.terms[0].values for each in (first, later)] == [(4_600.0,), (4_605.0,)]
    assert first.identity == later.identity
    assert first.identity != parse_filter("created>-2h", EXECUTION_FIELDS, 10_000.0).identity
    weeks = parse_filter('ended<="-2w3d4s"', EXECUTION_FIELDS, 2_000_000.0)
    assert weeks.terms[0].values == (2_000_000.0 - 17 * 86_400 - 4,)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("state=RUNNING colour=red", 15, "no such field; there are id, state, workflow"),
        ("state", 1, "not of the form"),
        (" state=GOING", 2, "'GOING' is none of IDLE, RUNNING"),
        (" state!=TASK_STATE_RUNNING", 2, "'TASK_STATE_RUNNING' is none of"),
        ("state=RUN*", 1, "* is for texts only"),
        ("parent=e1", 1, "'e1' is not an id in the form 01890a5d"),
        ("root=01890a5d-ac96-774b-bcce", 1, "is not an id"),
        ("id=*xyz", 1, "is not the end of an id"),
        ("parent=01890a5d*", 1, "* is for texts only"),
        ("workflow=*flow", 1, "at its beginning only for ids"),
        ("workflow=a*b", 1, "contains it in quotation marks"),
        ("workflow!", 1, "not of the form"),
        ("created>-1y", 1, "'-1y' is not a time like"),
        ("created>-", 1, "'-' is not a time like"),
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


def test_few_filters_recur() -> None:
    """Statements are kept for filters by one or two states, and by a flag; others would fill the memory."""
    one, two = Term("state", "=", ("RUNNING",)), Term("state", "=", ("RUNNING", "PAUSED"))
    flag = Term("delegated", "=", (True,))
    assert all(Filter(terms).recurs for terms in ((), (one,), (two,), (one, flag)))
    three = Term("state", "=", ("RUNNING", "PAUSED", "ERROR"))
    others = ((three,), (one, three), (one, flag, one), (Term("id", "=", ("e",)),), (one, Term("id", "=", ("e",))))
    assert not any(Filter(terms).recurs for terms in others)
