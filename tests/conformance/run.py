"""Runs recorded cases outside of pytest too: `python -m tests.conformance.run`, from the root of the checkout.

Prints each failing case with what was expected and what came, then the closing line
`mistral cases: A agree, D listed differences, F fail`, and so for each kind. The exit code is 0 when none fails.
Names of kinds as arguments (`mistral-cases orquesta-cases orquesta-operations`) run only those.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance import cases, mistral, mistral_operations, orquesta, orquesta_operations

DEFINITIONS = Path(__file__).resolve().parents[2] / "services/dalsegno/definitions"
DIFFERENCES_MAX = 0.03
"""At most this part of the cases may be listed differences."""


@dataclass
class Tally:
    """What became of the cases of one kind."""

    subject: str
    agree: int = 0
    differ: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def closing_line(self) -> str:
        """The line that everybody looks for."""
        fail = len(self.failures)
        return f"{self.subject}: {self.agree} agree, {self.differ} listed differences, {fail} fail"

    @property
    def count(self) -> int:
        """How many cases there were."""
        return self.agree + self.differ + len(self.failures)


def listed(language: str) -> set[str]:
    """The case ids that the language's README names as differences."""
    text = (DEFINITIONS / language / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([^`\n]+)`", text.partition("## Differences")[2]))


def tally(
    subject: str,
    recorded: Iterable[dict[str, Any]],
    known: set[str],
    differences: Callable[[dict[str, Any]], list[str]],
) -> Tally:
    """Put every case through; one that raises has failed too."""
    found = Tally(subject)
    for case in recorded:
        try:
            told = differences(case)
        except Exception as error:
            told = [f"{type(error).__name__}: {error}"]
        if not told:
            found.agree += 1
        elif case["id"] in known:
            found.differ += 1
        else:
            found.failures.append(f"{case['id']}: " + "\n    ".join(told))
    return found


def mistral_cases() -> Tally:
    """Mistral's cases through the front-end and the core."""
    return tally("mistral cases", cases.load("mistral/cases.jsonl"), listed("mistral"), mistral.differences)


def mistral_operations_cases() -> Tally:
    """Mistral's operations, step by step through the core."""
    recorded = cases.load("mistral/operations.jsonl")
    return tally("mistral operations", recorded, listed("mistral"), mistral_operations.differences)


def orquesta_cases() -> Tally:
    """Orquesta's cases through the front-end and the core."""
    return tally("orquesta cases", cases.load("orquesta/cases.jsonl"), listed("orquesta"), orquesta.differences)


def orquesta_operations_cases() -> Tally:
    """Orquesta's operations, step by step through the core."""
    recorded = cases.load("orquesta/operations.jsonl")
    return tally("orquesta operations", recorded, listed("orquesta"), orquesta_operations.differences)


KINDS: dict[str, Callable[[], Tally]] = {
    "mistral-cases": mistral_cases,
    "mistral-operations": mistral_operations_cases,
    "orquesta-cases": orquesta_cases,
    "orquesta-operations": orquesta_operations_cases,
}


def main(arguments: Sequence[str] = ()) -> int:
    """Run what there is, or the kinds that are named."""
    if not cases.folder().exists():
        print(f"no cases in {cases.folder()}: name their folder in DALSEGNO_CONFORMANCE", file=sys.stderr)
        return 2
    failed = 0
    for name in arguments or KINDS:
        found = KINDS[name]()
        failed += len(found.failures)
        print(*found.failures, found.closing_line, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
