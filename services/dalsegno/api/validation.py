"""Find problems of documents, and the actions and workflows that they call and that are unknown now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from dalsegno.definitions.calls import KnownCallees, Signature, check
from dalsegno.definitions.document import Document, MemberKind
from dalsegno.definitions.document_set import gather
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert, sizes
from dalsegno.rpc.errors import problem_message
from dalsegno.rpc.reading import read_together, texts_of
from dalsegno.v1 import workflow_service_pb2 as wire

LIST_BYTES_MAX = 1024 * 1024
"""The maximum size of each list in the answer."""


class Registry(Protocol):
    """The known actions and workflows. Its methods run in a thread."""

    def described(self) -> dict[str, Signature]:
        """Return the actions that are built in and those that executors have described."""

    def stored(self, names: Iterable[str]) -> tuple[dict[str, Signature], dict[str, Signature]]:
        """Return the ad-hoc actions and the workflows of these names."""

    def stored_names(self) -> tuple[str, ...]:
        """Names of workflows and ad-hoc actions, for hints."""


async def validate(
    request: wire.ValidateDefinitionsRequest, registry: Registry, pool: Pool | None
) -> wire.ValidateDefinitionsResponse:
    """Return the answer of ValidateDefinitions; without a pool, this process reads the documents.

    Raises InvalidRequest, TooLarge.
    """
    texts = texts_of(request)
    documents = await read_together(pool, texts, is_outline=True)
    known = await asyncio.to_thread(_look_up, documents, registry)
    compared = [_with_calls(each, known, text.file) for text, each in zip(texts, documents, strict=True)]
    problems, warnings = gather(compared, strict=request.strict)
    languages = {each.language for each in documents if each.language}
    members = [member for each in documents for member in each.members if member.name]
    response = wire.ValidateDefinitionsResponse(
        problems=map(problem_message, problems.listed),
        further_problems=problems.further,
        warnings=map(problem_message, warnings.listed),
        further_warnings=warnings.further,
        language=convert.language(languages.pop() if len(languages) == 1 else ""),
        workflows=[each.name for each in members if each.kind is MemberKind.WORKFLOW],
        actions=[each.name for each in members if each.kind is MemberKind.ACTION],
    )
    response.further_problems += sizes.cut(response.problems, LIST_BYTES_MAX)
    response.further_warnings += sizes.cut(response.warnings, LIST_BYTES_MAX)
    response.further_names = sizes.cut(response.workflows, LIST_BYTES_MAX // 2)
    response.further_names += sizes.cut(response.actions, LIST_BYTES_MAX // 2)
    return response


def _look_up(documents: Sequence[Document], registry: Registry) -> KnownCallees:
    """Find what the documents call: in the documents, built in, described by executors, stored."""
    actions = registry.described()
    workflows: dict[str, Signature] = {}
    names = dict.fromkeys(
        name
        for document in documents
        for call in document.calls
        for name in (f"{document.name}.{call.name}" if document.name else call.name, call.name)
        if name not in actions
    )
    stored_actions, stored_workflows = registry.stored(names) if names else ({}, {})
    actions |= stored_actions
    workflows |= stored_workflows
    for member in (member for document in documents for member in document.members):
        if member.takes is not None:
            (workflows if member.kind is MemberKind.WORKFLOW else actions)[member.name] = member.takes
    is_complete = names.keys() <= actions.keys() | workflows.keys()
    return KnownCallees(actions, workflows, () if is_complete else registry.stored_names())


def _with_calls(document: Document, known: KnownCallees, file: str) -> Document:
    """Return the document, with warnings about its calls."""
    found = [replace(each, file=file) for each in check(document.calls, known, document.name)]
    warnings = sorted((*document.warnings, *found), key=lambda problem: (problem.line, problem.column))
    return replace(document, warnings=tuple(warnings))
