"""Which documents are read for storing, and which are refused."""

from __future__ import annotations

import pytest

from dalsegno.engine.library import read_document
from dalsegno.v1 import workflow_service_pb2
from dalsegno.workflow.refusals import InvalidDefinition


def refusal(text: str) -> list[str]:
    """What is said against a text."""
    with pytest.raises(InvalidDefinition) as caught:
        read_document(workflow_service_pb2.CreateDefinitionsRequest(text=text))
    return [problem.message for problem in caught.value.problems]


def test_orquesta_is_not_stored() -> None:
    """An Orquesta definition is refused by its own problems first, and without any because it cannot be run yet."""
    text = "version: 1.0\ntasks:\n  greet:\n    action: core.echo message={}\n"
    assert refusal(text.format("<% ctx(nowhere) %>")) == ["the variable `nowhere` is referenced before it is assigned"]
    (message,) = refusal(text.format("<% 1 %>"))
    assert message == "this version checks Orquesta definitions, but does not run them yet"
