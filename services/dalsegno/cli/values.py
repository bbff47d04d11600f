"""Messages as plain values, and plain values as text: JSON and YAML for programs, readable YAML for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.clean import escape, is_plain, visible
from dalsegno.cli.exits import CommandError
from dalsegno.cli.printing import Format
from dalsegno.cli.times import moment

# The API carries values as JSON text; here they are shown as values.
_JSON_TEXT_FIELDS = {
    *("Execution.input", "Execution.output", "Execution.params", "TaskExecution.result", "TaskExecution.published"),
    *("ActionExecution.input", "ActionExecution.result", "Environment.variables", "Parameter.default"),
    *("ExecutionCreated.input", "ExecutionMoved.output", "AttemptAdded.input", "AttemptMoved.result"),
    *("Published.values", "OtherChange.detail", "Execution.errors", "ContextEdited.set"),
    *("CheckpointEntry.data", "CheckpointReached.data", "DryRunTask.input"),
}


def plain(message: Message) -> dict[str, object]:
    """Return a message as plain values: JSON texts decoded, enums without their prefix, times in ISO 8601."""
    values: dict[str, object] = {}
    for field, value in message.ListFields():
        if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
            values[field.name] = dict(value)
        elif field.is_repeated:
            values[field.name] = [_plain_value(field, each) for each in value]
        else:
            values[field.name] = _plain_value(field, value)
    return values


def _plain_value(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, Timestamp):
        return moment(value)
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None and isinstance(value, int):
        named = field.enum_type.values_by_number.get(value)  # None: from a newer server
        return enum_name(named.name, field.enum_type.name) if named is not None else value
    assert field.containing_type is not None
    if f"{field.containing_type.name}.{field.name}" in _JSON_TEXT_FIELDS and isinstance(value, str) and value:
        return json.loads(value)
    return value


def enum_name(name: str, enum: str) -> str:
    """Return the name of an enum's value without the prefix.

    >>> enum_name("TASK_STATE_RUNNING_DELAYED", "TaskState")
    'RUNNING_DELAYED'
    """
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum).lstrip("_") + "_"
    return name.removeprefix(prefix)


def document(form: Format, data: object) -> str:
    """Return data as a JSON or YAML document for programs, without characters that control a terminal."""
    if form is Format.YAML:
        dumped = yaml.dump(data, Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=120)
        return escape(str(dumped))
    return escape(json.dumps(data, ensure_ascii=False, indent=2)) + "\n"


def pretty(value: object) -> str:
    """Return a value as readable YAML: in its order, texts of many lines unchanged."""
    if isinstance(value, str):
        return visible(value) if value else '""'
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    dumped = yaml.dump(value, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=1_000_000)
    return str(dumped).rstrip("\n")


def raw(value: object) -> str:
    """Return a value without formatting: a text without quotes, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) else None)


class _Quoting(yaml.SafeDumper):
    """Writes texts that need escapes in quotes."""


_PLAIN = re.compile(r"\w.*\S|\w")
"""A text of one line that is readable without quotes, although YAML requires them for a colon in it."""


class _Readable(yaml.SafeDumper):
    """Writes texts of many lines unchanged, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def analyze_scalar(self, scalar: str) -> yaml.emitter.ScalarAnalysis:
        analysis = super().analyze_scalar(scalar)
        # YAML quotes what it could not parse again, such as a space before a line break; people can read it without.
        analysis.allow_block = "\n" in scalar
        analysis.allow_block_plain = analysis.allow_block_plain or _PLAIN.fullmatch(scalar) is not None
        return analysis


def _quoting(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain(text) else '"')


def _readable(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    shown = visible(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", shown, style="|" if "\n" in shown else None)


_Quoting.add_representer(str, _quoting)
_Readable.add_representer(str, _readable)


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


def steps_of(path: str) -> list[str | int]:
    """Return the steps of a path such as `output.cities[0].name`. Raises CommandError.

    >>> steps_of("output.cities[0].name")
    ['output', 'cities', 0, 'name']
    """
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None or (not steps and path.startswith(".")):
            raise CommandError(f"-k {path}: not a path", "write for instance: -k output.cities[0].name")
        steps.append(found[1] if found[1] is not None else int(found[2]))
        position = found.end()
    return steps


def pick(value: object, path: str) -> object:
    """Return the part of a value at this path. Raises CommandError, with the existing keys, if there is none."""
    for step in steps_of(path):
        match value, step:
            case Mapping(), _ if str(step) in value:
                value = value[str(step)]
            case list(), _ if _index_of(step) is not None and -len(value) <= int(step) < len(value):
                value = value[int(step)]
            case _:
                raise CommandError(f"-k {path}: there is no {step}", _there_is(value))
    return value


def _index_of(step: str | int) -> int | None:
    return int(step) if isinstance(step, int) or step.removeprefix("-").isdigit() else None


def _there_is(value: object) -> str:
    if isinstance(value, Mapping) and value:
        return f"there is: {_some(map(str, value))}"
    return f"there is a list of {len(value)}" if isinstance(value, list) else "there is nothing below it"


def _some(names: Iterable[str], most: int = 20) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f", … ({len(listed)})" if len(listed) > most else "")
