"""Several documents in one request: all are stored in one transaction, or nothing is."""

from __future__ import annotations

import time

import grpc
import pytest
from tests.processes import System, state_of

from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import definition_pb2, failure_pb2
from dalsegno.v1 import workflow_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("definitions")]

OUTER = "version: '2.0'\n{name}:\n  tasks:\n    t:\n      workflow: pack.inner\n      input: {{a: 1}}\n"
INNER = "version: 1.0\ntasks: {t: {action: core.noop}}"
META = "name: inner\npack: pack\nrunner_type: orquesta\nentry_point: workflows/inner.yaml\n"


def documents(**texts: str) -> list[wire.DefinitionDocument]:
    """Documents by the paths of their files, `__` for a slash."""
    return [wire.DefinitionDocument(file=f"{name.replace('__', '/')}.yaml", text=text) for name, text in texts.items()]


async def names(system: System) -> set[str]:
    answer = await system.workflows.ListWorkflows(wire.ListWorkflowsRequest())
    return {each.name for each in answer.workflows}


async def test_documents_of_both_languages_are_stored_together(system: System) -> None:
    """A pack with its metadata and a workflow that calls it: what is stored runs, a second time nothing is new."""
    request = wire.CreateDefinitionsRequest(
        documents=documents(outer=OUTER.format(name="outer"), actions__workflows__inner=INNER, actions__inner=META)
    )
    stored = await system.workflows.CreateDefinitions(request)
    assert [(each.name, each.version, each.language) for each in stored.workflows] == [
        ("outer", 1, definition_pb2.LANGUAGE_MISTRAL),
        ("pack.inner", 1, definition_pb2.LANGUAGE_ORQUESTA),
    ]
    assert not stored.warnings
    assert state_of(await system.wait(await system.begin("outer"))) == "SUCCESS"
    request.documents[0].text += "# another\n"
    again = await system.workflows.CreateDefinitions(request)
    assert [(each.name, each.version) for each in again.workflows] == [("outer", 2), ("pack.inner", 1)]


async def test_a_problem_in_one_document_keeps_all_from_being_stored(system: System) -> None:
    """It is told with its file."""
    before = await names(system)
    bad = OUTER.format(name="second").replace("workflow:", "wrokflow:")
    request = wire.CreateDefinitionsRequest(documents=documents(a=OUTER.format(name="first"), b=bad))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.workflows.CreateDefinitions(request)
    failure = read_failure(caught.value)
    assert [(each.file, each.line) for each in failure.problems] == [("b.yaml", 5)]
    assert "b.yaml:5:7: second.tasks.t.wrokflow" in str(failure)
    assert await names(system) == before


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (wire.CreateDefinitionsRequest(text="a: 1", documents=documents(a=INNER)), "text"),
        (wire.CreateDefinitionsRequest(name="a.b", documents=documents(a=INNER)), "name"),
        (wire.CreateDefinitionsRequest(documents=[*documents(a=INNER), *documents(a=INNER)]), "documents[1].file"),
        (wire.CreateDefinitionsRequest(documents=[wire.DefinitionDocument(text=INNER)]), "documents[0].file"),
        (wire.CreateDefinitionsRequest(documents=documents(a=" ")), "documents[0].text"),
        (wire.CreateDefinitionsRequest(documents=[*documents(a=INNER)] * 1001), "documents"),
        (
            wire.CreateDefinitionsRequest(
                documents=[
                    wire.DefinitionDocument(file="a", text=INNER, name="a.b", language=definition_pb2.LANGUAGE_MISTRAL)
                ]
            ),
            "documents[0].language",
        ),
    ],
    ids=["text", "name", "file twice", "no file", "empty", "too many", "language"],
)
async def test_documents_that_are_not_well_formed(
    system: System, request_: wire.CreateDefinitionsRequest, field: str
) -> None:
    """Each is refused by its field, and nothing is stored."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.workflows.CreateDefinitions(request_)
    failure = read_failure(caught.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in [each.subject for each in failure.violations]


async def test_fifteen_megabytes_are_stored_at_once(system: System) -> None:
    """One byte more is refused with the sizes."""
    texts = {f"long{number}": OUTER.format(name=f"long{number}") for number in range(5)}
    size = 15_000_000 // len(texts)
    texts = {name: text + "#" * (size - len(text)) for name, text in texts.items()}
    started_s = time.monotonic()
    stored = await system.workflows.CreateDefinitions(wire.CreateDefinitionsRequest(documents=documents(**texts)))
    print(f"stored in {time.monotonic() - started_s:.1f} s")
    assert [each.name for each in stored.workflows] == list(texts)

    texts["long0"] += "#"
    for call in (
        system.workflows.CreateDefinitions(wire.CreateDefinitionsRequest(documents=documents(**texts))),
        system.workflows.ValidateDefinitions(wire.ValidateDefinitionsRequest(documents=documents(**texts))),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        failure = read_failure(caught.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
        assert "15000001" in failure.message
        assert "15,000,000" in failure.message


async def test_a_thousand_files_are_stored_at_once(system: System) -> None:
    """Each a workflow of its own."""
    texts = {f"small{number}": OUTER.format(name=f"small{number}") for number in range(1000)}
    started_s = time.monotonic()
    stored = await system.workflows.CreateDefinitions(wire.CreateDefinitionsRequest(documents=documents(**texts)))
    print(f"stored in {time.monotonic() - started_s:.1f} s")
    assert len(stored.workflows) == 1000


async def test_what_the_documents_define_is_known_to_each_other(system: System) -> None:
    """A call of what stands in another document is none to be warned of; any other is, in both languages."""
    texts = {"outer": OUTER.format(name="v").replace("pack.inner", "pack.other"), "other": INNER}
    alone = await system.workflows.ValidateDefinitions(
        wire.ValidateDefinitionsRequest(documents=documents(outer=texts["outer"]))
    )
    assert not alone.problems
    assert [(each.category, each.file, each.line) for each in alone.warnings] == [
        (failure_pb2.PROBLEM_CATEGORY_CONTENT, "outer.yaml", 5)
    ]
    both = documents(**texts)
    both[1].name = "pack.other"
    together = await system.workflows.ValidateDefinitions(wire.ValidateDefinitionsRequest(documents=both))
    assert (list(together.problems), list(together.warnings)) == ([], [])
    assert list(together.workflows) == ["v", "pack.other"]
    strict = wire.ValidateDefinitionsRequest(documents=documents(outer=texts["outer"]), strict=True)
    assert [each.line for each in (await system.workflows.ValidateDefinitions(strict)).problems] == [5]
