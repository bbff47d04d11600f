"""The small mistakes that could be made in a source file: each is a `Mutant`, which knows its place and its text.

A condition is negated, a comparison or `and`/`or` is swapped, a statement of a function is dropped, or a boolean is
flipped. Left out is what says nothing about behaviour: annotations, docstrings, assertions, `if TYPE_CHECKING`, and the
inside of f-strings, of which Python 3.11 does not know the places.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
DROPPED = (ast.Assign, ast.AugAssign, ast.Break, ast.Continue, ast.Delete, ast.Expr, ast.Raise, ast.Return)
SAME_AS_SWAPPED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
DECLARED = ("frozen", "kw_only", "slots")
"""What a class declares against mistakes of programmers: no behaviour depends on it."""
SHOWN_LENGTH = 100
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one file: the bytes from `start` to `end` become `after`."""

    path: str
    """Relative to the root of the checkout."""
    line: int
    last_line: int
    start: int
    end: int
    kind: str
    before: str
    after: str
    in_function: bool
    """Whether the place is run when a function is called, and not only when the module is imported."""
    nth: int = 0
    """How many mutants before it in the file are equal but for their place."""

    def apply(self, source: bytes) -> bytes:
        """The text of the file with this mistake in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def key(self) -> str:
        """A name that stays when other lines of the file change."""
        text = "\0".join((self.path, self.kind, self.before, self.after, str(self.nth)))
        return hashlib.sha256(text.encode()).hexdigest()

    def describe(self) -> str:
        """One line: where it is and what was changed."""
        change = f"`{_shorten(self.before)}`"
        if self.kind != "statement dropped":
            change += f" became `{_shorten(self.after)}`"
        return f"{self.path}:{self.line}: {self.kind}: {change}"


def find_mutants(root: Path, place: Path) -> list[Mutant]:
    """Every mutant of a source file, or of all that lie below a folder, in order."""
    return sorted(
        mutant
        for path in ([place] if place.is_file() else place.rglob("*.py"))
        for mutant in _Finder(path.relative_to(root).as_posix(), path.read_bytes()).find()
    )


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._last_returns: list[ast.stmt] = []
        """Each `return None` at the end of a function: without it the function does the same."""
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))

    def find(self) -> Iterator[Mutant]:
        seen: Counter[tuple[str, str, str]] = Counter()
        for mutant in sorted(self._walk(ast.parse(self._source), in_function=False)):
            alike = (mutant.kind, mutant.before, mutant.after)
            yield replace(mutant, nth=seen[alike])
            seen[alike] += 1

    def _walk(self, node: ast.AST, *, in_function: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.Assert | ast.JoinedStr) or _checks_types(node) or _is_declaration(node):
            return
        if isinstance(node, Function) and _returns_none(node.body[-1]):
            self._last_returns.append(node.body[-1])
        yield from self._mutate(node, in_function)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            # Defaults and decorators are run where the function is defined.
            inside = in_function or (isinstance(node, Function | ast.Lambda) and name == "body")
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._walk(child, in_function=inside)

    def _mutate(self, node: ast.AST, in_function: bool) -> Iterator[Mutant]:
        for condition in _conditions(node):
            if not (isinstance(condition, ast.Compare) and isinstance(condition.ops[0], SAME_AS_SWAPPED)):
                negated = f"(not ({self._text(condition)}))"
                yield self._mutant(condition, "condition negated", negated, in_function)
        if isinstance(node, ast.Compare):
            for place, operator in enumerate(node.ops):
                yield self._mutant(node, "comparison swapped", _swap(node, place, operator), in_function)
        elif isinstance(node, ast.BoolOp):
            other = ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            yield self._mutant(node, "and/or swapped", f"({ast.unparse(other)})", in_function)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield self._mutant(node, "boolean flipped", str(not node.value), in_function)
        elif in_function and isinstance(node, DROPPED) and not (_is_text(node) or node in self._last_returns):
            yield self._mutant(node, "statement dropped", "pass", in_function)

    def _mutant(self, node: ast.expr | ast.stmt, kind: str, after: str, in_function: bool) -> Mutant:
        start, end = self._place(node)
        return Mutant(
            self._path,
            node.lineno,
            node.end_lineno or node.lineno,
            start,
            end,
            kind,
            self._text(node),
            after,
            in_function,
        )

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._place(node)
        return self._source[start:end].decode()

    def _place(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        start = self._line_starts[node.lineno - 1] + node.col_offset
        return start, self._line_starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)


def _conditions(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    return [node.guard] if isinstance(node, ast.match_case) and node.guard is not None else []


def _swap(node: ast.Compare, place: int, operator: ast.cmpop) -> str:
    operators = [*node.ops[:place], SWAPPED[type(operator)](), *node.ops[place + 1 :]]
    return f"({ast.unparse(ast.Compare(node.left, operators, node.comparators))})"


def _is_declaration(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg in DECLARED


def _returns_none(node: ast.stmt) -> bool:
    return isinstance(node, ast.Return) and (node.value is None or ast.unparse(node.value) == "None")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _checks_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_LENGTH else f"{line[:SHOWN_LENGTH]}..."
