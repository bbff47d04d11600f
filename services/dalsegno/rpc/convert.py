"""Conversion between messages and Python (times, states), and checks of a request's fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.v1 import definition_pb2, execution_pb2
from dalsegno.workflow.changes import Signature
from dalsegno.workflow.refusals import InvalidRequest, NotFound, TooLarge, Violation
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, Value, byte_length, checked

if TYPE_CHECKING:  # executors import this file, and no store
    from dalsegno.store.records import DefinitionKind, ResourceKind

NAME_LENGTH = 255
COMMENT_LENGTH = 4096
LABELS_MAX = 64

REQUESTS_KEPT_S = 24 * 3600.0
"""The time for which a request and its answer are stored."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_NUMBER = re.compile(r"[0-9]{1,9}")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,63}")

SIGNATURE_SCHEMES = {
    Signature.NONE: execution_pb2.SIGNATURE_SCHEME_UNSPECIFIED,
    Signature.STANDARD_WEBHOOKS: execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS,
    Signature.GITHUB: execution_pb2.SIGNATURE_SCHEME_GITHUB,
}

_LATEST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def timestamp(at_s: float | None) -> Timestamp | None:
    """Return the message of seconds since 1970, to the microsecond; None, which leaves a field unset, for None.

    >>> timestamp(1.5) == Timestamp(seconds=1, nanos=500_000_000)
    True
    """
    if at_s is None:
        return None
    seconds, microseconds = divmod(round(at_s * 1_000_000), 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1000)


def seconds_of(moment: Timestamp) -> float:
    """Return the seconds since 1970 of a timestamp."""
    return moment.seconds + moment.nanos / 1e9


def duration(length_s: float) -> Duration:
    """Return the message of a length of time in seconds, precise to the microsecond."""
    seconds, microseconds = divmod(round(length_s * 1_000_000), 1_000_000)
    return Duration(seconds=seconds, nanos=microseconds * 1000)


def length_s(length: Duration) -> float:
    """Return the seconds of a duration."""
    return length.seconds + length.nanos / 1e9


_EXECUTION_STATES = {
    v.name.removeprefix("EXECUTION_STATE_"): v.number for v in execution_pb2.ExecutionState.DESCRIPTOR.values
}
_TASK_STATES = {v.name.removeprefix("TASK_STATE_"): v.number for v in execution_pb2.TaskState.DESCRIPTOR.values}
_ACTION_STATES = {v.name.removeprefix("ACTION_STATE_"): v.number for v in execution_pb2.ActionState.DESCRIPTOR.values}
_LANGUAGES = {v.name.removeprefix("LANGUAGE_").lower(): v.number for v in definition_pb2.Language.DESCRIPTOR.values}


def execution_state(name: str) -> execution_pb2.ExecutionState.ValueType:
    """Return the number of a state's name, such as RUNNING. KeyError for a name that the contract does not have."""
    return execution_pb2.ExecutionState.ValueType(_EXECUTION_STATES[name])


def task_state(name: str) -> execution_pb2.TaskState.ValueType:
    """Return the number of a state's name. KeyError for a name that the contract does not have."""
    return execution_pb2.TaskState.ValueType(_TASK_STATES[name])


def action_state(name: str) -> execution_pb2.ActionState.ValueType:
    """Return the number of a state's name. KeyError for a name that the contract does not have."""
    return execution_pb2.ActionState.ValueType(_ACTION_STATES[name])


def language(name: str) -> definition_pb2.Language.ValueType:
    """Return the number of a language's name in lower case; unspecified for one that the contract does not have."""
    return definition_pb2.Language.ValueType(_LANGUAGES.get(name, 0))


def language_name(number: definition_pb2.Language.ValueType) -> str:
    """Return the name in lower case; empty for unspecified."""
    return {value: name for name, value in _LANGUAGES.items() if value}.get(number, "")


def missing_workflow(name: str, version: int = 0, namespace: str = "") -> NotFound:
    """Return the refusal for a workflow, or a version of it, that does not exist in this namespace.

    >>> str(missing_workflow("nightly", 3, "shop"))
    "workflow 'nightly version 3' does not exist in the namespace 'shop'"
    """
    return missing_definition("workflow", name, version, namespace)


def missing_definition(kind: DefinitionKind, name: str, version: int = 0, namespace: str = "") -> NotFound:
    """Return the refusal for a workflow or an action (the kinds in the store), or a version of it."""
    shown, called = f"{name} version {version}" if version else name, called_kind(kind)
    return NotFound(called, shown, f"{called} {shown!r} does not exist in {_shown_namespace(namespace)}")


