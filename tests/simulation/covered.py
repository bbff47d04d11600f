"""Which lines of the engine the simulation reaches, counted by the package `coverage`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import coverage

import dalsegno.engine


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
        """Yield the share of lines that were reached, in sum and for each file."""
        reached = count = 0
        lines = []
        for path in sorted(self._room.rglob("*.py")):
            _, statements, _, missing, shown = self._coverage.analysis2(str(path))
            inside = _inside_functions(path, statements)
            missed = [each for each in missing if each in inside]
            reached += len(inside) - len(missed)
            count += len(inside)
            if inside:
                name = path.relative_to(self._room)
                lines.append(f"    {name}: {len(inside) - len(missed)} of {len(inside)}: {shown}")
        yield f"  {reached} of {count} lines in functions of the engine ({100 * reached / count:.1f} %)"
        yield from lines


def _inside_functions(path: Path, statements: list[int]) -> set[int]:
    """Return the lines within functions: the others ran when the module was imported."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    return found.intersection(statements)
