"""The stored descriptions of actions that executors send, and the executors that serve an action now."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import msgspec

from dalsegno.store.records import AttemptRow, SessionRow
from dalsegno.store.store import Queries
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.targets import is_meant

INPUTS_READ = 100
"""For this many attempts of one list the input is read, to find out whether a connected executor accepts it."""


def digest_of(description: str) -> str:
    """Return the digest that identifies a stored description."""
    return hashlib.blake2b(description.encode(), digest_size=8).hexdigest()


def write_description(action: ActionDescription) -> str:
    """Return a description as text for the store."""
    return json.dumps(
        {
            "name": action.name,
            "parameters": [
                {"name": each.name, "required": each.required}
                | ({"default": each.default.value} if isinstance(each.default, Constant) else {})
                for each in action.parameters
            ],
            "accepts_any": action.accepts_any,
            "safe_to_rerun": action.safe_to_rerun,
            "description": action.description,
        }
        | ({"answer_schema": action.answer_schema} if action.answer_schema else {})
        | ({"answer_key": action.answer_key} if action.answer_key else {}),
        ensure_ascii=False,
        sort_keys=True,
    )


def read_description(text: str) -> ActionDescription:
    """Read a stored description."""
    described = json.loads(text)
    parameters = tuple(
        Parameter(each["name"], each["required"], Constant(each["default"]) if "default" in each else None)
        for each in described["parameters"]
    )
    return ActionDescription(
        described["name"],
        parameters,
        described["accepts_any"],
        described["safe_to_rerun"],
        described.get("description", ""),
        answer_schema=described.get("answer_schema", ""),
        answer_key=described.get("answer_key", ""),
        digest=digest_of(text),
    )


class Wanted(NamedTuple):
    """A READY attempt of an execution in memory."""

    execution_id: str
    key: AttemptKey
    action: str
    target: str
    digest: str
    input: str
    """JSON text."""


class Serving:
    """Finds the sessions that could run a READY attempt, in one snapshot."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._sessions: list[SessionRow] | None = None
        self._described: dict[str, dict[str, ActionDescription]] = {}
        self._inputs_left = INPUTS_READ

    def awaited(self, row: AttemptRow | Wanted) -> str:
        """Return what a READY attempt waits for: `executor` while no executor that serves it has a free slot. If nobody
        serves it, return which executor is missing: `executor of test.act(a, b) as described by 0123456789abcdef at
        TARGET`."""
        if self._sessions is None:
            self._sessions = self._queries.sessions()
        served = {
            session.actions[row.action]
            for session in self._sessions
            if row.action in session.actions and is_meant(row.target, session.executor_id, session.labels)
        }
        if row.digest in served or (served and not row.digest) or (served and self._fits(row, served)):
            return "executor"
        own = self._descriptions(row.action).get(row.digest)
        named = f"executor of {row.action}"
        if own is not None and any(row.action in session.actions for session in self._sessions):
            named += f"({_parameters(own)}) as described by {row.digest}"
        return f"{named} at {row.target}" if row.target else named

    def _fits(self, row: AttemptRow | Wanted, served: set[str]) -> bool:
        """Return whether one of these other descriptions accepts its input."""
        if not self._inputs_left:
            return True  # comparing each one would take too long
        self._inputs_left -= 1
        whole = self._queries.attempt(row.execution_id, row.key) if row.input is None else row
        given = msgspec.json.decode(whole.input or "{}") if whole is not None else {}
        described = self._descriptions(row.action)
        return isinstance(given, dict) and any(
            digest in described and described[digest].takes(given) for digest in served
        )

    def _descriptions(self, action: str) -> dict[str, ActionDescription]:
        found = self._described.get(action)
        if found is None:
            rows = self._queries.descriptions([action])
            found = self._described[action] = {row.digest: read_description(row.description) for row in rows}
        return found


def _parameters(action: ActionDescription) -> str:
    """Return the parameters of an action, with optional ones in brackets."""
    described = [each.name if each.required else f"[{each.name}]" for each in action.parameters]
    return ", ".join([*described, "..."] if action.accepts_any else described)