def called_kind(kind: DefinitionKind) -> ResourceKind:
    """Return the name of a kind of definitions for people: `ad-hoc action` for the store's `action`."""
    return "ad-hoc action" if kind == "action" else kind


def _shown_namespace(namespace: str) -> str:
    return f"the namespace {namespace!r}" if namespace else "the default namespace"


class Fields:
    """Checks the fields of one request and collects the violations; `done` refuses with all of them.

    >>> fields = Fields()
    >>> fields.name("workflow", "")
    ''
    >>> value = fields.json_object("input", "[]")
    >>> fields.done()
    Traceback (most recent call last):
    dalsegno.workflow.refusals.InvalidRequest: workflow: is missing; input: must be a JSON object, not a list
    """

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._too_large: TooLarge | None = None

    def refuse(self, field: str, description: str) -> None:
        """Add a violation."""
        self._violations.append(Violation(field, description))

    def done(self) -> None:
        """Raise InvalidRequest if there are violations, or TooLarge if only a value is too large."""
        if self._violations:
            raise InvalidRequest(self._violations)
        if self._too_large is not None:
            raise self._too_large

    def text(self, field: str, text: str, length_max: int = NAME_LENGTH) -> str:
        """Check a text: it may be empty, and has at most `length_max` characters."""
        if len(text) > length_max:
            self.refuse(field, f"has {len(text)} characters; at most {length_max} are allowed")
        return text

    def name(self, field: str, text: str) -> str:
        """Check a text: it is not empty."""
        if not text:
            self.refuse(field, "is missing")
        return self.text(field, text)

    def number(self, field: str, number: int) -> int:
        """Check a number: it is not negative."""
        if number < 0:
            self.refuse(field, "is negative")
        return number

    def uuid(self, field: str, text: str) -> str:
        """Check an id: it is a UUID in its usual text form."""
        if not text:
            self.refuse(field, "is missing")
            return text
        if not _UUID.fullmatch(text):
            self.refuse(field, f"{text[:64]!r} is not a UUID in the form 01890a5d-ac96-774b-bcce-b302099a8057")
        return text

    def numbered_id(self, field: str, text: str, numbers: int) -> tuple[str, tuple[int, ...]]:
        """Split an id: an execution's id and `numbers` numbers, such as `<execution>.17` or `<execution>.17.3.2`."""
        execution_id, *parts = text.split(".")
        if len(parts) != numbers or not all(map(_ID_NUMBER.fullmatch, parts)):
            shape = ".".join(["<execution>", "17", "3", "2"][: numbers + 1])
            self.refuse(field, f"{text[:64]!r} is not of the form {shape}" if text else "is missing")
            return execution_id, (0,) * numbers
        return self.uuid(field, execution_id), tuple(map(int, parts))

    def labels(self, field: str, labels: Mapping[str, str]) -> dict[str, str]:
        """Check labels: they are within the limits of the API."""
        if len(labels) > LABELS_MAX:
            self.refuse(field, f"has {len(labels)} entries; at most {LABELS_MAX} are allowed")
        for key, value in labels.items():
            if not _LABEL.fullmatch(key):
                self.refuse(f"{field}[{key[:64]!r}]", "the name must be 1 to 63 letters, digits and ._-/")
            self.text(f"{field}[{key[:64]!r}]", value)
        return dict(labels)

    def moment(self, field: str, moment: Timestamp) -> float:
        """Return a time between 1970 and 9999 as seconds since 1970."""
        at_s = seconds_of(moment)
        if not 0 <= at_s < _LATEST_S or not 0 <= moment.nanos < 1_000_000_000:
            self.refuse(field, "is not a time between 1970 and 9999")
        return at_s

    def length(self, field: str, length: Duration) -> float:
        """Return a duration, which is not negative, in seconds."""
        seconds = length_s(length)
        if seconds < 0:
            self.refuse(field, "is negative")
        return seconds

    def json(self, field: str, text: str, default: str = "null") -> Value:
        """Return a JSON value of at most 4,000,000 bytes; the default if the text is empty."""
        size = byte_length(text)
        if size > VALUE_BYTES_MAX:
            self._too_large = self._too_large or TooLarge(field, size, VALUE_BYTES_MAX)
            return Value(text=default)
        try:
            return checked(text or default)
        except UnfitValue as error:
            self.refuse(field, str(error))
            return Value(text=default)

    def json_object(self, field: str, text: str) -> Value:
        """Return a JSON object of at most 4,000,000 bytes; {} if the text is empty."""
        value = self.json(field, text, "{}")
        if not isinstance(value.data, dict):
            self.refuse(field, f"must be a JSON object, not {_kind(value.data)}")
        return value


def _kind(data: object) -> str:
    match data:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "a list"
