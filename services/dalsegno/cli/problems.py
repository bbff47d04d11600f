"""Print the problems and warnings of definitions, a line for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dalsegno.cli.screen import console
from dalsegno.v1 import definition_pb2, failure_pb2
from dalsegno.v1 import workflow_service_pb2 as messages

_NAMED = 10
"""The number of names that a summary lists at most."""


def print_findings(answer: messages.ValidateDefinitionsResponse, files: Sequence[str]) -> None:
    """Print the problems and the warnings of files, and a summary."""
    for problem in answer.problems:
        console().print_line(line_of(problem))
    print_warnings(answer.warnings, answer.further_warnings, error=False)
    names = [*answer.workflows, *answer.actions]
    told = _counted(len(answer.problems) + answer.further_problems, "problem")
    if answer.warnings:
        told += f", {_counted(len(answer.warnings) + answer.further_warnings, 'warning')}"
    more = max(0, len(names) - _NAMED) + answer.further_names
    named = ", ".join(names[:_NAMED]) + (f" and {more} more" if more else "")
    summary = f"{told}: {named or _nameless(answer)}"
    console().print_line(summary if len(files) == 1 else f"{len(files)} files: {summary}")


def print_warnings(warnings: Iterable[failure_pb2.Problem], further: int = 0, *, error: bool = True) -> None:
    """Print warnings; to standard error if the command also prints a result."""
    for warning in warnings:
        console(error=error).print_line(line_of(warning, "warning"))
    if further:
        console(error=error).print_line(f"and {_counted(further, 'further warning')}")


def line_of(problem: failure_pb2.Problem, kind: str = "") -> str:
    """Return `file:line:column: kind: path: message (hint)`, which editors can open."""
    place = ":".join(str(number) for number in (problem.file, problem.line, problem.column) if number)
    hint = f" ({problem.hint})" if problem.hint else ""
    return ": ".join(part for part in (place, kind, problem.path, problem.message + hint) if part)


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _nameless(answer: messages.ValidateDefinitionsResponse) -> str:
    if answer.language != definition_pb2.LANGUAGE_ORQUESTA:
        return "nothing"
    return "a workflow without a name (to store it, give one with --name)"
