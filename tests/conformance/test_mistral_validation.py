"""Mistral's verdicts on definitions: what the original accepts is accepted, what it rejects is rejected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.recorded import load

from dalsegno.definitions.document import read

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "services" / "dalsegno" / "definitions" / "mistral" / "README.md"
KINDS = {"workflow": "workflows", "workbook": "workbook", "actions": "actions"}


def load_cases() -> list[dict[str, Any]]:
    """Every case that has a verdict: validations, and the definitions of workflows that were run."""
    return [case for case in load("mistral/cases.jsonl") if not rejected_by_store(case)]


def rejected_by_store(case: dict[str, Any]) -> bool:
    """Whether the definition was refused only because another of its name was stored: nothing that a text shows."""
    return str(case["expect"].get("error", "")).startswith("DB")


def listed_differences() -> set[str]:
    """The ids named under "Differences" in the front-end's README."""
    section = README.read_text(encoding="utf-8").partition("## Differences")[2]
    return set(re.findall(r"`([\w~.-]+)`", section))


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case["id"])
def test_verdict(case: dict[str, Any]) -> None:
    """The definition is accepted or rejected as the original did, and its kind is recognised."""
    expect = case["expect"]
    accepted = expect["valid"] if case["kind"] == "validate" else expect.get("rejected_at") != "definition"
    document = read(case["definition"])
    told = "\n".join(map(str, document.problems)) or "accepted"
    if (not document.problems) != accepted and case["id"] in listed_differences():
        pytest.skip("a listed difference")
    assert (not document.problems) == accepted, told
    kind = case["of"].rpartition(".")[2].removeprefix("import ") if case["kind"] == "validate" else case["kind"]
    if accepted:
        assert document.kind.value == KINDS[kind]
    for extra in case.get("extra", ()):
        assert read(extra["definition"]).problems == ()
