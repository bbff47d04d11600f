"""The report of a run: as text of at most 80 columns, and as JUnit XML."""

from __future__ import annotations

import textwrap
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.player import Played, Verdict

COLUMNS = 80
_NAME_COLUMNS = 42
_LABEL_COLUMNS = 14


def tell_check(played: Played) -> str:
    """Return the lines of one check: what was expected, what came and the rule if it failed."""
    line = f"{played.check.name:{_NAME_COLUMNS}}{played.verdict.value:8}{played.seconds:6.1f} s"
    match played.verdict:
        case Verdict.FAILED:
            parts = (("expected", played.expected), ("came", played.came), ("rule", played.check.rule))
            return "\n".join([line, *(_fold(name, text) for name, text in parts)])
        case Verdict.SKIPPED:
            return "\n".join([line, _fold("because", played.came)])
    return line


def tell_list(checks: Iterable[Check]) -> str:
    """Return the names of checks, and their rules."""
    return "\n".join(f"{check.name}\n{_fold('', check.rule, 4)}" for check in checks)


def tell_end(all_played: Sequence[Played]) -> str:
    """Return the last line: the counts."""
    counts = Counter(played.verdict for played in all_played)
    parts = [f"{counts[verdict]} {verdict.value.lower()}" for verdict in Verdict]
    return f"{len(all_played)} checks: {', '.join(parts)}"


def _fold(name: str, text: str, columns: int = _LABEL_COLUMNS) -> str:
    first = f"    {name}".ljust(columns)
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return textwrap.fill(clean, COLUMNS, initial_indent=first, subsequent_indent=" " * columns)


def write_junit(all_played: Sequence[Played], path: Path) -> None:
    """Write JUnit XML, as test runners and CI read it."""
    counts = Counter(played.verdict for played in all_played)
    suite = ElementTree.Element(
        "testsuite",
        name="executor-check",
        tests=str(len(all_played)),
        failures=str(counts[Verdict.FAILED]),
        errors="0",
        skipped=str(counts[Verdict.SKIPPED]),
        time=f"{sum(played.seconds for played in all_played):.3f}",
    )
    for played in all_played:
        case = ElementTree.SubElement(
            suite, "testcase", classname="executor-check", name=played.check.name, time=f"{played.seconds:.3f}"
        )
        if played.verdict is Verdict.FAILED:
            failure = ElementTree.SubElement(case, "failure", message=_printable(f"expected {played.expected}"))
            failure.text = _printable(f"expected: {played.expected}\ncame: {played.came}\nrule: {played.check.rule}")
        elif played.verdict is Verdict.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=_printable(played.came))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """Return the text without what XML cannot hold."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)
