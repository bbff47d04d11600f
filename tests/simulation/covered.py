"""Which lines of the engine the simulation reaches, counted by the package `coverage`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import coverage

import dalsegno.engine

APART = {
    "__main__.py": "the entry of the process",
    "settings.py": "arguments and environment variables",
    "processes.py": "asks the system for processes",
    "batches/step_note.py": "a file that outlives the process; Note (engine_life.py) stands in its place",
    "batches/compiling.py": "processes that compile; SharedCompiling (documents.py) stands in its place",
    "batches/conductor.py _run": "the thread of the conductor, whose batches EngineLife begins",
    "pulse.py start": "the thread of the signs of life, which EngineLife writes",
    "pulse.py stop": "the thread of the signs of life",
    "pulse.py _run": "the thread of the signs of life",
    "notifier.py _open_session": "connections; Receivers (receivers.py) stand in their place",
    "service.py port": "the port of the server; Link (links.py) stands in its place",
}
"""The files, and the functions, that the simulation cannot reach, and why."""


class Covered:
    """Counts lines while it is open."""

    def __init__(self) -> None:
        self._room = Path(next(iter(dalsegno.engine.__path__)))
        self._coverage = coverage.Coverage(data_file=None, include=[f"{self._room}/*"], config_file=False)
        self._coverage.exclude(r"^\s+\.\.\.$|if TYPE_CHECKING:|@abstractmethod")

    def __enter__(self) -> Covered:
        self._coverage.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._coverage.stop()

    def told(self) -> Iterator[str]:
        """Yield the share of lines that were reached, in sum and for each file, and the lines that cannot be."""
        reached = count = 0
        lines, apart = [], []
        for path in sorted(self._room.rglob("*.py")):
            name = str(path.relative_to(self._room))
            _, statements, _, missing, _ = self._coverage.analysis2(str(path))
            functions = functions_of(path)
            out = {place: functions[place.partition(" ")[2]] for place in APART if place.partition(" ")[0] == name}
            apart += [
                f"    {place}, {len(found & {*statements})} lines: {APART[place]}" for place, found in out.items()
            ]
            inside = functions[""].intersection(statements).difference(*out.values())
            missed = inside.intersection(missing)
            reached += len(inside) - len(missed)
            count += len(inside)
            if inside:
                shown = ", ".join(map(str, sorted(missed)))
                lines.append(f"    {name}: {len(inside) - len(missed)} of {len(inside)}{': not ' * bool(shown)}{shown}")
        yield f"  {reached} of {count} lines in functions of the engine ({100 * reached / count:.1f} %)"
        yield from lines
        yield "  not among them, because a simulation cannot reach them:"
        yield from apart


def functions_of(path: Path) -> dict[str, set[int]]:
    """Return the lines within functions by their names, and of all of them: the other lines run at the import."""
    found: dict[str, set[int]] = {"": set()}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
            for name in ("", node.name):
                found.setdefault(name, set()).update(lines)
    return found
