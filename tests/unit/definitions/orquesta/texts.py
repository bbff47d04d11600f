"""Short ways to write Orquesta definitions in tests."""

from __future__ import annotations

import textwrap

from dalsegno.definitions.document import read
from dalsegno.definitions.problems import Problem


def find_problems(tasks: str, **parts: str) -> tuple[Problem, ...]:
    """The problems of a workflow of these tasks, which begin in line 3, and of further parts behind them."""
    text = "version: 1.0\ntasks:\n" + textwrap.indent(textwrap.dedent(tasks).strip("\n"), "  ") + "\n"
    for key, value in parts.items():
        text += f"{key}: {value}\n"
    return read(text).problems


def find_places(tasks: str, **parts: str) -> list[tuple[str, str]]:
    """Category and path of each problem."""
    return [(problem.category, problem.path) for problem in find_problems(tasks, **parts)]


def find_task_problems(body: str) -> tuple[Problem, ...]:
    """The problems of a task `t` with this body, `a` and `b` being tasks beside it and `x` an input."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "  ")
    return find_problems(f"t:\n{lines}\na: {{action: core.noop}}\nb: {{action: core.noop}}", input="[x]")
