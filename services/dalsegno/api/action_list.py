"""ListActions: all known actions, and the executors that serve each now."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.rpc import messages, sizes
from dalsegno.store.filters import Field, Fields, Filter, Shape
from dalsegno.store.pages import read_token, write_token
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2 as wire
from dalsegno.v1 import definition_pb2
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import encode

ACTION_FIELDS: Fields = {
    "namespace": Field("namespace"),
    "name": Field("name"),
    "kind": Field("kind", words=("STANDARD", "EXECUTOR", "AD_HOC"), prefix="ACTION_KIND_"),
    "executor": Field("executor"),
    "served": Field("served", Shape.FLAG),
}
EXECUTORS_MAX = 100
_ALL = 1000


def list_actions(
    queries: Queries, request: wire.ListActionsRequest, size: int, chosen: Filter
) -> wire.ListActionsResponse:
    """Return a page of actions by name. Raises InvalidPageToken."""
    serving = _serving(queries)
    known = [each for each in _known(queries, request.full) if _is_chosen(each, serving, chosen)]
    known.sort(key=lambda action: (action.name, action.namespace, action.version))
    after = read_token(request.page_token, "actions", chosen, (str, str, int))
    if after is not None:
        known = [action for action in known if (action.name, action.namespace, action.version) > after]
    for action in known[:size]:
        executors = _executors_of(action, serving)
        action.executor_ids.extend(executors[:EXECUTORS_MAX])
        action.executor_count = len(executors)
    page, token = sizes.first_of(known, count=size), ""
    if len(known) > len(page):
        last = page[-1]
        token = write_token("actions", chosen, (last.name, last.namespace, last.version))
    return wire.ListActionsResponse(actions=page, next_page_token=token)


def _serving(queries: Queries) -> Mapping[str, list[str]]:
    """Return the executors that serve each action now."""
    serving: dict[str, set[str]] = {}
    for row in queries.sessions():
        for name in row.actions:
            serving.setdefault(name, set()).add(row.executor_id)
    return {name: sorted(executors) for name, executors in serving.items()}


def _executors_of(action: definition_pb2.Action, serving: Mapping[str, list[str]]) -> list[str]:
    """Return the executors that serve an action; none for an ad-hoc action."""
    return [] if action.kind == definition_pb2.ACTION_KIND_AD_HOC else serving.get(action.name, [])


def _is_chosen(action: definition_pb2.Action, serving: Mapping[str, list[str]], chosen: Filter) -> bool:
    executors = _executors_of(action, serving)
    kind = definition_pb2.ActionKind.Name(action.kind).removeprefix("ACTION_KIND_")
    cells: dict[str, list[object]] = {
        "namespace": [action.namespace],
        "name": [action.name],
        "kind": [kind],
        "executor": [*executors],
        "served": [bool(executors)],
    }
    return all(term.admits(cells[term.column]) for term in chosen.terms)


def _known(queries: Queries, full: bool) -> list[definition_pb2.Action]:
    """Return every action: built in, described by executors, ad hoc."""
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
