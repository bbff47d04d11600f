"""ActionService."""

from __future__ import annotations

from typing import Any

import orjson

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.api import reading
from dalsegno.api.definition import read_definition
from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.rpc import convert, messages, sizes, views
from dalsegno.store.filters import ATTEMPT_FIELDS, STANDALONE_FIELDS, Field, Fields, Filter, parse_filter
from dalsegno.store.pages import page_size, read_token, write_token
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2 as wire
from dalsegno.v1 import action_service_pb2_grpc, definition_pb2
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.refusals import NotFound
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import encode

ACTION_FIELDS: Fields = {
    "namespace": Field("namespace"),
    "name": Field("name"),
    "kind": Field("kind", words=("STANDARD", "EXECUTOR", "AD_HOC")),
}
_ALL = 1000


class Actions(action_service_pb2_grpc.ActionServiceServicer):
    """See action_service.proto for what each call promises."""

    def __init__(self, reads: Reads, writes: Writes) -> None:
        self._reads = reads
        self._writes = writes

    async def RunAction(self, request: wire.RunActionRequest, context: Any) -> wire.RunActionResponse:
        return await self._writes.submit("run_action", request, context, wire.RunActionResponse)

    async def CompleteAction(self, request: wire.CompleteActionRequest, context: Any) -> wire.CompleteActionResponse:
        return await self._writes.submit("complete_action", request, context, wire.CompleteActionResponse)

    async def UpdateAction(self, request: wire.UpdateActionRequest, context: Any) -> wire.UpdateActionResponse:
        return await self._writes.submit("update_action", request, context, wire.UpdateActionResponse)

    async def GetActionExecution(
        self, request: wire.GetActionExecutionRequest, context: Any
    ) -> wire.GetActionExecutionResponse:
        fields = convert.Fields()
        execution_id, (task, item, attempt) = fields.numbered_id("action_execution_id", request.action_execution_id, 3)
        fields.done()

        def read(queries: Queries) -> wire.GetActionExecutionResponse:
            row = queries.attempt(execution_id, (task, item, attempt))
            if row is None or row.child_id:
                raise NotFound("action execution", request.action_execution_id)
            return wire.GetActionExecutionResponse(action_execution=views.action_messages(queries, [row])[0])

        return await self._reads.run(read)

    async def ListActionExecutions(
        self, request: wire.ListActionExecutionsRequest, context: Any
    ) -> wire.ListActionExecutionsResponse:
        execution_id = reading.execution_id_of(request.execution_id) if request.execution_id else ""
        size = page_size(request.page_size)
        chosen = parse_filter(request.filter, ATTEMPT_FIELDS if execution_id else STANDALONE_FIELDS)

        def read(queries: Queries) -> wire.ListActionExecutionsResponse:
            if execution_id:
                views.found(queries.execution(execution_id), execution_id)
            page = queries.attempts(execution_id, request.task_number, chosen, size, request.page_token, request.full)
            rows = [row for row in page.rows if not row.child_id]
            found, token = sizes.page_of(page, rows, views.action_messages(queries, rows))
            return wire.ListActionExecutionsResponse(action_executions=found, next_page_token=token)

        return await self._reads.run(read)

    async def GetAdhocAction(self, request: wire.GetAdhocActionRequest, context: Any) -> wire.GetAdhocActionResponse:
        row = await read_definition(self._reads, "action", request)
        return wire.GetAdhocActionResponse(action=messages.adhoc_message(row))

    async def DeleteAdhocAction(
        self, request: wire.DeleteAdhocActionRequest, context: Any
    ) -> wire.DeleteAdhocActionResponse:
        return await self._writes.submit("delete_adhoc_action", request, context, wire.DeleteAdhocActionResponse)

    async def ListActions(self, request: wire.ListActionsRequest, context: Any) -> wire.ListActionsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, ACTION_FIELDS)

        def read(queries: Queries) -> wire.ListActionsResponse:
            known = [action for action in _known(queries, request.full) if _is_chosen(action, chosen)]
            known.sort(key=lambda action: (action.name, action.namespace, action.version))
            after = read_token(request.page_token, "actions", chosen, (str, str, int))
            if after is not None:
                known = [action for action in known if (action.name, action.namespace, action.version) > after]
            page, token = sizes.first_of(known, count=size), ""
            if len(known) > len(page):
                last = page[-1]
                token = write_token("actions", chosen, (last.name, last.namespace, last.version))
            return wire.ListActionsResponse(actions=page, next_page_token=token)

        return await self._reads.run(read)


def _known(queries: Queries, full: bool) -> list[definition_pb2.Action]:
    """Every action: built in, described by executors, ad hoc."""
    known = {action.name: _builtin(action) for action in builtin_descriptions()}
    for name, text in queries.actions().items():
        if name not in known:
            described = orjson.loads(text)
            action = definition_pb2.Action(
                name=name,
                kind=definition_pb2.ACTION_KIND_EXECUTOR,
                parameters=messages.parameter_messages(orjson.dumps(described.get("parameters", [])).decode()),
                accepts_any=described.get("accepts_any", False),
                safe_to_rerun=described.get("safe_to_rerun", False),
                description=described.get("description", ""),
                answer_schema=described.get("answer_schema", ""),
                answer_key=described.get("answer_key", ""),
            )
            known[name] = sizes.fitted(action, messages.ACTION_VALUES)
    found = list(known.values())
    token = ""
    while True:
        page = queries.definitions("action", size=_ALL, token=token, full=full)
        found += [messages.adhoc_message(row) for row in page.rows]
        token = page.next_token
        if not token:
            return found


def _builtin(action: ActionDescription) -> definition_pb2.Action:
    parameters = [
        definition_pb2.Parameter(
            name=parameter.name,
            required=parameter.required,
            default=encode(parameter.default.value) if isinstance(parameter.default, Constant) else "",
        )
        for parameter in action.parameters
    ]
    return definition_pb2.Action(
        name=action.name,
        kind=definition_pb2.ACTION_KIND_STANDARD,
        parameters=parameters,
        accepts_any=action.accepts_any,
        safe_to_rerun=action.safe_to_rerun,
        description=action.description,
        answer_schema=action.answer_schema,
        answer_key=action.answer_key,
    )


def _is_chosen(action: definition_pb2.Action, chosen: Filter) -> bool:
    kind = definition_pb2.ActionKind.Name(action.kind).removeprefix("ACTION_KIND_")
    shown = {"namespace": action.namespace, "name": action.name, "kind": kind}
    return all(shown[term.column] in term.values for term in chosen.terms)
