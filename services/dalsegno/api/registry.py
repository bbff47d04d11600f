"""The actions and workflows that a definition may call: stored, described by executors, or built in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dalsegno.actions.permission import OFF_UNTIL_ALLOWED, shown_permission
from dalsegno.actions.registry import builtin_descriptions
from dalsegno.api.reads import Reads
from dalsegno.definitions.calls import Signature
from dalsegno.store.records import DefinitionKind, DefinitionRow
from dalsegno.store.store import Queries
from dalsegno.workflow.model import ActionDescription

_HINTS_MAX = 1000
"""The number of names of stored workflows, and of ad-hoc actions, that are compared for a hint."""


class BuiltInRegistry:
    """The `api.validation.Registry` without a store: the built-in actions."""

    def described(self) -> dict[str, Signature]:
        """Return the built-in actions; those that need an operator's permission are off."""
        return {each.name: _built_in(each) for each in builtin_descriptions()}

    def stored(self, names: Iterable[str]) -> tuple[dict[str, Signature], dict[str, Signature]]:
        """Return nothing: there is no store."""
        return {}, {}

    def stored_names(self) -> tuple[str, ...]:
        """Nothing is stored."""
        return ()


class ServerRegistry:
    """The `api.validation.Registry` of a server. Each method reads the store, in the thread of its caller."""

    def __init__(self, reads: Reads, namespace: str) -> None:
        self._reads = reads
        self._namespaces = tuple(dict.fromkeys((namespace, "")))

    def described(self) -> dict[str, Signature]:
        """Return built-in actions and those that executors describe; an action that an executor serves is not off."""
        found = BuiltInRegistry().described()
        served = self._reads.run_here(lambda queries: {name for each in queries.sessions() for name in each.actions})
        found |= {name: replace(each, off="") for name, each in found.items() if name in served}
        for name, text in self._reads.run_here(lambda queries: queries.actions()).items():
            described = json.loads(text)
            found.setdefault(name, _signature(described["parameters"], is_open=described["accepts_any"]))
        return found

    def stored(self, names: Iterable[str]) -> tuple[dict[str, Signature], dict[str, Signature]]:
        """Return the ad-hoc actions and the workflows of these names, in this namespace or the default one."""

        def find(queries: Queries) -> tuple[dict[str, Signature], dict[str, Signature]]:
            actions, workflows = (
                {name: _defined(row) for name in names if (row := self._find(queries, kind, name))}
                for kind in ("action", "workflow")
            )
            return actions, workflows

        return self._reads.run_here(find)

    def stored_names(self) -> tuple[str, ...]:
        """Return names of workflows and ad-hoc actions, for hints."""
        return self._reads.run_here(
            lambda queries: tuple(
                row.name
                for kind in ("workflow", "action")
                for row in queries.definitions(kind, size=_HINTS_MAX).rows
                if row.namespace in self._namespaces
            )
        )

    def _find(self, queries: Queries, kind: DefinitionKind, name: str) -> DefinitionRow | None:
        found = (queries.find_definition(kind, name, namespace) for namespace in self._namespaces)
        return next((row for row in found if row is not None), None)


def _built_in(action: ActionDescription) -> Signature:
    permission = OFF_UNTIL_ALLOWED.get(action.name, "")
    word = shown_permission(permission)
    return Signature(
        frozenset(parameter.name for parameter in action.parameters if parameter.required),
        frozenset(parameter.name for parameter in action.parameters if not parameter.required),
        is_open=action.accepts_any,
        off="an executor runs it only when its operator allows it" if permission else "",
        hint=f"`dalsegno serve --allow {word}`, or `dalsegno executor --allow {word}`" if permission else "",
    )


def _defined(row: DefinitionRow) -> Signature:
    """Return the signature. An Orquesta workflow ignores undeclared input, and requires none."""
    is_orquesta = row.kind == "workflow" and row.language == "orquesta"
    return _signature(json.loads(row.input or "[]"), is_open=is_orquesta)


def _signature(parameters: list[dict[str, Any]], *, is_open: bool) -> Signature:
    required = frozenset(each["name"] for each in parameters if each["required"])
    return Signature(required, frozenset(each["name"] for each in parameters) - required, is_open)
