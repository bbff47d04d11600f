"""What commands print: tables for people, JSON and YAML for programs, errors in lines that say what to do next."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum

import grpc
import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalsegno.cli.exits import UNREACHABLE, USAGE, Complaint
from dalsegno.rpc.failure import Failure, read_failure


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


STYLES = {
    "SUCCESS": "green",
    "ERROR": "bold red",
    "CANCELLED": "yellow",
    "CANCELLING": "yellow",
    "PAUSED": "magenta",
    "PAUSING": "magenta",
    "RUNNING": "cyan",
    "RUNNING_DELAYED": "blue",
    "WAITING": "dim",
    "IDLE": "dim",
    "READY": "dim",
    "SKIPPED": "yellow",
}

# The contract carries values as JSON text; here they are shown as the values that they are.
_JSON_TEXT_FIELDS = {
    *("Execution.input", "Execution.output", "Execution.params", "TaskExecution.result", "TaskExecution.published"),
    *("ActionExecution.input", "ActionExecution.result", "Environment.variables", "Parameter.default"),
    *("ExecutionCreated.input", "ExecutionMoved.output", "AttemptAdded.input", "AttemptMoved.result"),
    *("Published.values", "OtherChange.detail", "Execution.errors", "ContextEdited.set"),
}
_WIDE_CELL = 60
_UNFOLDED_WIDTH = 1_000
_READ_COLUMNS = {"COMMENT", "INFO", "INPUT", "LABELS", "DETAIL", "DESCRIPTION", "WHAT IT SHOWS"}


def console(*, error: bool = False) -> Console:
    """The terminal, or the file or pipe in its place: there, nothing is folded to a width."""
    stream = sys.stderr if error else sys.stdout
    wide = None if stream.isatty() else _UNFOLDED_WIDTH
    return Console(file=stream, highlight=False, soft_wrap=wide is not None, width=wide, emoji=False)


def plain(message: Message) -> dict[str, object]:
    """A message as plain values: JSON texts decoded, enums without their prefix, times in ISO 8601."""
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
        return enum_name(field.enum_type.values_by_number[value].name, field.enum_type.name)
    assert field.containing_type is not None
    if f"{field.containing_type.name}.{field.name}" in _JSON_TEXT_FIELDS and isinstance(value, str):
        return json.loads(value)
    return value


def enum_name(name: str, enum: str) -> str:
    """A value of an enum without the prefix that the enum's name gives it.

    >>> enum_name("TASK_STATE_RUNNING_DELAYED", "TaskState")
    'RUNNING_DELAYED'
    """
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum).lstrip("_") + "_"
    return name.removeprefix(prefix)


def moment(time: Timestamp) -> str:
    """A time in ISO 8601, UTC, to the millisecond; empty for none."""
    if not time.ByteSize():
        return ""
    text = time.ToDatetime(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def clock(time: Timestamp) -> str:
    """A time as short as people read it: the hour in their time zone, with the date when it is another day's."""
    if not time.ByteSize():
        return ""
    local = time.ToDatetime(UTC).astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def span(start: Timestamp, end: Timestamp) -> str:
    """How long something took, to people; empty when it has not both begun and ended."""
    if not start.ByteSize() or not end.ByteSize():
        return ""
    return seconds((end.ToDatetime(UTC) - start.ToDatetime(UTC)).total_seconds())


