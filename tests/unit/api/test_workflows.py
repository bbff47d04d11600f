"""ValidateDefinitions, which needs neither store nor engine."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dalsegno.api.workflows import Workflows
from dalsegno.v1 import definition_pb2, failure_pb2, workflow_service_pb2


async def validate(text: str) -> workflow_service_pb2.ValidateDefinitionsResponse:
    nothing = cast(Any, None)
    request = workflow_service_pb2.ValidateDefinitionsRequest(text=text)
    return await Workflows(nothing, nothing).ValidateDefinitions(request, nothing)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("<% 1 %>", []),
        ("<% ctx(nowhere) %>", [(failure_pb2.PROBLEM_CATEGORY_CONTEXT, "tasks.greet.action", 4)]),
        ("<% 1 + %>", [(failure_pb2.PROBLEM_CATEGORY_EXPRESSION, "tasks.greet.action", 4)]),
    ],
)
async def test_orquesta(message: str, found: list[tuple[int, str, int]]) -> None:
    """An Orquesta definition is told its real problems; that it is not run yet is none of them."""
    answer = await validate(f"version: 1.0\ntasks:\n  greet:\n    action: core.echo message={message}\n")
    assert answer.language == definition_pb2.LANGUAGE_ORQUESTA
    assert [(problem.category, problem.path, problem.line) for problem in answer.problems] == found


async def test_mistral() -> None:
    """A Mistral definition is told the workflows that it defines."""
    answer = await validate("version: '2.0'\nw: {tasks: {t: {action: std.noop}}}")
    assert answer.language == definition_pb2.LANGUAGE_MISTRAL
    assert (list(answer.workflows), list(answer.problems)) == (["w"], [])
