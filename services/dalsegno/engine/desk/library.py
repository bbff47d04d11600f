"""Definitions and environments. The engine stores and deletes them, because only it writes the store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from dalsegno.definitions.document import Document
from dalsegno.definitions.document import Member as Defined
from dalsegno.definitions.document_set import ProblemList, Text, gather
from dalsegno.engine.batches.answers import Answer
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.operations import Call, NamespaceOperation, check_in_namespace
from dalsegno.engine.desk.secret_members import hide_members, secret_names
from dalsegno.engine.desk.starts import DESCRIPTION_LENGTH
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert, sizes
from dalsegno.rpc.errors import problem_message
from dalsegno.rpc.messages import adhoc_message, environment_message, workflow_message
from dalsegno.rpc.reading import check_said, read_together, texts_of
from dalsegno.store.library import document_digest
from dalsegno.store.records import (
    DefinitionKind,
    DefinitionRow,
    Deletion,
    EnvironmentRow,
    Resource,
    StoredDocument,
    StoredMember,
)
from dalsegno.v1 import action_service_pb2, definition_pb2, environment_service_pb2, workflow_service_pb2
from dalsegno.workflow.identity import derived_id
from dalsegno.workflow.model import Parameter
from dalsegno.workflow.refusals import InvalidDefinition, InvalidRequest, NotFound, RevisionMoved
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.secrets import MASK, is_secret
from dalsegno.workflow.value import UnfitValue, Value, encode

WARNINGS_BYTES_MAX = 1024 * 1024
"""The limit of the warnings in an answer, in bytes."""

# CreateDefinitions


CreateRequest = workflow_service_pb2.CreateDefinitionsRequest
CreateResponse = workflow_service_pb2.CreateDefinitionsResponse
DefinedMessage = definition_pb2.Workflow | definition_pb2.Action


@dataclass(frozen=True, slots=True)
class ReadDocuments:
    """The documents of a request, read and without problems."""

    texts: list[Text]
    documents: list[Document]
    warnings: ProblemList


class CreateDefinitions(NamespaceOperation[CreateRequest, ReadDocuments, CreateResponse]):
    """See CreateDefinitions in workflow_service.proto. The plan is the documents."""

    def __init__(self, documents: ReadDocuments | None = None) -> None:
        """`documents`: those of the request; None until it is prepared."""
        self._documents = documents

    async def prepare(self, request: CreateRequest, pool: Pool) -> CreateDefinitions:
        return CreateDefinitions(await read_documents(request, pool))

    def check(self, call: Call[CreateRequest], batch: Batch) -> ReadDocuments:
        assert self._documents is not None
        return self._documents

    def claims(self, call: Call[CreateRequest], plan: ReadDocuments) -> Collection[str]:
        return ()

    def carry_out(self, call: Call[CreateRequest], plan: ReadDocuments, batch: Batch) -> Answer[CreateResponse]:
        response = CreateResponse(
            warnings=map(problem_message, plan.warnings.listed), further_warnings=plan.warnings.further
        )
        about: list[Resource] = []
        for text, document in zip(plan.texts, plan.documents, strict=True):
            for row in _store(call, batch, text.text, document):
                about.append(_version_of(row))
                if row.kind == "workflow":
                    response.workflows.append(workflow_message(replace(row, text=None)))
                else:
                    response.actions.append(adhoc_message(replace(row, text=None)))
        return Answer(shorten(response), about=tuple(about))


def shorten(response: CreateResponse) -> CreateResponse:
    """Shorten the answer until it fits.

    Warnings are cut and counted. Then parameters and descriptions are left out and named, the largest first. Then
    workflows and actions are cut and counted.
    """
    response.further_warnings += sizes.cut(response.warnings, WARNINGS_BYTES_MAX)
    excess = response.ByteSize() - sizes.CONTENT_BYTES_MAX
    if excess <= 0:
        return response
    defined: list[DefinedMessage] = [*response.workflows, *response.actions]
    for size, index in sorted(((each.ByteSize(), index) for index, each in enumerate(defined)), reverse=True):
        if excess <= 0:
            return response
        excess -= size - _reduce(defined[index]).ByteSize()
    left = sizes.CONTENT_BYTES_MAX - sum(each.ByteSize() + sizes.FRAME_BYTES for each in response.warnings)
    for_actions = min(left // 2, sum(each.ByteSize() + sizes.FRAME_BYTES for each in response.actions))
    response.further_workflows = sizes.cut(response.workflows, left - for_actions)
    response.further_actions = sizes.cut(response.actions, for_actions)
    return response


def _reduce(defined: DefinedMessage) -> DefinedMessage:
    """Remove the parameters and the description of a workflow or an action."""
    for name in ("parameters", "description"):
        if getattr(defined, name):
            defined.ClearField(name)
            defined.left_out.append(name)
    return defined


async def read_documents(request: CreateRequest, pool: Pool) -> ReadDocuments:
    """Read the documents of a request. Raises InvalidDefinition with every problem, InvalidRequest, TooLarge."""
    check_in_namespace(request).done()
    texts = texts_of(request)
    documents = await read_together(pool, texts)
    problems, warnings = gather(documents, strict=request.strict)
    if problems.listed:
        raise InvalidDefinition(problems.counted)
    check_said(texts, documents)
    return ReadDocuments(texts, documents, warnings)


def _store(call: Call[CreateRequest], batch: Batch, text: str, document: Document) -> list[DefinitionRow]:
    """Store a document. Return its rows: new ones, or the newest ones if they have the same text."""
    request = call.request
    members = [stored_member(each, batch.at_s) for each in document.members]
    rows = _find_unchanged(request.namespace, text, document.language, members, batch)
    if rows is not None:
        return rows
    stored = StoredDocument(
        text=text,
        language=document.language,
        namespace=request.namespace,
        created_s=batch.at_s,
        actor=call.actor,
        comment=request.comment,
    )
    rows = batch.transaction.save_document(stored, members)
    batch.defined = True
    for row, member in zip(rows, document.members, strict=True):
        batch.lookups.workflows.put(row.definition_id, member.compiled)
    return rows


def _find_unchanged(
    namespace: str, text: str, language: str, members: list[StoredMember], batch: Batch
) -> list[DefinitionRow] | None:
    """Return the existing rows if the newest version of every member has exactly this text."""
    document_id = document_digest(text)
    rows: list[DefinitionRow] = []
    for member in members:
        row = batch.transaction.queries.find_definition(member.kind, member.name, namespace, full=False)
        if row is None or row.document_id != document_id or row.language != language:
            return None
        rows.append(row)
    return rows


def stored_member(defined: Defined, at_s: float) -> StoredMember:
    """Return what the store keeps of one workflow or ad-hoc action, in addition to the text."""
    return StoredMember(
        definition_id=derived_id(at_s, uuid.uuid4().hex),
        kind=defined.kind.value,
        name=defined.name,
        tags=defined.tags,
        description=defined.description,
        input=json.dumps([_parameter_record(each, defined.defaults) for each in defined.input], ensure_ascii=False),
    )


def _parameter_record(parameter: Parameter, defaults: Mapping[str, object]) -> dict[str, object]:
    """Return a parameter as it is stored. A default that is no constant is stored as its author wrote it."""
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


DeleteRequest = TypeVar(
    "DeleteRequest", bound=workflow_service_pb2.DeleteWorkflowRequest | action_service_pb2.DeleteAdhocActionRequest
)
DeleteResponse = TypeVar(
    "DeleteResponse", bound=workflow_service_pb2.DeleteWorkflowResponse | action_service_pb2.DeleteAdhocActionResponse
)


class DeleteDefinition(NamespaceOperation[DeleteRequest, None, DeleteResponse]):
    """Deletes versions of a workflow or an ad-hoc action. See DeleteWorkflow and DeleteAdhocAction in the protos."""

    def __init__(self, kind: DefinitionKind, response_kind: type[DeleteResponse]) -> None:
        self._kind = kind
        self._response_kind = response_kind

    def check(self, call: Call[DeleteRequest], batch: Batch) -> None:
        fields = check_in_namespace(call.request)
        fields.name("name", call.request.name)
        fields.number("version", call.request.version)
        fields.done()

    def claims(self, call: Call[DeleteRequest], plan: None) -> Collection[str]:
        return ()

    def carry_out(self, call: Call[DeleteRequest], plan: None, batch: Batch) -> Answer[DeleteResponse]:
        request, queries, kind = call.request, batch.transaction.queries, self._kind
        newest = queries.find_definition(kind, request.name, request.namespace, request.version, full=False)
        if newest is None:
            raise convert.missing_definition(kind, request.name, request.version, request.namespace)
        numbers = [request.version] if request.version else range(1, newest.version + 1)
        found = (
            queries.find_definition(kind, request.name, request.namespace, number, full=False) for number in numbers
        )
        gone = [row for row in found if row is not None]
        batch.transaction.save_deletions([Deletion(_version_of(row), batch.at_s) for row in gone])
        batch.transaction.delete_definitions(kind, request.name, request.namespace, request.version)
        batch.defined = True
        return Answer(self._response_kind(versions=[row.version for row in gone]))


def _version_of(row: DefinitionRow) -> Resource:
    """Return a version of a workflow or an ad-hoc action as a resource that can be deleted."""
    called = convert.called_kind(row.kind)
    return Resource(called, f"{row.name} version {row.version}", row.namespace, row.definition_id)


# Environments


PutRequest = environment_service_pb2.PutEnvironmentRequest
PutResponse = environment_service_pb2.PutEnvironmentResponse
ForgetRequest = environment_service_pb2.DeleteEnvironmentRequest
ForgetResponse = environment_service_pb2.DeleteEnvironmentResponse


class PutEnvironment(NamespaceOperation[PutRequest, Value, PutResponse]):
    """See PutEnvironment in environment_service.proto. The plan is the new values."""

    def check(self, call: Call[PutRequest], batch: Batch) -> Value:
        request = call.request
        fields = check_in_namespace(request)
        fields.number("expected_revision", request.expected_revision)
        fields.name("name", request.name)
        fields.text("description", request.description, DESCRIPTION_LENGTH)
        secret_names(fields, request.secrets, request.secrets)
        variables = fields.json_object("variables", request.variables)
        fields.done()
        return variables

    def claims(self, call: Call[PutRequest], plan: Value) -> Collection[str]:
        return ()

    def carry_out(self, call: Call[PutRequest], plan: Value, batch: Batch) -> Answer[PutResponse]:
        request = call.request
        before = _check_revision(request, batch, expects=request.HasField("expected_revision"))
        row = batch.transaction.put_environment(
            request.namespace,
            request.name,
            _with_secrets(request, plan, before, batch).text,
            batch.at_s,
            description=request.description,
            actor=call.actor,
            comment=request.comment,
        )
        return Answer(PutResponse(environment=environment_message(row)), about=(_environment_of(row),))


def _with_secrets(request: PutRequest, plan: Value, before: EnvironmentRow | None, batch: Batch) -> Value:
    """Return the variables with their secrets encrypted, and with the secrets that the request keeps."""
    cipher = batch.lookups.ciphers.of(request.namespace)
    found = hide_members(plan, request.secrets, cipher)
    assert isinstance(found.data, dict)
    missing = [name for name in request.secrets if name not in found.data]
    had = Value(text=before.value if before is not None and before.value else "{}").data
    assert isinstance(plan.data, dict)
    assert isinstance(had, dict)
    shown = [name for name, value in plan.data.items() if value == MASK and is_secret(had.get(name))]
    if shown:
        told = f"{MASK!r} is how secrets are shown: name it in `secrets` and leave it out to keep the secret"
        raise InvalidRequest.of(f"variables.{shown[0]}", told)
    if not missing:
        return found
    unknown = [name for name in missing if not is_secret(had.get(name))]
    if unknown:
        raise InvalidRequest.of("secrets", f"the environment has no secret, and no variable, {', '.join(unknown)}")
    return Value(data={**{name: had[name] for name in missing}, **found.data})


class DeleteEnvironment(NamespaceOperation[ForgetRequest, None, ForgetResponse]):
    """See DeleteEnvironment in environment_service.proto."""

    def check(self, call: Call[ForgetRequest], batch: Batch) -> None:
        fields = check_in_namespace(call.request)
        fields.number("expected_revision", call.request.expected_revision)
        fields.name("name", call.request.name)
        fields.done()

    def claims(self, call: Call[ForgetRequest], plan: None) -> Collection[str]:
        return ()

    def carry_out(self, call: Call[ForgetRequest], plan: None, batch: Batch) -> Answer[ForgetResponse]:
        request = call.request
        row = _check_revision(request, batch, expects=bool(request.expected_revision))
        if row is None:
            raise NotFound("environment", request.name)
        batch.transaction.save_deletions([Deletion(_environment_of(row), batch.at_s)])
        batch.transaction.delete_environment(request.namespace, request.name)
        return Answer(ForgetResponse())


def _check_revision(request: PutRequest | ForgetRequest, batch: Batch, *, expects: bool) -> EnvironmentRow | None:
    """Return the environment. Raises RevisionMoved when it is not at the expected revision. Revision 0: it does not
    exist."""
    row = batch.transaction.queries.environment(request.namespace, request.name)
    revision = row.revision if row is not None else 0
    if expects and request.expected_revision != revision:
        raise RevisionMoved("environment", request.name, request.expected_revision, revision)
    return row


def _environment_of(row: EnvironmentRow) -> Resource:
    """Return an environment as a resource that can be deleted."""
    return Resource("environment", row.name, row.namespace, repr(row.created_s))


DELETE_WORKFLOW = DeleteDefinition[
    workflow_service_pb2.DeleteWorkflowRequest, workflow_service_pb2.DeleteWorkflowResponse
]("workflow", workflow_service_pb2.DeleteWorkflowResponse)
DELETE_ADHOC_ACTION = DeleteDefinition[
    action_service_pb2.DeleteAdhocActionRequest, action_service_pb2.DeleteAdhocActionResponse
]("action", action_service_pb2.DeleteAdhocActionResponse)
