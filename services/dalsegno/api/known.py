"""Which actions and workflows a definition may call, as the store and the built-in families know them now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.api.reads import Reads
from dalsegno.definitions.orquesta.content import Signature
from dalsegno.store.records import DefinitionRow
from dalsegno.store.store import Queries

_HINTS_MAX = 1000
"""So many names of stored workflows, and of ad-hoc actions, are compared for a hint."""


class KnownActions:
    """What a definition's calls are compared with. Each method asks the store, in the thread of its caller."""

    def __init__(self, reads: Reads, namespace: str) -> None:
        self._reads = reads
        self._namespaces = tuple(dict.fromkeys((namespace, "")))

    def described(self) -> dict[str, Signature]:
        """The actions that are built in and those that executors have described."""
        found = {
            each.name: Signature(
                frozenset(parameter.name for parameter in each.parameters if parameter.required),
                frozenset(parameter.name for parameter in each.parameters if not parameter.required),
                is_open=each.accepts_any,
            )
            for each in builtin_descriptions()
        }
        for name, text in self._reads.run_here(lambda queries: queries.actions()).items():
            described = json.loads(text)
            found.setdefault(name, _signature(described["parameters"], is_open=described["accepts_any"]))
        return found

    def stored(self, references: Iterable[str]) -> dict[str, Signature]:
        """The workflows and ad-hoc actions of these names, in this namespace or the default one."""

        def find(queries: Queries) -> dict[str, Signature]:
            rows = ((reference, self._find(queries, reference)) for reference in references)
            return {reference: _defined(row) for reference, row in rows if row is not None}

        return self._reads.run_here(find)

    def stored_names(self) -> tuple[str, ...]:
        """Names of workflows and ad-hoc actions, for hints."""
        return self._reads.run_here(
            lambda queries: tuple(
                row.name
                for kind in ("workflow", "action")
                for row in queries.definitions(kind, size=_HINTS_MAX).rows
                if row.namespace in self._namespaces
            )
        )

    def _find(self, queries: Queries, reference: str) -> DefinitionRow | None:
        """An ad-hoc action before a workflow, each in the namespace before the default one."""
        found = (
            queries.find_definition(kind, reference, namespace)
            for kind in ("action", "workflow")
            for namespace in self._namespaces
        )
        return next((row for row in found if row is not None), None)


def _defined(row: DefinitionRow) -> Signature:
    """An Orquesta workflow ignores input that it does not declare, and none of it is required."""
    is_orquesta = row.kind == "workflow" and row.language == "orquesta"
    return _signature(json.loads(row.input or "[]"), is_open=is_orquesta)


def _signature(parameters: list[dict[str, Any]], *, is_open: bool) -> Signature:
    required = frozenset(each["name"] for each in parameters if each["required"])
    return Signature(required, frozenset(each["name"] for each in parameters) - required, is_open)
