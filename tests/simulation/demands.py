"""What people of the simulation ask for besides operations on executions: definitions, environments, single actions,
and requests that cannot be carried out."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.documents import Given
from tests.simulation.people import People

from dalsegno.access.bearer import id_of
from dalsegno.store.store import Queries
from dalsegno.v1 import access_service_pb2 as access
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.v1 import workflow_service_pb2 as workflows
from dalsegno.workflow.identity import attempt_id

SPARE = """
version: '2.0'
spare:
  description: nobody runs it
  input: [a, {b: 1}]
  tasks:
    t0: {action: std.noop}
"""
ACTION = """
version: '2.0'
spare_action:
  input: [a, {b: <% 1 + 1 %>}]
  base: std.echo
  base-input: {output: <% $.a %>}
  output: <% $ %>
"""
BROKEN = "version: '2.0'\nspare:\n  tasks:\n    t0: {action: std.noop, on-success: nowhere, colour: red}\n"
ORQUESTA = "version: 1.0\ntasks:\n  t0: {action: core.noop}\n"


class Demands:
    """Draws what is asked for, and has people ask for it."""

    def __init__(self, people: People, chance: random.Random) -> None:
        self._people = people
        self._chance = chance

    def ask(self, queries: Queries, namespace: str, given: Given) -> None:
        """Ask for something."""
        ids = queries.execution_ids()
        execution_id = self._chance.choice(ids) if ids else ""
        demands: list[Callable[[], None]] = [
            *[lambda: self._define(namespace, given)] * 3,
            *[lambda: self._put_environment(namespace)] * 2,
            lambda: self._delete_environment(namespace),
            lambda: self._delete_definition(namespace),
            *[lambda: self._run_action(namespace)] * 3,
            *[lambda: self._cancel_action(queries, execution_id)] * 2,
            *[lambda: self._start_otherwise(namespace, ids)] * 2,
            lambda: self._mistake(namespace, execution_id),
            *[lambda: self._token(namespace)] * 2,
        ]
        self._chance.choice(demands)()

    def _define(self, namespace: str, given: Given) -> None:
        request = workflows.CreateDefinitionsRequest(namespace=namespace, comment="a new version")
        text = self._chance.choice([SPARE, SPARE, ACTION, ACTION, BROKEN, ORQUESTA, given.texts[0]])
        request.text = text + "\n#" * self._chance.randint(0, 2)
        request.strict = self._chance.random() < 0.2
        if text is ORQUESTA and self._chance.random() < 0.8:
            request.name = "pack.spare"
        self._people.ask(create_definitions=request)

    def _delete_definition(self, namespace: str) -> None:
        version = self._chance.choice([0, 0, 1, 7])
        if self._chance.random() < 0.5:
            name = self._chance.choice(["spare", "spare", "pack.spare"])
            request = workflows.DeleteWorkflowRequest(namespace=namespace, name=name, version=version)
            self._people.ask(delete_workflow=request)
        else:
            name = "spare_action"
            self._people.ask(
                delete_adhoc_action=actions.DeleteAdhocActionRequest(namespace=namespace, name=name, version=version)
            )

    def _put_environment(self, namespace: str) -> None:
        request = environments.PutEnvironmentRequest(namespace=namespace, name="place", description="where it is")
        request.variables = self._chance.choice(['{"a": 1}', '{"a": {"b": 2}}', '{"c": "<% 1 + 1 %>"}'])
        if self._chance.random() < 0.4:
            request.expected_revision = self._chance.randint(0, 2)
        if self._chance.random() < 0.3:
            request.secrets.append(self._chance.choice(["a", "b"]))
        self._people.ask(put_environment=request)

    def _token(self, namespace: str) -> None:
        """Create one of few tokens, with what cannot be at times, or revoke one."""
        sha256 = hashlib.sha256(str(self._chance.randint(1, 3)).encode()).digest()
        if self._chance.random() < 0.4:
            self._people.ask(revoke_token=access.RevokeTokenRequest(token_id=id_of(sha256), comment="lost"))
            return
        request = access.CreateTokenRequest(name="somebody", sha256=sha256, comment="needed")
        pattern = self._chance.choice([namespace, "*", "a*b"])
        request.grants.add(role=self._chance.choice([access.ROLE_OPERATOR, access.ROLE_UNSPECIFIED]), pattern=pattern)
        self._people.ask(create_token=request)

    def _delete_environment(self, namespace: str) -> None:
        request = environments.DeleteEnvironmentRequest(namespace=namespace, name="place")
        request.expected_revision = self._chance.choice([0, 0, 1])
        self._people.ask(delete_environment=request)

    def _run_action(self, namespace: str) -> None:
        request = actions.RunActionRequest(namespace=namespace)
        request.action, given = self._chance.choice(
            [
                *[("spare_action", {"a": 1})] * 3,
                ("std.echo", {"output": {"a": 1}}),
                ("std.http", {"url": "x"}),
                ("std.noop", {"extra": 1}),
                ("std.echo", {}),
                ("nowhere.action", {}),
            ]
        )
        request.input = json.dumps(given)
        if self._chance.random() < 0.4:
            request.retry.count = self._chance.choice([1, 2, -1])
            request.retry.delay.FromSeconds(self._chance.choice([0, 1]))
        if self._chance.random() < 0.3:
            request.timeout.FromSeconds(self._chance.choice([2, 3, 0]))
        if self._chance.random() < 0.3:
            request.target = self._chance.choice(["executor 1", "executor:executor 0", "=bad=", "nobody"])
        if self._chance.random() < 0.2:
            request.safe_to_rerun = True
        request.labels["kind"] = "single"
        self._people.ask(run_action=request)

    def _cancel_action(self, queries: Queries, execution_id: str) -> None:
        rows = queries.attempts(execution_id, size=100).rows if execution_id else ()
        names = [attempt_id(row.execution_id, row.key) for row in rows]
        name = self._chance.choice([*names, "nothing", f"{execution_id}.9.9.9"])
        self._people.cancel_action(name)

    def _start_otherwise(self, namespace: str, ids: Sequence[str]) -> None:
        """Start what perhaps cannot be started, or exists already."""
        request = executions.StartExecutionRequest(namespace=namespace, workflow="wf")
        request.params = self._chance.choice(
            [
                *('{"env": 1}', '{"notify": 1}', '{"notify": [{"type": "pigeon"}]}', '{"env": "nowhere"}', "["),
                *('{"env": "place"}', '{"env": {"a": "<% 1 + %>"}}', '{"env": {"a": "<% 1 / 0 %>"}}', "{}", "{}"),
            ]
        )
        choice = self._chance.random()
        if choice < 0.5 and ids:
            request.execution_id = self._chance.choice(ids)
            if self._chance.random() < 0.7:
                request.on_conflict = executions.ON_CONFLICT_USE_EXISTING
            request.dry_run = self._chance.random() < 0.3
        elif choice < 0.7:
            request.ClearField("workflow")
            request.definition_id = self._people.new_id()
        elif choice < 0.8:
            request.environment = "place"
            request.version = self._chance.choice([1, 9])
        self._people.ask(start_execution=request)

    def _mistake(self, namespace: str, execution_id: str) -> None:
        """Ask for what cannot be carried out: it changes nothing."""
        resume = executions.ResumeExecutionRequest(execution_id=execution_id)
        resume.tasks.add(task="t0", task_number=1, skip=True, leave=True, reset=True, input="1")
        resume.tasks.add(task="t1", output="1")
        edit = executions.UpdateContextRequest(
            execution_id=execution_id, set='{"__own": 1, "v0": 1}', unset=["v0", "v1"]
        )
        name = f"{execution_id}.1.0.1"
        complete = actions.CompleteActionRequest(action_execution_id=name, task_token="false", result="{")
        complete.error = "none"
        alias = actions.CompleteActionRequest(alias="nobody", namespace=namespace, result="1")
        alias.outcome = actions.COMPLETION_OUTCOME_SUCCEEDED
        late = actions.CompleteActionRequest(action_execution_id=name, result='{"late": 1}')
        late.outcome = actions.COMPLETION_OUTCOME_SUCCEEDED
        beat = actions.HeartbeatActionRequest(task_token="false:1:0")
        beat.progress.fraction = 2.0
        rerun = executions.RerunExecutionRequest(execution_id=execution_id, new_execution_id=execution_id)
        fork = executions.RerunExecutionRequest(execution_id=execution_id, start_from=operation_pb2.RERUN_FROM_TASKS)
        mistakes: list[dict[str, Any]] = [
            {"start_execution": executions.StartExecutionRequest(namespace=namespace, version=-1)},
            {"resume_execution": resume},
            {"update_context": edit},
            {"update_context": executions.UpdateContextRequest(execution_id=execution_id)},
            *({"complete_action": each} for each in (complete, alias, late, late)),
            {"heartbeat_action": beat},
            *({"rerun_execution": each} for each in (rerun, fork)),
            {"discard_history": executions.DiscardHistoryRequest(execution_id=execution_id)},
        ]
        self._people.ask(**self._chance.choice(mistakes))
