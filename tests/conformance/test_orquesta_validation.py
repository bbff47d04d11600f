"""Orquesta's verdicts on definitions: what the original accepts is accepted, what it rejects is rejected, and why."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.conformance import orquesta, run
from tests.conformance.core_stage import CoreStage
from tests.conformance.orquesta_inspection import expected_places, inspection_differences
from tests.conformance.recorded import absence, load

from dalsegno.definitions.document import DocumentKind, read

CASES = load("orquesta/cases.jsonl")
# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_findings(case: dict[str, Any]) -> None:
    """The same categories of problems in the same tasks, about the same variables, actions and inputs."""
    expected = expected_places(case)
    if case["kind"] == "validate":
        assert case["expect"]["valid"] == (not expected), "the case contradicts itself"
    told = await inspection_differences(CoreStage(orquesta.player), case)
    if told and case["id"] in run.listed("orquesta"):
        pytest.skip("a listed difference")
    assert not told, "\n".join(told)
    if not {category for category, _, _ in expected} - {"content"}:
        document = read(case["definition"])
        assert document.kind is DocumentKind.ORQUESTA
        (member,) = document.members
        assert member.workflow is not None


def test_few_differences() -> None:
    """At most three in a hundred cases are listed as differences, and each of them exists."""
    if told := absence():
        pytest.skip(told)
    listed = {name for name in run.listed("orquesta") if re.fullmatch(r"[\w:.-]+:[\w:.-]+", name)}
    recorded = {case["id"] for case in (*CASES, *load("orquesta/operations.jsonl"))}
    assert listed <= recorded
    assert len(listed) <= run.DIFFERENCES_MAX * len(recorded)