def seconds(amount_s: float) -> str:
    """An amount of time, to people.

    >>> seconds(0.042), seconds(3.14159), seconds(125), seconds(7300)
    ('42 ms', '3.1 s', '2 min 05 s', '2 h 01 min')
    """
    if amount_s < 1:
        return f"{max(0, round(amount_s * 1000))} ms"
    if amount_s < 60:
        return f"{amount_s:.1f} s"
    minutes, rest_s = divmod(round(amount_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def state_text(state: str) -> Text:
    """The name of a state in its colour."""
    return Text(state, style=STYLES.get(state, ""))


def short(value: object, width: int = _WIDE_CELL) -> str:
    """A value on one line of at most `width` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def reason(info: str, width: int = _WIDE_CELL) -> str:
    """Why something is in its state, on one line: of a failure that others caused the one at the bottom.

    >>> reason("Failure caused by error in tasks: lift\\n  lift: no crane")
    'lift: no crane'
    """
    lines = info.splitlines()
    return short(lines[-1] if len(lines) > 1 and lines[0].startswith("Failure caused by") else info, width)


def pretty(value: object) -> str:
    """A value as people read it: YAML, in the order it has."""
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")


def print_rows(
    form: Format, messages: Iterable[Message], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """A list: a table of `rows` to people, the messages themselves to programs."""
    if form is not Format.TABLE:
        _print_data(form, [plain(message) for message in messages])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What somebody copies or compares stays in one piece; what somebody reads gives way.
        table.add_column(column, overflow="fold", no_wrap=column not in _READ_COLUMNS)
    count = 0
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in zip(columns, row, strict=True)))
        count += 1
    if count:
        console().print(table)
    else:
        console(error=True).print("none", style="dim")


def _cell(column: str, value: object) -> Text:
    text = "" if value is None else str(value)
    return state_text(text) if column == "STATE" else Text(text)


def print_message(form: Format, message: Message) -> None:
    """One thing with all its fields."""
    data = plain(message)
    if form is not Format.TABLE:
        _print_data(form, data)
        return
    out = console()
    width = max((len(name) for name in data), default=0)
    for name, value in data.items():
        label = Text(f"{name:{width}}  ", style="bold")
        if name == "text" or (isinstance(value, dict | list) and value and len(short(value, 10_000)) > _WIDE_CELL):
            block = value.rstrip() if isinstance(value, str) else pretty(value)
            out.print(
                label.append("\n").append("\n".join(f"  {line}" for line in block.splitlines()), style="not bold")
            )
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            out.print(label.append(shown, style=STYLES.get(shown, "not bold") if name == "state" else "not bold"))


def _print_data(form: Format, data: object) -> None:
    if form is Format.JSON:
        sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def print_note(text: str) -> None:
    """Something beside the result: to standard error, so that a pipe gets the result only."""
    console(error=True).print(Text(text, style="dim"))


def print_complaint(complaint: Complaint) -> int:
    """Say what is wrong and what to do next; return the exit code."""
    _print_error(str(complaint), complaint.advice)
    return complaint.exit_code


def print_failure(error: grpc.aio.AioRpcError, server: str) -> int:
    """Say what a server refused, a line for each thing that is wrong, and what to do next; return the exit code."""
    failure = read_failure(error)
    entries = [str(violation) for violation in failure.violations]
    if len(entries) > 1 and failure.message == "; ".join(entries):  # said once is enough
        failure = replace(failure, message=f"{len(entries)} things are wrong:")
    if failure.problems:
        failure = replace(failure, message=f"the definition has {_count(len(failure.problems) + failure.left_out)}:")
    _print_error(str(failure), _advise(failure).format(server=server))
    return UNREACHABLE if failure.code in _SERVERS_FAULT else USAGE


_SERVERS_FAULT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
}
_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: "start a server with `dalsegno serve`, or name another than {server} with --server",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server at {server} did not answer in time; ask again",
    grpc.StatusCode.ABORTED: "it has changed meanwhile; read it again, then decide",
    grpc.StatusCode.UNIMPLEMENTED: "the server at {server} does not have this; is it an older version?",
    grpc.StatusCode.FAILED_PRECONDITION: "see how it stands with `dalsegno show` and `dalsegno tasks`",
}
_LISTS = {
    "workflow": "dalsegno workflow list",
    "execution": "dalsegno list",
    "environment": "dalsegno environment list",
    "action": "dalsegno action list",
}


def _count(problems: int) -> str:
    return "a problem" if problems == 1 else f"{problems} problems"


def _advise(failure: Failure) -> str:
    """What a person would do next about a failed call; empty when the failure says it all."""
    match failure.code:
        case grpc.StatusCode.INTERNAL if failure.request_id:
            return f"the server's log tells more under request id {failure.request_id}"
        case grpc.StatusCode.NOT_FOUND if failure.message.startswith("action execution"):
            return "`dalsegno action attempts EXECUTION` tells which there are"
        case grpc.StatusCode.NOT_FOUND:
            kinds = [kind for kind in _LISTS if kind in failure.message]
            return f"see what there is with `{_LISTS[kinds[0]]}`" if kinds else ""
        case grpc.StatusCode.INVALID_ARGUMENT if any(each.subject.startswith("input") for each in failure.violations):
            return "give inputs with -i key=value; `dalsegno workflow show NAME` tells which there are"
        case grpc.StatusCode.INVALID_ARGUMENT if failure.problems:
            return "mend the file, then ask again; `dalsegno workflow validate FILE` lists all problems"
        case grpc.StatusCode.FAILED_PRECONDITION if failed := _failed_tasks(failure):
            again = " ".join(f"--task {name}" for name in failed[:_NAMED])
            return f"run them again with {again}, or go on after one with --skip {failed[0]} --output JSON"
        case grpc.StatusCode.FAILED_PRECONDITION if any(
            _is_resume_of_ended(each.description) for each in failure.violations
        ):
            return "`dalsegno tasks` shows what it did; `dalsegno rerun` repeats it, or --tasks of it"
        case code:
            return _ADVICE.get(code, "")


_NAMED = 5
"""So many tasks are written out in an advice."""


def _is_resume_of_ended(told: str) -> bool:
    """Whether it says that an execution has ended, so that there is nothing to continue."""
    return "can be resumed" in told and told.endswith(("it is SUCCESS", "it is ERROR", "it is CANCELLED"))


def _failed_tasks(failure: Failure) -> list[str]:
    """The tasks that stand in the way because they have failed."""
    return [each.subject.removeprefix("task ") for each in failure.violations if each.kind == "TASK_FAILED"]


def _print_error(message: str, advice: str) -> None:
    out = console(error=True)
    first, *rest = message.splitlines() or [""]
    out.print(Text.assemble(("error: ", "bold red"), first))
    for line in rest:
        out.print(Text(line))
    if advice:
        out.print(Text.assemble(("next:  ", "bold"), advice))
