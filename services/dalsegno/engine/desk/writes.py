"""All writes that EngineService.Submit takes: the operation of each, and the fields of its request and its response."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dalsegno.engine.batches.answers import Response
from dalsegno.engine.desk.checkpoints import GoToCheckpoint
from dalsegno.engine.desk.completions import CompleteAction, HeartbeatAction, UpdateAction
from dalsegno.engine.desk.controls import CANCEL, PAUSE, RESUME, UPDATE_CONTEXT
from dalsegno.engine.desk.deleting import DeleteExecution
from dalsegno.engine.desk.discarding import DiscardHistory
from dalsegno.engine.desk.library import (
    DELETE_ADHOC_ACTION,
    DELETE_WORKFLOW,
    CreateDefinitions,
    DeleteEnvironment,
    PutEnvironment,
)
from dalsegno.engine.desk.operations import AnyWrite, Operation, Plan, Request, Write
from dalsegno.engine.desk.reruns import RerunExecution
from dalsegno.engine.desk.standalone import CancelAction, RunAction
from dalsegno.engine.desk.starts import StartExecution
from dalsegno.engine.desk.tokens import CreateToken, RevokeToken
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.v1 import engine_service_pb2 as wire


def writes(callbacks: Callbacks) -> Mapping[str, AnyWrite]:
    """Return all kinds of writes by name. `callbacks` reads task tokens and checks signatures."""
    listed = (
        _write("start_execution", StartExecution(), lambda of: of.start_execution, lambda of: of.start_execution),
        _write("pause_execution", PAUSE, lambda of: of.pause_execution, lambda of: of.pause_execution),
        _write("resume_execution", RESUME, lambda of: of.resume_execution, lambda of: of.resume_execution),
        _write("cancel_execution", CANCEL, lambda of: of.cancel_execution, lambda of: of.cancel_execution),
        _write("update_context", UPDATE_CONTEXT, lambda of: of.update_context, lambda of: of.update_context),
        _write("rerun_execution", RerunExecution(), lambda of: of.rerun_execution, lambda of: of.rerun_execution),
        _write("go_to_checkpoint", GoToCheckpoint(), lambda of: of.go_to_checkpoint, lambda of: of.go_to_checkpoint),
        _write("discard_history", DiscardHistory(), lambda of: of.discard_history, lambda of: of.discard_history),
        _write("delete_execution", DeleteExecution(), lambda of: of.delete_execution, lambda of: of.delete_execution),
        _write(
            "create_definitions",
            CreateDefinitions(),
            lambda of: of.create_definitions,
            lambda of: of.create_definitions,
        ),
        _write("delete_workflow", DELETE_WORKFLOW, lambda of: of.delete_workflow, lambda of: of.delete_workflow),
        _write(
            "delete_adhoc_action",
            DELETE_ADHOC_ACTION,
            lambda of: of.delete_adhoc_action,
            lambda of: of.delete_adhoc_action,
        ),
        _write("put_environment", PutEnvironment(), lambda of: of.put_environment, lambda of: of.put_environment),
        _write(
            "delete_environment",
            DeleteEnvironment(),
            lambda of: of.delete_environment,
            lambda of: of.delete_environment,
        ),
        _write("cancel_action", CancelAction(), lambda of: of.cancel_action, lambda of: of.cancel_action),
        _write("run_action", RunAction(), lambda of: of.run_action, lambda of: of.run_action),
        _write(
            "complete_action", CompleteAction(callbacks), lambda of: of.complete_action, lambda of: of.complete_action
        ),
        _write("update_action", UpdateAction(callbacks), lambda of: of.update_action, lambda of: of.update_action),
        _write(
            "heartbeat_action",
            HeartbeatAction(callbacks),
            lambda of: of.heartbeat_action,
            lambda of: of.heartbeat_action,
        ),
        _write("create_token", CreateToken(), lambda of: of.create_token, lambda of: of.create_token),
        _write("revoke_token", RevokeToken(), lambda of: of.revoke_token, lambda of: of.revoke_token),
    )
    return {each.name: each for each in listed}


def _write(
    name: str,
    operation: Operation[Request, Plan, Response],
    request_of: Callable[[wire.SubmitRequest], Request],
    response_of: Callable[[wire.SubmitResponse], Response],
) -> AnyWrite:
    """Return one kind of write. Type checks that the fields are those of the operation."""
    return Write(name, operation, request_of, response_of)
