"""What is wrong with a definition, and what is worth a warning, a line for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dalsegno.cli.screen import console
from dalsegno.v1 import definition_pb2, failure_pb2
from dalsegno.v1 import workflow_service_pb2 as messages


def print_findings(file: Path, answer: messages.ValidateDefinitionsResponse, *, alone: bool) -> None:
    """The problems and the warnings of a file, and one line that sums them up."""
    for problem in answer.problems:
        console().tell(_line(file, problem))
    for warning in answer.warnings:
        console().tell(_line(file, warning, "warning"))
    names = ", ".join([*answer.workflows, *answer.actions]) or _nameless(answer)
    told = _counted(len(answer.problems) + answer.further_problems, "problem")
    if answer.warnings:
        told += f", {_counted(len(answer.warnings), 'warning')}"
    console().tell(f"{told}: {names}" if alone else f"{file}: {told}: {names}")


def print_warnings(warnings: Iterable[failure_pb2.Problem], file: Path | None = None) -> None:
    """The warnings of a file that was stored: to standard error, beside what the command gives."""
    for warning in warnings:
        console(error=True).tell(_line(file, warning, "warning"))


def _line(file: Path | None, problem: failure_pb2.Problem, kind: str = "") -> str:
    """`file:line:column: kind: path: message (hint)`, as editors read it."""
    place = ":".join(str(number) for number in (problem.line, problem.column) if number)
    hint = f" ({problem.hint})" if problem.hint else ""
    told = ": ".join(part for part in (place, kind, problem.path, problem.message + hint) if part)
    return told if file is None else f"{file}:{told}"


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _nameless(answer: messages.ValidateDefinitionsResponse) -> str:
    if answer.language != definition_pb2.LANGUAGE_ORQUESTA:
        return "nothing"
    return "a workflow without a name (to store it, give one with --name)"
