"""Orquesta's verdicts on definitions: what the original accepts is accepted, what it rejects is rejected, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.cases import folder, load

from dalsegno.definitions.document import DocumentKind, read
from dalsegno.definitions.load import load as load_definition
from dalsegno.definitions.orquesta.content import Signature
from dalsegno.definitions.orquesta.context import APPLICATION_NAMES
from dalsegno.definitions.orquesta.inspect import inspect_workflow
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Problem, Problems

README = Path(__file__).resolve().parents[2] / "services" / "dalsegno" / "definitions" / "orquesta" / "README.md"
CASES = load("orquesta/cases.jsonl")
# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
NO_CASES = not (folder() / "orquesta" / "cases.jsonl").exists()
SHARE_MAX = 0.03
"""How many of the cases may be listed as differences."""

Place = tuple[str, str, str]
"""Category, the task or the top-level key, and the variable for which there is a problem."""


class RecordedActions:
    """The registry that the recordings were made with: only core.echo's input matters to any of them."""

    def signature(self, reference: str) -> Signature | None:
        if reference == "core.echo":
            return Signature(frozenset({"message"}))
        is_known = "." in reference.strip(".") and reference != "examples.load_and_print_fixture"
        return Signature(is_open=True) if is_known else None

    def references(self) -> Iterable[str]:
        return ("core.echo",)


def listed_differences() -> set[str]:
    """The ids named under "Differences" in the front-end's README."""
    section = README.read_text(encoding="utf-8").partition("## Differences")[2]
    return set(re.findall(r"`([\w:.-]+:[\w:.-]+)`", section))


def expected_places(case: dict[str, Any]) -> set[Place]:
    """What the original found, also for cases that were to be run and that it would not start."""
    return {
        (error["type"], part_of(error["spec_path"] or ""), variable_of(error["message"], error["type"]))
        for error in case["expect"]["errors"] or ()
        if "spec_path" in error
    }


def part_of(path: str) -> str:
    """`tasks.t1` of a path in a task, else the key at the top."""
    found = re.match(r"tasks\.\w+|\w*", path)
    return found.group() if found else ""


def variable_of(message: str, category: str) -> str:
    found = re.search(r'["`]([\w-]+)["`]', message) if category == "context" else None
    return found.group(1) if found else ""


def inspect(case: dict[str, Any]) -> tuple[Problem, ...]:
    """What we find, knowing what the recording engine knew."""
    problems = Problems()
    source = load_definition(case["definition"], problems)
    is_stackstorm = bool(case.get("st2") or case.get("ref"))
    names = (*APPLICATION_NAMES, *(case.get("app_ctx") or ()))
    actions = RecordedActions() if is_stackstorm else None
    inspect_workflow(Reader(source, problems), source.data, application_names=names, actions=actions)
    return problems.listed()


@pytest.mark.skipif(NO_CASES, reason="the recorded cases are not here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_findings(case: dict[str, Any]) -> None:
    """The same categories of problems in the same tasks, about the same variables."""
    problems = inspect(case)
    found = {
        (problem.category, part_of(problem.path), variable_of(problem.message, problem.category))
        for problem in problems
    }
    expected = expected_places(case)
    if case["kind"] == "validate":
        assert case["expect"]["valid"] == (not expected), "the case contradicts itself"
    if found != expected and case["id"] in listed_differences():
        pytest.skip("a listed difference")
    assert found == expected, "\n".join(map(str, problems))


@pytest.mark.skipif(NO_CASES, reason="the recorded cases are not here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_verdict_on_a_document(case: dict[str, Any]) -> None:
    """Whoever hands in the text gets the same verdict, but for what only a registry of actions can say."""
    document = read(case["definition"])
    expected = {category for category, _, _ in expected_places(case)} - {"content"}
    if bool(document.problems) != bool(expected) and case["id"] in listed_differences():
        pytest.skip("a listed difference")
    assert bool(document.problems) == bool(expected), "\n".join(map(str, document.problems))
    if not document.problems:
        assert document.kind is DocumentKind.ORQUESTA
        (member,) = document.members
        assert member.workflow is not None


@pytest.mark.skipif(NO_CASES, reason="the recorded cases are not here")
def test_few_differences() -> None:
    """At most three in a hundred cases are listed as differences, and each of them exists."""
    listed = listed_differences()
    recorded = {case["id"] for case in (*CASES, *load("orquesta/operations.jsonl"))}
    assert listed <= recorded
    assert len(listed) <= SHARE_MAX * len(recorded)
