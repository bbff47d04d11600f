"""What requests are refused for, field by field, and what is just allowed."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import grpc
import pytest
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.engine.desk.choices import STOPS_MAX
from dalsegno.engine.desk.secret_members import SECRETS_MAX
from dalsegno.engine.desk.standalone import RETRIES_MAX
from dalsegno.engine.desk.tokens import GRANTS_MAX
from dalsegno.engine.executors.reports import ERROR_CHARACTERS_MAX, read_greeting
from dalsegno.rpc.convert import COMMENT_LENGTH
from dalsegno.rpc.failure import Failure
from dalsegno.v1 import access_service_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as executor
from dalsegno.workflow.refusals import InvalidRequest

ID = str(uuid.uuid4())
ACTION = f"{ID}.1.0.1"
LONG = "x" * 256
TEN_YEARS = 10 * 365 * 86_400
FROM_CHECKPOINT, FROM_TASKS = operation_pb2.RERUN_FROM_CHECKPOINT, operation_pb2.RERUN_FROM_TASKS
BEGINNING, CANCEL = operation_pb2.RERUN_FROM_BEGINNING, operation_pb2.DELEGATES_CANCEL
LEAVE, WAIT = operation_pb2.DELEGATES_LEAVE, operation_pb2.DELEGATES_WAIT
SUCCEEDED, FAILED = actions.COMPLETION_OUTCOME_SUCCEEDED, actions.COMPLETION_OUTCOME_FAILED
RUNNING = execution_pb2.EXECUTION_STATE_RUNNING
HASH = hashlib.sha256(b"x").digest()
ADMIN = {"role": access_service_pb2.ROLE_ADMIN}

WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("start_execution", {}, ["workflow"]),
    ("start_execution", {"workflow": "w", "definition_id": ID}, ["definition_id"]),
    ("start_execution", {"definition_id": ID, "version": 1}, ["version"]),
    ("start_execution", {"definition_id": "x"}, ["definition_id"]),
    ("start_execution", {"workflow": "w", "execution_id": "x"}, ["execution_id"]),
    ("start_execution", {"workflow": "w", "on_conflict": executions.ON_CONFLICT_USE_EXISTING}, ["on_conflict"]),
    ("start_execution", {"workflow": LONG, "environment": LONG}, ["workflow", "environment"]),
    ("start_execution", {"workflow": "w", "description": "x" * 65_537}, ["description"]),
    ("start_execution", {"workflow": "w", "deadline": {"seconds": -1}}, ["deadline"]),
    ("start_execution", {"workflow": "w", "stop_at": ["a", ""]}, ["stop_at[1]"]),
    ("start_execution", {"workflow": "w", "stop_at": ["c"] * (STOPS_MAX + 1)}, ["stop_at"]),
    ("start_execution", {"workflow": "w", "request_id": LONG, "namespace": LONG}, ["request_id", "namespace"]),
    ("start_execution", {"workflow": "w", "comment": "x" * (COMMENT_LENGTH + 1)}, ["comment"]),
    ("run_action", {"input": "[]"}, ["action", "input"]),
    ("run_action", {"action": "a", "labels": {"a b": ""}}, ["labels['a b']"]),
    ("run_action", {"action": "a", "timeout": {}}, ["timeout"]),
    ("run_action", {"action": "a", "timeout": {"seconds": TEN_YEARS + 1}}, ["timeout"]),
    ("run_action", {"action": "a", "retry": {"count": -1}}, ["retry.count"]),
    ("run_action", {"action": "a", "retry": {"count": 1, "delay": {"seconds": -1}}}, ["retry.delay"]),
    ("run_action", {"action": "a", "retry": {"delay": {"seconds": TEN_YEARS + 1}}}, ["retry.delay"]),
    ("run_action", {"action": "a", "target": "(x"}, ["target"]),
    ("run_action", {"action": "a", "secrets": ["b"]}, ["secrets[0]"]),
    ("cancel_action", {"action_execution_id": ID}, ["action_execution_id"]),
    ("complete_action", {"outcome": SUCCEEDED}, ["task_token"]),
    ("complete_action", {"outcome": SUCCEEDED, "action_execution_id": ACTION, "alias": "a"}, ["task_token"]),
    ("complete_action", {"outcome": SUCCEEDED, "action_execution_id": ACTION, "task_token": "t"}, ["task_token"]),
    ("complete_action", {"action_execution_id": "x"}, ["outcome", "action_execution_id"]),
    (
        "complete_action",
        {"action_execution_id": ACTION, "outcome": FAILED, "error": "x" * (ERROR_CHARACTERS_MAX + 1)},
        ["error"],
    ),
    ("complete_action", {"action_execution_id": ACTION, "outcome": SUCCEEDED, "result": "{"}, ["result"]),
    ("update_action", {"action_execution_id": ACTION}, ["state"]),
    (
        "heartbeat_action",
        {"alias": "a", "namespace": LONG, "progress": {"fraction": 2}},
        ["namespace", "progress.fraction"],
    ),
    ("pause_execution", {"execution_id": ID, "delegates": CANCEL}, ["delegates"]),
    ("pause_execution", {"execution_id": ID, "expected_revision": -1}, ["expected_revision"]),
    ("cancel_execution", {"execution_id": ID, "delegates": LEAVE}, ["delegates"]),
    ("cancel_execution", {"execution_id": ID, "delegates": WAIT, "terminate": {}}, ["delegates"]),
    ("cancel_execution", {"execution_id": ID, "terminate": {"state": RUNNING}}, ["terminate.state"]),
    (
        "cancel_execution",
        {"execution_id": ID, "terminate": {"message": "x" * (COMMENT_LENGTH + 1), "output": "{"}},
        ["terminate.message", "terminate.output"],
    ),
    (
        "resume_execution",
        {"execution_id": ID, "stop_at": [""], "environment_overlay": "[]"},
        ["environment_overlay", "stop_at[0]"],
    ),
    ("update_context", {"execution_id": ID}, ["set"]),
    ("update_context", {"execution_id": ID, "set": "[]"}, ["set"]),
    ("update_context", {"execution_id": ID, "set": '{"a": 1}', "task_number": 1}, ["task"]),
    ("update_context", {"execution_id": ID, "set": '{"a": 1}', "task": LONG}, ["task"]),
    ("update_context", {"execution_id": ID, "set": '{"a": 1}', "task": "t", "task_number": -1}, ["task_number"]),
    ("update_context", {"execution_id": ID, "set": '{"a": 1}', "unset": ["b", "a", ""]}, ["unset[1]", "unset[2]"]),
    ("rerun_execution", {"execution_id": ID}, ["start_from"]),
    ("rerun_execution", {"execution_id": ID, "start_from": FROM_TASKS}, ["tasks"]),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "tasks": [{"task": "t"}]}, ["tasks"]),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "checkpoint": "c"}, ["checkpoint"]),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "stay": True, "edit": {}}, ["edit", "stay"]),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "new_execution_id": "x"}, ["new_execution_id"]),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "new_execution_id": ID}, ["new_execution_id"]),
    (
        "rerun_execution",
        {"execution_id": ID, "start_from": FROM_TASKS, "tasks": [{"task": "t"}], "input": "{}", "labels": {"a": ""}},
        ["input", "labels"],
    ),
    ("rerun_execution", {"execution_id": ID, "start_from": FROM_CHECKPOINT}, ["checkpoint"]),
    ("rerun_execution", {"execution_id": ID, "start_from": FROM_CHECKPOINT, "checkpoint": ""}, ["checkpoint"]),
    (
        "rerun_execution",
        {"execution_id": ID, "start_from": FROM_CHECKPOINT, "checkpoint_sequence": 0},
        ["checkpoint_sequence"],
    ),
    (
        "rerun_execution",
        {"execution_id": ID, "start_from": FROM_CHECKPOINT, "checkpoint": "c", "edit": {}},
        ["edit.set"],
    ),
    ("discard_history", {"execution_id": ID}, ["name"]),
    ("discard_history", {"execution_id": ID, "name": ""}, ["name"]),
    ("discard_history", {"execution_id": ID, "sequence": 0}, ["sequence"]),
    ("delete_execution", {"execution_id": "x"}, ["execution_id"]),
    ("delete_workflow", {"version": -1}, ["name", "version"]),
    ("put_environment", {"name": "e", "variables": "[]"}, ["variables"]),
    (
        "put_environment",
        {"name": "e", "description": "x" * 65_537, "expected_revision": -1},
        ["expected_revision", "description"],
    ),
    ("put_environment", {"name": "e", "secrets": ["s"] * (SECRETS_MAX + 1)}, ["secrets"]),
    ("delete_environment", {"expected_revision": -1}, ["expected_revision", "name"]),
    ("create_token", {"name": "t", "sha256": b"x", "grants": [ADMIN]}, ["sha256"]),
    ("create_token", {"name": "t", "sha256": HASH, "grants": [ADMIN], "expires_at": {"seconds": 1}}, ["expires_at"]),
    ("create_token", {"name": "t", "sha256": HASH}, ["grants"]),
    ("create_token", {"name": "t", "sha256": HASH, "grants": [ADMIN] * (GRANTS_MAX + 1)}, ["grants"]),
    ("create_token", {"name": "t", "sha256": HASH, "grants": [{}]}, ["grants[0].role"]),
    ("create_token", {"sha256": HASH, "grants": [{**ADMIN, "pattern": LONG}]}, ["name", "grants[0].pattern"]),
    ("revoke_token", {}, ["token_id"]),
]

ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("start_execution", {"workflow": "w", "version": 1, "stop_at": ["c"] * STOPS_MAX, "description": "x" * 65_536}),
    ("start_execution", {"definition_id": ID}),
    ("run_action", {"action": "a", "timeout": {"seconds": TEN_YEARS}, "retry": {"count": RETRIES_MAX}}),
    ("run_action", {"action": "a", "retry": {"count": 1, "delay": {"seconds": TEN_YEARS}}, "target": "x" * 64}),
    ("cancel_action", {"action_execution_id": ACTION}),
    (
        "complete_action",
        {"action_execution_id": ACTION, "outcome": FAILED, "error": "x" * ERROR_CHARACTERS_MAX, "result": "1"},
    ),
    ("complete_action", {"alias": "a", "outcome": SUCCEEDED}),
    ("update_action", {"action_execution_id": ACTION, "state": execution_pb2.ACTION_STATE_PAUSED}),
    ("pause_execution", {"execution_id": ID, "delegates": LEAVE}),
    ("cancel_execution", {"execution_id": ID, "delegates": WAIT}),
    ("cancel_execution", {"execution_id": ID, "terminate": {"message": "x" * COMMENT_LENGTH}}),
    ("update_context", {"execution_id": ID, "set": '{"a": 1}', "unset": ["b"], "task": "t", "task_number": 1}),
    ("update_context", {"execution_id": ID, "unset": ["b"]}),
    ("rerun_execution", {"execution_id": ID, "start_from": FROM_CHECKPOINT, "checkpoint_sequence": 1, "stay": True}),
    ("rerun_execution", {"execution_id": ID, "start_from": BEGINNING, "input": '{"a": 1}', "labels": {"a": ""}}),
    ("discard_history", {"execution_id": ID, "sequence": 1}),
    ("delete_workflow", {"name": "w", "version": 1}),
    ("delete_environment", {"name": "e"}),
    ("revoke_token", {"token_id": "x"}),
]


async def submit(desk: Desk, name: str, request: dict[str, Any]) -> Failure:
    """Return why a write with these fields is refused."""
    return await refused(desk.submit(name, request))


async def test_each_wrong_field_of_a_request_is_named(desk: Desk) -> None:
    """INVALID_ARGUMENT with the fields that are wrong, and no others; what is right but names nothing is NOT_FOUND."""
    for name, request, subjects in WRONG:
        failure = await submit(desk, name, request)
        told = [each.subject for each in failure.violations]
        assert (failure.code, told) == (grpc.StatusCode.INVALID_ARGUMENT, subjects), (name, request)
    for name, request in ALLOWED:
        failure = await submit(desk, name, request)
        assert failure.code is grpc.StatusCode.NOT_FOUND, (name, request, failure)


HELLO: dict[str, Any] = {"executor_id": "x", "session_id": ID, "slots": 1}
ACTIONS: list[dict[str, Any]] = [
    {"name": "a." + "b" * 253},
    {"name": "a.b", "parameters": [{"name": "p"}, {"name": "q"}], "answer_schema": "q"},
]
WRONG_HELLO: list[tuple[dict[str, Any], list[str]]] = [
    ({"executor_id": ""}, ["hello.executor_id"]),
    ({"executor_id": LONG}, ["hello.executor_id"]),
    ({"session_id": "x"}, ["hello.session_id"]),
    ({"slots": 0}, ["hello.slots"]),
    ({"credit": -1}, ["hello.credit"]),
    ({"labels": {"a b": ""}}, ["hello.labels['a b']"]),
    ({"actions": [ACTIONS[0], {"name": "a b"}]}, ["hello.actions[1].name"]),
    ({"actions": [{"name": "a." + "b" * 254}]}, ["hello.actions[0].name"]),
    ({"actions": [{"name": "a.b", "answer_schema": "p"}]}, ["hello.actions[0].answer_schema"]),
    ({"actions": [{"name": "a.b", "parameters": [{"name": "p", "default": "{"}]}]}, ["hello.actions[0].parameters"]),
]


def test_each_wrong_field_of_a_hello_is_named() -> None:
    """The Hello is refused with the fields that are wrong, and no others; at the limits it is read as it is."""
    for fields, subjects in WRONG_HELLO:
        with pytest.raises(InvalidRequest) as caught:
            read_greeting(executor.Hello(**{**HELLO, **fields}))
        assert [each.subject for each in caught.value.violations] == subjects
    greeting = read_greeting(executor.Hello(**{**HELLO, "executor_id": "x" * 255, "actions": ACTIONS}))
    assert (len(greeting.executor_id), [*greeting.descriptions]) == (255, [each["name"] for each in ACTIONS])
