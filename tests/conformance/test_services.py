"""Samples of the recorded cases through the real services: an executor of our own plays the results, and what is asked
and seen goes over the public api. (`python -m tests.conformance.run --services` puts all of them through.)
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conformance import run
from tests.conformance.recorded import Case

# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning"),
    pytest.mark.timeout(300),
]

SLOW = re.compile(r"wait-(before|after): ([3-9]|\d\d)|delay: ([3-9]|\d\d|<)|std\.sleep")
"""Words of what waits for much time to pass."""


def sample(kind: run.Kind, count: int) -> list[Case]:
    """Cases that agree and take no longer than their steps, evenly from all sources; scenarios in any case."""
    known = run.listed(kind.language)
    found = [
        case
        for case in kind.load()
        if case["kind"] != "validate" and case["id"] not in known and not SLOW.search(str(case["definition"]))
    ]
    scenarios = [case for case in found if case["id"].startswith("scenario:")]
    others = [case for case in found if not case["id"].startswith("scenario:")]
    return scenarios + run.evenly(others, count - len(scenarios))


async def agree(name: str, count: int, folder: Path) -> None:
    """So many cases of a kind agree, and afterwards every journal gives its rows."""
    kind = run.KINDS[name]
    chosen = sample(kind, count)
    found = await run.through_services(kind, chosen, folder)
    assert not found.failures, "\n".join([*found.failures, found.closing_line])
    assert not found.findings
    assert found.agree == len(chosen) > 0


@pytest.mark.xdist_group("conformance services 1")
async def test_mistral_cases_through_the_services(tmp_path: Path) -> None:
    """Mistral's recorded cases end over gRPC as they did there."""
    await agree("mistral-cases", 110, tmp_path)


@pytest.mark.xdist_group("conformance services 1")
async def test_mistral_operations_through_the_services(tmp_path: Path) -> None:
    """R1, R5, R7, R13, R19, O6: Mistral's operations over gRPC lead where they led there."""
    await agree("mistral-operations", 100, tmp_path)


@pytest.mark.xdist_group("conformance services 2")
async def test_orquesta_cases_through_the_services(tmp_path: Path) -> None:
    """Orquesta's recorded cases end over gRPC as they did there, whatever order their actions end in."""
    await agree("orquesta-cases", 110, tmp_path)


@pytest.mark.xdist_group("conformance services 2")
async def test_orquesta_operations_through_the_services(tmp_path: Path) -> None:
    """O1-O36: pauses, resumes, cancels and reruns over gRPC leave after every step what was recorded."""
    await agree("orquesta-operations", 110, tmp_path)
