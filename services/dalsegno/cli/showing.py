"""`dalsegno show`: print the state of an execution, the reason, what it waits for, its values; then the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.text import Text

from dalsegno.cli.advice import advise
from dalsegno.cli.clean import one_line
from dalsegno.cli.execution_view import execution_state, origin_words, place_of, task_state
from dalsegno.cli.output import STYLES, causes, is_block, print_note, reason
from dalsegno.cli.reads import ENDED, OPEN_READ, ExecutionStatus
from dalsegno.cli.screen import Screen, console
from dalsegno.cli.times import clock, due, span
from dalsegno.cli.values import enum_name, plain, pretty
from dalsegno.cli.waits import attempt_name
from dalsegno.v1 import definition_pb2, execution_pb2

_LABEL = 10
_FAILED_SHOWN = 10
_FORKS_SHOWN = 5
_REASON_WIDTH = 2_000
_LINES_MAX = 200
_LINE_CHARACTERS = 100
"""A value is cut after _LINES_MAX lines, or after as many characters as that many usual lines have."""


def print_status(status: ExecutionStatus, server: str) -> None:
    """Print an execution for people, and the next step."""
    out = console()
    execution = status.execution
    state = execution_state(execution.state)
    style = STYLES.get(state, "")
    out.print_line(Text.assemble((one_line(execution.workflow), "bold"), "  ", (state, style), "  ", execution.id))
    for name, text in _facts(status):
        _print_fact(out, name, text)
    _print_failed(out, status)
    print_waits(out, status)
    for name in ("input", "output", "errors", "params"):
        _print_value(out, execution, name)
    for name, text in _origin(execution):
        _print_fact(out, name, text)
    for line in advise(status, server):
        print_note(line)


def _print_failed(out: Screen, status: ExecutionStatus) -> None:
    """Print the failed tasks of an execution that has not ended, a line for each cause."""
    for task in status.failed[:_FAILED_SHOWN]:
        first, *more = causes(task.state_info) or [reason(task.state_info, _REASON_WIDTH)]
        _print_fact(out, "failed", "\n".join([f"{one_line(task.name)}: {first}", *more]))
    if len(status.failed) > _FAILED_SHOWN:
        rest = f"dalsegno tasks {status.execution.id} --filter state=ERROR"
        _print_fact(out, "failed", f"… and {len(status.failed) - _FAILED_SHOWN} more: {rest}")


def print_waits(out: Screen, status: ExecutionStatus) -> None:
    """Print what its open tasks wait for, a line for each, with the questions of inquiries."""
    waits = status.waits()
    for task, waiting in waits:
        number = attempt_name(task.name, *numbers_of(waiting.delegate)) if waiting.delegate else one_line(task.name)
        _print_fact(out, "open", f"{number}: {waiting}")
    if len(status.tasks) == OPEN_READ:
        _print_fact(out, "", f"… of the first {OPEN_READ} open tasks")


def numbers_of(action_id: str) -> tuple[int, int, int]:
    """Return the numbers of task, item and attempt at the end of the id of an action execution."""
    task, item, attempt = (action_id.split(".")[1:] + ["0"] * 3)[:3]
    return int(task), int(item), int(attempt)


def _facts(status: ExecutionStatus) -> Iterator[tuple[str, str]]:
    execution = status.execution
    is_told_below = bool(status.failed) and execution.state_info.startswith("Failure caused by")
    yield "reason", "" if is_told_below else execution.state_info
    yield "goes on", due(execution.next_at)
    yield "place", place_of(execution, execution.state_info)
    yield "back to", f"checkpoint {one_line(execution.reverting_to.name)}" if execution.HasField("reverting_to") else ""
    yield (
        "stops at",
        "" if execution.HasField("paused_at") or execution.state in ENDED else " or ".join(execution.stop_at),
    )
    yield "tasks", ", ".join(f"{each.count} {task_state(each.state)}" for each in execution.task_counts)
    by = f" by {one_line(execution.actor)}" if execution.actor else ""
    comment = f": {one_line(execution.comment)}" if execution.comment else ""
    begun = execution.started_at if execution.HasField("started_at") else execution.created_at
    yield "started", f"{clock(begun)}{by}{comment}"
    took = span(execution.started_at, execution.ended_at)
    yield "ended", f"{clock(execution.ended_at)} after {took}" if took else clock(execution.ended_at)
    yield "deadline", due(execution.deadline)
    yield "for", execution.description


def _origin(execution: execution_pb2.Execution) -> Iterator[tuple[str, str]]:
    yield "labels", " ".join(f"{name}={one_line(value)}" for name, value in sorted(execution.labels.items()))
    yield "env", one_line(execution.environment)
    parent = f"{execution.parent_execution_id}, task {execution.parent_task_number}"
    yield "parent", parent if execution.parent_execution_id else ""
    yield (
        "root",
        execution.root_id if execution.root_id not in ("", execution.id, execution.parent_execution_id) else "",
    )
    yield "forked", f"from {origin_words(execution.forked_from)}" if execution.HasField("forked_from") else ""
    more = f", and {execution.further_forks + len(execution.forks[_FORKS_SHOWN:])} more"
    is_cut = execution.further_forks or len(execution.forks) > _FORKS_SHOWN
    yield "forks", ", ".join(execution.forks[:_FORKS_SHOWN]) + (more if is_cut else "")
    yield "history", _history(execution)
    yield "namespace", one_line(execution.namespace)
    language = enum_name(definition_pb2.Language.Name(execution.language), "Language").capitalize()
    version = f"version {execution.workflow_version}, " if execution.workflow_version else ""
    yield "workflow", f"{version}{language}, definition {execution.definition_id}" if execution.definition_id else ""
    yield "revision", str(execution.revision or "")


def _history(execution: execution_pb2.Execution) -> str:
    """Return where its history begins, if a part of it is gone. That of a fork begins at the entry where it was forked,
    or with its creation, one before."""
    begins = execution.forked_from.sequence if execution.HasField("forked_from") else 1
    first = execution.first_sequence
    return f"from change {first} on; what was before is discarded" if first > begins else ""


def _print_fact(out: Screen, name: str, text: str) -> None:
    if not text:
        return
    first, *rest = text.splitlines()
    out.print_line(Text.assemble((f"{name:{_LABEL}}", "bold"), one_line(first)), indent=_LABEL)
    for line in rest:
        out.print_block(line.strip(), indent=_LABEL + 2)


def _print_value(out: Screen, execution: execution_pb2.Execution, name: str) -> None:
    if name in execution.left_out:
        _print_fact(out, name, f"too large to be shown beside the others: {_command_for(execution, name)}")
    if getattr(execution, name) in ("", "{}"):
        return
    value = plain(execution)[name]
    if not is_block(value):
        _print_fact(out, name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        return
    out.print_line(Text(name, style="bold"))
    print_capped(out, pretty(value), _LINES_MAX, _command_for(execution, name))


def _command_for(execution: execution_pb2.Execution, name: str) -> str:
    return f"dalsegno output {execution.id}" if name == "output" else f"dalsegno show {execution.id} -k {name}"


def print_capped(out: Screen, text: str, most: int, rest: str) -> None:
    """Print at most `most` lines of a text, and the characters of as many usual lines; then how much is left, and the
    command that prints all of it."""
    lines = text.splitlines()
    shown = "\n".join(lines[:most])
    characters = most * _LINE_CHARACTERS
    out.print_block(shown[:characters])
    if len(shown) > characters:
        out.print_line(Text(f"  … {len(text) - characters:,} more characters: {rest}", style="dim"))
    elif len(lines) > most:
        out.print_line(Text(f"  … {len(lines) - most:,} more lines: {rest}", style="dim"))
