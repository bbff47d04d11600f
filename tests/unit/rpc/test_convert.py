"""The checks of a request's fields, and times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.rpc import convert
from dalsegno.rpc.convert import Fields
from dalsegno.workflow.refusals import InvalidRequest, TooLarge
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def complaint(check: Callable[[Fields], object]) -> str:
    """Return the text of the check's error; empty without one."""
    fields = Fields()
    check(fields)
    try:
        fields.done()
    except InvalidRequest as refusal:
        return str(refusal)
    return ""


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_a_time_survives_to_the_microsecond(microseconds: int) -> None:
    """Conversion of seconds to a message and back keeps the microsecond."""
    at_s = microseconds / 1e6
    message = convert.timestamp(at_s)

    assert message is not None
    assert convert.seconds_of(message) == pytest.approx(at_s, abs=1e-6)
    assert 0 <= message.nanos < 1_000_000_000


def test_no_time_is_no_field() -> None:
    """An absent time stays absent."""
    assert convert.timestamp(None) is None


def test_every_state_of_the_core_is_in_the_contract() -> None:
    """The contract knows every state of the core."""
    assert all(convert.execution_state(state) for state in ExecutionState)
    assert all(convert.task_state(state) for state in TaskState)
    assert all(convert.action_state(state) for state in AttemptState)


def test_languages_have_names() -> None:
    """A language's name and number belong together; unspecified has no name."""
    assert convert.language_name(convert.language("mistral")) == "mistral"
    assert convert.language_name(convert.language("klingon")) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, not a list"),
        ("3", "not a number"),
        ("null", "not null"),
        ("true", "not a boolean"),
        ('"a"', "not a string"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": [1, {"b": "x\\u0000"}]}', "$.a[1].b: holds a NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ("{} {}", "not JSON"),
        ("hello", "not JSON"),
    ],
)
def test_input_that_is_not_a_json_object_is_refused_with_its_place(text: str, says: str) -> None:
    """A value that a part of the system cannot carry is refused with its path."""
    said = complaint(lambda fields: fields.json_object("input", text))

    assert said.startswith("input: ")
    assert says in said


def test_json_comes_through_exactly() -> None:
    """JSON text is kept unchanged, integers beyond 64 bits included; an empty text is an empty object."""
    fields = Fields()

    assert fields.json_object("input", '{"n": 123456789012345678901234567890}').data == {
        "n": 123456789012345678901234567890
    }
    assert fields.json_object("input", "").text == "{}"
    assert fields.json("result", "").text == "null"
    fields.done()


def test_a_value_over_four_mib_is_too_large() -> None:
    """A value over the limit is RESOURCE_EXHAUSTED, after the check of other fields."""
    fields = Fields()
    fields.json_object("input", '{"a": "' + "x" * (4 * 1024 * 1024) + '"}')

    with pytest.raises(TooLarge, match=r"input .* 4,000,000 bytes"):
        fields.done()
    fields.name("workflow", "")
    with pytest.raises(InvalidRequest, match="workflow: is missing"):
        fields.done()


@pytest.mark.parametrize(
    ("text", "fits"),
    [(ID, True), ("", False), ("x", False), (ID.upper(), False), ("{" + ID + "}", False), (ID + ".1", False)],
)
def test_an_id_is_a_uuid_in_its_usual_form(text: str, fits: bool) -> None:
    """Another form of the same UUID is refused, since it would be another key in the store."""
    assert (complaint(lambda fields: fields.uuid("execution_id", text)) == "") is fits


@pytest.mark.parametrize("text", ["", ID, f"{ID}.x", f"{ID}.1.2", "x.1", f"{ID}.-1", f"{ID}.99999999999"])
def test_the_id_of_a_task_has_one_number(text: str) -> None:
    """An id of another form is refused without a read."""
    assert complaint(lambda fields: fields.numbered_id("task_execution_id", text, 1)).startswith("task_execution_id: ")


def test_the_numbers_of_an_id_are_read() -> None:
    """`<execution>.17.3.2` is task 17, item 3, attempt 2."""
    fields = Fields()

    assert fields.numbered_id("action_execution_id", f"{ID}.17.3.2", 3) == (ID, (17, 3, 2))
    fields.done()


@pytest.mark.parametrize(
    "check",
    [
        lambda fields: fields.name("name", "x" * 256),
        lambda fields: fields.number("version", -1),
        lambda fields: fields.labels("labels", {"no space": "x"}),
        lambda fields: fields.labels("labels", {"team": "x" * 256}),
        lambda fields: fields.labels("labels", {f"l{number}": "" for number in range(65)}),
        lambda fields: fields.moment("deadline", Timestamp(seconds=-1)),
        lambda fields: fields.moment("deadline", Timestamp(seconds=10**12)),
        lambda fields: fields.length("timeout", Duration(seconds=-1)),
    ],
)
def test_a_field_beyond_its_limits_is_named(check: Callable[[Fields], object]) -> None:
    """Each limit of the contract is checked."""
    assert complaint(check) != ""


def test_fields_within_their_limits_pass() -> None:
    """Fields up to their limits have no error."""
    fields = Fields()
    fields.name("name", "x" * 255)
    fields.labels("labels", {"team/a.b-c_d": "x" * 255})
    fields.moment("deadline", Timestamp(seconds=1_800_000_000))
    fields.length("timeout", Duration(seconds=1))

    fields.done()


def test_everything_wrong_is_told_at_once() -> None:
    """A request with three mistakes gets three violations."""
    fields = Fields()
    fields.name("workflow", "")
    fields.json_object("input", "{")
    fields.number("version", -1)

    with pytest.raises(InvalidRequest) as caught:
        fields.done()
    assert [violation.subject for violation in caught.value.violations] == ["workflow", "input", "version"]
