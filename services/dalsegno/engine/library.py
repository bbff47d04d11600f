"""Definitions and environments: stored and deleted by the engine, like everything that is written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dalsegno.definitions.document import Document
from dalsegno.definitions.document import Member as Defined
from dalsegno.definitions.together import Findings, Text, gather
from dalsegno.engine.batch import Batch
from dalsegno.engine.requests import Asked, Kind, about_nothing, check_shared_fields
from dalsegno.engine.starts import DESCRIPTION_LENGTH
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert
from dalsegno.rpc.errors import problem_message
from dalsegno.rpc.messages import adhoc_message, environment_message, workflow_message
from dalsegno.rpc.reading import check_said, read_together, texts_of
from dalsegno.store.records import DefinitionRow, Deletion, EnvironmentRow, Member, Thing
from dalsegno.store.records import Document as StoredDocument
from dalsegno.v1 import action_service_pb2, environment_service_pb2, workflow_service_pb2
from dalsegno.workflow.identity import derived_id
from dalsegno.workflow.model import Parameter
from dalsegno.workflow.refusals import InvalidDefinition, NotFound, RevisionMoved
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import UnfitValue, encode

# CreateDefinitions


@dataclass(frozen=True, slots=True)
class Prepared:
    """The documents of a request, read and found to be without problems."""

    texts: list[Text]
    documents: list[Document]
    warnings: Findings


async def read_documents(request: workflow_service_pb2.CreateDefinitionsRequest, pool: Pool) -> Prepared:
    """The documents of a request. Raises InvalidDefinition with every problem, InvalidRequest, TooLarge."""
    check_shared_fields(request).done()
    texts = texts_of(request)
    documents = await read_together(pool, texts)
    problems, warnings = gather(documents, strict=request.strict)
    if problems.listed:
        raise InvalidDefinition(problems.counted)
    check_said(texts, documents)
    return Prepared(texts, documents, warnings)


def _create(asked: Asked, batch: Batch) -> workflow_service_pb2.CreateDefinitionsResponse:
    prepared: Prepared = asked.prepared
    response = workflow_service_pb2.CreateDefinitionsResponse()
    for text, document in zip(prepared.texts, prepared.documents, strict=True):
        for row in _store(asked, batch, text.text, document):
            if row.kind == "workflow":
                response.workflows.append(workflow_message(replace(row, text=None)))
            else:
                response.actions.append(adhoc_message(replace(row, text=None)))
    response.warnings.extend(map(problem_message, prepared.warnings.listed))
    response.further_warnings = prepared.warnings.further
    return response


def _store(asked: Asked, batch: Batch, text: str, document: Document) -> list[DefinitionRow]:
    """The rows of one document: new ones, or those that are there when its text is that of the newest versions."""
    request = asked.request
    members = [stored_member(each, batch.at_s) for each in document.members]
    rows = _unchanged(request.namespace, text, document.language, members, batch)
    if rows is not None:
        return rows
    stored = StoredDocument(
        text=text,
        language=document.language,
        namespace=request.namespace,
        created_s=batch.at_s,
        actor=asked.actor,
        comment=request.comment,
    )
    rows = batch.transaction.save_document(stored, members)
    batch.defined = True
    for row, member in zip(rows, document.members, strict=True):
        batch.lookups.workflows.put(row.definition_id, member.compiled)
    return rows


def _unchanged(
    namespace: str, text: str, language: str, members: list[Member], batch: Batch
) -> list[DefinitionRow] | None:
    """The rows that are there, when the newest version of every member has this very text."""
    rows: list[DefinitionRow] = []
    for member in members:
        row = batch.transaction.queries.find_definition(member.kind, member.name, namespace)
        if row is None or row.text != text or row.language != language:
            return None
        rows.append(row)
    return rows


def stored_member(defined: Defined, at_s: float) -> Member:
    """What the store keeps of one workflow or ad-hoc action beside the text."""
    return Member(
        definition_id=derived_id(at_s, uuid.uuid4().hex),
        kind=defined.kind.value,
        name=defined.name,
        tags=defined.tags,
        description=defined.description,
        input=json.dumps([_written(each, defined.defaults) for each in defined.input], ensure_ascii=False),
    )


def _written(parameter: Parameter, defaults: Mapping[str, object]) -> dict[str, object]:
    """How a parameter is stored; a default that is no constant is stored as its author wrote it."""
    written: dict[str, object] = {"name": parameter.name, "required": parameter.required}
    if parameter.default is None:
        return written
    constant = parameter.default.value if isinstance(parameter.default, Constant) else None
    default = defaults.get(parameter.name, constant)
    try:
        encode(default)
    except UnfitValue:
        return written
    return {**written, "default": default}


# DeleteWorkflow, DeleteAdhocAction


def _delete_needs(asked: Asked, batch: Batch) -> Collection[str]:
    fields = check_shared_fields(asked.request)
    fields.name("name", asked.request.name)
    fields.number("version", asked.request.version)
    fields.done()
    return ()


def _delete_workflow(asked: Asked, batch: Batch) -> workflow_service_pb2.DeleteWorkflowResponse:
    return workflow_service_pb2.DeleteWorkflowResponse(versions=_delete(asked.request, "workflow", batch))


def _delete_adhoc_action(asked: Asked, batch: Batch) -> action_service_pb2.DeleteAdhocActionResponse:
    return action_service_pb2.DeleteAdhocActionResponse(versions=_delete(asked.request, "action", batch))


def _delete(request: Any, kind: str, batch: Batch) -> list[int]:
    """Delete the versions of this kind that the request names, and say which they were. Raises NotFound."""
    queries = batch.transaction.queries
    newest = queries.find_definition(kind, request.name, request.namespace, request.version)
    if newest is None:
        raise convert.missing_definition(kind, request.name, request.version, request.namespace)
    numbers = [request.version] if request.version else range(1, newest.version + 1)
    found = (queries.find_definition(kind, request.name, request.namespace, number) for number in numbers)
    gone = [row for row in found if row is not None]
    batch.transaction.save_deletions([Deletion(_version_of(row), batch.at_s) for row in gone])
    batch.transaction.delete_definitions(kind, request.name, request.namespace, request.version)
    batch.defined = True
    return [row.version for row in gone]


def _version_of(row: DefinitionRow) -> Thing:
    """A version of a workflow or an ad-hoc action as what may be deleted."""
    called = convert.called_kind(row.kind)
    return Thing(called, f"{row.name} version {row.version}", row.namespace, row.definition_id)


def _about_definitions(answer: workflow_service_pb2.CreateDefinitionsResponse, batch: Batch) -> Collection[Thing]:
    defined = [each.definition_id for each in answer.workflows] + [each.definition_id for each in answer.actions]
    rows = (batch.transaction.queries.definition(each) for each in defined)
    return [_version_of(row) for row in rows if row is not None]


# Environments


def _environment_needs(asked: Asked, batch: Batch) -> Collection[str]:
    request = asked.request
    fields = check_shared_fields(request)
    fields.name("name", request.name)
    if hasattr(request, "variables"):
        fields.text("description", request.description, DESCRIPTION_LENGTH)
        asked.memo["variables"] = fields.json_object("variables", request.variables)
    fields.done()
    return ()


def _check_revision(asked: Asked, batch: Batch) -> EnvironmentRow | None:
    request = asked.request
    row = batch.transaction.queries.environment(request.namespace, request.name)
    revision = row.revision if row is not None else 0
    if _expects(request) and request.expected_revision != revision:
        raise RevisionMoved("environment", request.name, request.expected_revision, revision)
    return row


def _expects(request: Any) -> bool:
    """Whether a revision is expected; 0 is one for a put: there is no environment of this name yet."""
    if isinstance(request, environment_service_pb2.PutEnvironmentRequest):
        return request.HasField("expected_revision")
    return bool(request.expected_revision)


def _put_environment(asked: Asked, batch: Batch) -> environment_service_pb2.PutEnvironmentResponse:
    request = asked.request
    _check_revision(asked, batch)
    row = batch.transaction.put_environment(
        request.namespace,
        request.name,
        asked.memo["variables"].text,
        batch.at_s,
        description=request.description,
        actor=asked.actor,
        comment=request.comment,
    )
    environment = environment_message(replace(row, value=asked.memo["variables"].text))
    return environment_service_pb2.PutEnvironmentResponse(environment=environment)


def _delete_environment(asked: Asked, batch: Batch) -> environment_service_pb2.DeleteEnvironmentResponse:
    request = asked.request
    row = _check_revision(asked, batch)
    if row is None:
        raise NotFound("environment", request.name)
    batch.transaction.save_deletions([Deletion(_environment_of(row), batch.at_s)])
    batch.transaction.delete_environment(request.namespace, request.name)
    return environment_service_pb2.DeleteEnvironmentResponse()


def _environment_of(row: EnvironmentRow) -> Thing:
    """An environment as what may be deleted."""
    return Thing("environment", row.name, row.namespace, repr(row.created_s))


def _about_environment(answer: environment_service_pb2.PutEnvironmentResponse, batch: Batch) -> Collection[Thing]:
    row = batch.transaction.queries.environment(answer.environment.namespace, answer.environment.name)
    return [] if row is None else [_environment_of(row)]


KINDS = {
    "create_definitions": Kind(lambda asked, batch: (), _create, _about_definitions, prepare=read_documents),
    "delete_workflow": Kind(_delete_needs, _delete_workflow, about_nothing),
    "delete_adhoc_action": Kind(_delete_needs, _delete_adhoc_action, about_nothing),
    "put_environment": Kind(_environment_needs, _put_environment, _about_environment),
    "delete_environment": Kind(_environment_needs, _delete_environment, about_nothing),
}
