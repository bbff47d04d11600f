"""Completion of names and ids in the shell.

The shell waits, so the server has one second to answer; without an answer there are no suggestions and no message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence

import typer

from dalsegno.cli.connection import DEFAULT_SERVER, Connection, connect
from dalsegno.cli.contexts import chosen_name, read_config
from dalsegno.cli.execution_view import execution_state
from dalsegno.cli.exits import CommandError
from dalsegno.cli.ids import mark_ids
from dalsegno.cli.references import LATEST
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.times import clock
from dalsegno.rpc.links import CALLER_OPTIONS
from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_pb2,
    execution_service_pb2,
    workflow_service_pb2,
)

Suggestion = tuple[str, str]
"""A completed argument and its description."""

_WITHIN_S = 1.0
_SUGGESTED = 200


def complete_execution(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return `@latest` and the newest executions by the end of their ids; by whole ids if the text begins one."""

    async def fetch(connection: Connection) -> list[Suggestion]:
        request = execution_service_pb2.ListExecutionsRequest(page_size=_SUGGESTED)
        found = (await connection.executions.ListExecutions(request)).executions
        ends = [each.plain[each.spans[-1].start :] for each in mark_ids([each.id for each in found])]
        offers = [(LATEST, "the newest one")]
        for each, end in zip(found, ends, strict=True):
            told = f"{each.workflow} {execution_state(each.state)}"
            offers += [(end, told)] + ([(each.id, told)] if len(incomplete) >= len(end) else [])
        return offers

    return _suggest(context, incomplete, fetch)


def complete_state(incomplete: str) -> Iterator[str]:
    """Yield the states of executions."""
    for name in sorted(set(map(execution_state, execution_pb2.ExecutionState.values())) - {"UNSPECIFIED"}):
        if name.startswith(incomplete.upper()):
            yield name


def complete_workflow(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return the names of stored workflows."""

    async def fetch(connection: Connection) -> list[Suggestion]:
        namespace = _setting(context, "namespace")
        request = workflow_service_pb2.ListWorkflowsRequest(
            page_size=_SUGGESTED, filter=f'namespace="{namespace}" name="{incomplete}"*'
        )
        return [(each.name, each.description) for each in (await connection.workflows.ListWorkflows(request)).workflows]

    return _suggest(context, incomplete, fetch)


def complete_checkpoint(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return the checkpoints of the execution that was typed: those ahead of it, and those that it has reached."""
    return _complete_entries(context, incomplete, with_ahead=True)


def complete_reached(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return the checkpoints that the execution that was typed has reached."""
    return _complete_entries(context, incomplete, with_ahead=False)


def _complete_entries(context: typer.Context, incomplete: str, *, with_ahead: bool) -> Iterator[Suggestion]:
    execution = _typed_execution(context)

    async def fetch(connection: Connection) -> list[Suggestion]:
        if not execution:
            return []
        request = execution_service_pb2.ListCheckpointsRequest(execution_id=execution, page_size=_SUGGESTED)
        found = await connection.executions.ListCheckpoints(request)
        reached = [(each.name, f"reached: {clock(each.at)}") for each in found.entries if each.stands]
        return [*((name, "ahead") for name in found.ahead if with_ahead), *reversed(reached)]

    return _suggest(context, incomplete, fetch)


def _typed_execution(context: typer.Context) -> str:
    """Return the execution among the words typed so far; "" if there is none or the command takes none."""
    if {"execution", "words"}.isdisjoint(str(each.name) for each in context.command.params):
        return ""
    words = context.params.get("words") or context.args  # the latter while the value of an option is typed
    return str(context.params.get("execution") or next(iter(words), ""))


def complete_action(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return the names of the server's actions."""

    async def fetch(connection: Connection) -> list[Suggestion]:
        request = action_service_pb2.ListActionsRequest(page_size=1_000)
        return [(each.name, each.description) for each in (await connection.actions.ListActions(request)).actions]

    return _suggest(context, incomplete, fetch)


def complete_environment(context: typer.Context, incomplete: str) -> Iterator[Suggestion]:
    """Return the names of stored environments."""

    async def fetch(connection: Connection) -> list[Suggestion]:
        request = environment_service_pb2.ListEnvironmentsRequest(page_size=_SUGGESTED)
        found = (await connection.environments.ListEnvironments(request)).environments
        return [(each.name, each.description) for each in found]

    return _suggest(context, incomplete, fetch)


def complete_context(incomplete: str) -> Iterator[Suggestion]:
    """Yield the names of the contexts in the settings file."""
    try:
        contexts = read_config().contexts
    except CommandError:
        return
    for name, each in contexts.items():
        if name.startswith(incomplete):
            yield name, each.server


def _suggest(
    context: typer.Context, incomplete: str, fetch: Callable[[Connection], Awaitable[Sequence[Suggestion]]]
) -> Iterator[Suggestion]:
    COMMAND.tls = {name: _setting(context, f"tls_{name.replace('-', '_')}") for name in CALLER_OPTIONS}

    async def ask() -> Sequence[Suggestion]:
        async with asyncio.timeout(_WITHIN_S), connect(_setting(context, "server") or DEFAULT_SERVER) as connection:
            return await fetch(connection)

    try:
        offers = asyncio.run(ask())
    except Exception:  # any error: a completion has no place to print it
        return
    for word, told in dict(offers).items():
        if word.startswith(incomplete):
            yield word, " ".join(told.split())[:60]


def _setting(context: typer.Context, name: str) -> str:
    """Return the value of an option: from the arguments typed so far, the environment, or the context."""
    typed = context.params.get(name)
    if typed and (name != "server" or typed != DEFAULT_SERVER):
        return str(typed)
    if value := os.environ.get(f"DALSEGNO_{name.upper()}"):
        return value
    config = read_config()
    chosen = chosen_name((), config)
    return config.contexts[chosen].settings.get(name, "") if chosen in config.contexts else ""
