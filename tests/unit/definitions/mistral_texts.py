"""Short ways to write definitions in tests."""

from __future__ import annotations

import textwrap

from dalsegno.definitions.document import Document, read
from dalsegno.workflow.model import Task, Workflow


def read_tasks(tasks: str, **parts: str) -> Document:
    """The document of one workflow `wf` with these tasks and further parts; begins in line 1, the tasks in line 4."""
    text = "version: '2.0'\nwf:\n  tasks:\n" + textwrap.indent(textwrap.dedent(tasks).strip("\n"), "    ") + "\n"
    for key, value in parts.items():
        lines = textwrap.dedent(value).strip("\n")
        text += f"  {key.replace('_', '-')}:\n{textwrap.indent(lines, '    ')}\n"
    return read(text)


def compile_tasks(tasks: str, **parts: str) -> Workflow:
    """The compiled workflow of these tasks, which have no problems."""
    document = read_tasks(tasks, **parts)
    assert document.problems == ()
    workflow = document.members[0].workflow
    assert workflow is not None
    return workflow


def compile_task(body: str) -> Task:
    """The compiled task `t` with this body; `a` and `b` are tasks beside it."""
    tasks = (
        "t:\n"
        + textwrap.indent(textwrap.dedent(body).strip("\n"), "  ")
        + "\na: {action: std.noop}\nb: {action: std.noop}"
    )
    return compile_tasks(tasks).tasks["t"]


def find_problems(tasks: str, **parts: str) -> list[tuple[str, int, str]]:
    """Path, line and message of every problem."""
    return [(problem.path, problem.line, problem.message) for problem in read_tasks(tasks, **parts).problems]
