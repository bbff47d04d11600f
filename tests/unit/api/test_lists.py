"""Lists in answers are cut by their bytes, with the count of the rest."""

from __future__ import annotations

import uuid
from typing import Any, cast

import pytest
from tests.integration.engines import ScriptedExecutor, until
from tests.unit.api.conftest import Front

from dalsegno.api import system
from dalsegno.api.action_list import list_actions
from dalsegno.api.reads import Reads
from dalsegno.api.validation import validate
from dalsegno.api.watch import Watcher
from dalsegno.engine.desk.controls import LEFT_PAUSED_BYTES_MAX, add_left_paused
from dalsegno.engine.desk.library import shorten
from dalsegno.engine.executors import server as executors
from dalsegno.engine.executors.reports import ack_of, read_greeting
from dalsegno.rpc import views
from dalsegno.rpc.messages import EXECUTION_VALUES
from dalsegno.rpc.sizes import MESSAGE_BYTES_MAX, first_of, fitted
from dalsegno.rpc.tokens import ResumeTokens
from dalsegno.store.filters import Filter
from dalsegno.store.records import SessionRow
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2, definition_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.machine import StepResult
from dalsegno.workflow.outside import PausedBelow
from dalsegno.workflow.refusals import InvalidRequest

EXECUTION = "01890a5d-ac96-774b-bcce-b302099a8057"
WIDE = "\U0001f600"
"""A character of four bytes."""


async def test_very_many_workflows_are_stored_and_the_answer_is_cut_with_their_count(front: Front) -> None:
    """400 workflows with a comment of 16,384 bytes each are stored; the answer has those that fit and counts the
    others."""
    text = "version: '2.0'\n" + "".join(f"w{n:03}: {{tasks: {{t: {{action: std.noop}}}}}}\n" for n in range(400))

    answer = await front.define(text, comment=WIDE * 4_096)

    assert answer.ByteSize() <= MESSAGE_BYTES_MAX
    assert [each.name for each in answer.workflows] == [f"w{n:03}" for n in range(len(answer.workflows))]
    assert (len(answer.workflows) + answer.further_workflows, answer.further_actions) == (400, 0)
    assert 200 < len(answer.workflows) < 400
    last = await front.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="w399"))
    assert last.workflow.comment == WIDE * 4_096


def test_parameters_are_left_out_before_workflows_and_actions_are_cut() -> None:
    """Large parameters are left out and named first; then of 30,000 small entries each list keeps its share."""
    few = workflows.CreateDefinitionsResponse()
    for number in range(4):
        few.workflows.add(name=f"w{number}", parameters=[definition_pb2.Parameter(default="x" * (number * 1_000_000))])
    shorten(few)
    assert few.ByteSize() <= MESSAGE_BYTES_MAX
    assert [list(each.left_out) for each in few.workflows] == [[], [], [], ["parameters"]]
    assert (few.further_workflows, few.further_actions) == (0, 0)

    many = workflows.CreateDefinitionsResponse()
    for number in range(15_000):
        many.workflows.add(name=f"w{number:250}", description="d")
        many.actions.add(name=f"a{number:250}", description="d")
    shorten(many)
    assert MESSAGE_BYTES_MAX * 0.95 < many.ByteSize() <= MESSAGE_BYTES_MAX
    assert len(many.workflows) + many.further_workflows == 15_000
    assert len(many.actions) + many.further_actions == 15_000
    assert min(len(many.workflows), len(many.actions)) > 5_000


class NothingStored:
    """A registry without actions and workflows."""

    def described(self) -> dict[str, Any]:
        return {}

    def stored(self, names: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def stored_names(self) -> tuple[str, ...]:
        return ()


async def test_the_lists_of_a_validation_are_cut_with_the_count() -> None:
    """600 problems and as many workflows, all with long names, make an answer within the limit."""
    text = "version: '2.0'\n" + "".join(
        f"{'ä' * 900}{n:03}: {{tasks: {{t: {{action: std.noop, wrong{n}: 1}}}}}}\n" for n in range(600)
    )

    answer = await validate(workflows.ValidateDefinitionsRequest(text=text), NothingStored(), None)

    assert answer.ByteSize() <= MESSAGE_BYTES_MAX
    assert len(answer.problems) + answer.further_problems >= 600
    assert len(answer.workflows) + answer.further_names == 600
    assert len(answer.workflows) < 600


def test_sub_workflows_that_stay_paused_are_cut_with_the_count() -> None:
    """The answer of a resume names as many paused sub-workflows as fit beside the execution."""
    failed = tuple(f"{WIDE * 250}{number}" for number in range(90))
    below = tuple(PausedBelow(f"{EXECUTION}{number}", "w", (), failed) for number in range(100))
    created = ExecutionCreated(execution_id=EXECUTION, definition_id="", workflow="w")
    outcome = StepResult(Execution(created), left_paused=below)
    response = executions.ResumeExecutionResponse()

    add_left_paused(response, outcome)

    assert response.ByteSize() <= LEFT_PAUSED_BYTES_MAX + 100
    assert len(response.left_paused) + response.further_left_paused == 100
    assert response.further_left_paused > 0


class Rows:
    """The rows that ListActions and ListExecutors read: sessions with their actions."""

    def __init__(self, sessions: list[SessionRow], described: dict[str, str]) -> None:
        self._sessions, self._described = sessions, described

    def sessions(self) -> list[SessionRow]:
        return self._sessions

    def actions(self) -> dict[str, str]:
        return self._described

    def definitions(self, *_: Any, **__: Any) -> Any:
        return type("Page", (), {"rows": (), "next_token": ""})


def test_an_action_with_a_long_description_and_many_executors_fits() -> None:
    """An action names its first 100 executors and counts all, beside the longest description."""
    session: dict[str, Any] = {"executor_id": "x", "session_id": str(uuid.uuid4()), "slots": 1}
    longest = wire.ActionDescription(name="a.b", description="d" * 999_000)
    described = read_greeting(wire.Hello(**session, actions=[longest])).descriptions
    sessions = [SessionRow(f"s{n}", f"{WIDE * 250}{n:03}", "e", 0.0, actions={"a.b": ""}) for n in range(150)]
    queries = cast(Queries, Rows(sessions, dict(described)))

    page = list_actions(queries, action_service_pb2.ListActionsRequest(), 1, Filter(()))

    (action,) = page.actions
    assert (len(action.executor_ids), action.executor_count) == (100, 150)
    assert (len(action.description), list(action.left_out)) == (999_000, [])
    assert page.ByteSize() <= MESSAGE_BYTES_MAX
    longest.description += "d" * 1_000
    with pytest.raises(InvalidRequest) as refused:
        read_greeting(wire.Hello(**session, actions=[longest]))
    assert [each.subject for each in refused.value.violations] == ["hello.actions[0]"]


def test_an_executor_that_serves_very_many_actions_is_told_with_the_count() -> None:
    """20,000 actions with long names are named as far as they fit."""
    actions = {f"{'a' * 240}.{n:05}": "" for n in range(20_000)}

    told = system._executor(SessionRow("s", "x", "e", 0.0, actions=actions), 0)

    assert told.ByteSize() <= MESSAGE_BYTES_MAX
    assert list(told.actions) == sorted(actions)[: len(told.actions)]
    assert len(told.actions) + told.further_actions == 20_000


def test_labels_of_executors_have_the_limits_of_labels() -> None:
    """A list of executors has all their labels."""
    session: dict[str, Any] = {"executor_id": "x", "session_id": str(uuid.uuid4()), "slots": 1}
    read_greeting(wire.Hello(**session, labels={"zone": "x" * 255}))
    with pytest.raises(InvalidRequest) as refused:
        read_greeting(wire.Hello(**session, labels={"zone": "x" * 256, "no name": "x"}))
    assert {each.subject for each in refused.value.violations} == {"hello.labels['zone']", "hello.labels['no name']"}


class Returning(ScriptedExecutor):
    """An executor with deliveries that the engine does not know."""

    def _hello(self) -> wire.Hello:
        message = super()._hello()
        for number in range(1, 101):
            message.in_flight.add(action_execution_id=f"{EXECUTION}.{number}.0.1", delivery=1)
        return message


async def test_deliveries_that_do_not_fit_into_a_welcome_are_cancelled(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 100 superseded deliveries is named once, in the Welcome or after it."""
    monkeypatch.setattr(executors, "SUPERSEDED_BYTES_MAX", 2_000)

    async with Returning(f"127.0.0.1:{front.engine.port}") as executor:
        await until(lambda: executor.welcomes and len(executor.cancelled) + len(executor.welcomes[0].superseded) == 100)
        (welcome,) = executor.welcomes
        in_welcome = [each.action_execution_id for each in welcome.superseded]

    assert welcome.ByteSize() < 2_200
    assert 20 < len(in_welcome) < 40
    named = [*in_welcome, *(each.action_execution_id for each in executor.cancelled)]
    assert sorted(named) == sorted(f"{EXECUTION}.{number}.0.1" for number in range(1, 101))


def test_a_refused_name_does_not_make_its_acknowledgement_too_large() -> None:
    """A report's id of an action execution is returned in full only if it can be one."""
    ack = ack_of("x" * 5_000_000, 1, wire.TASK_OUTCOME_SUCCEEDED, Verdict.REFUSED, "is not of the form")
    assert ack.ByteSize() < 2_000
    assert ack.action_execution_id.endswith("… (5,000,000 bytes)")


def test_what_very_many_actions_say_of_their_progress_comes_in_several_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1,500 actions with the longest texts need several messages: a watcher gets each text once, in order."""
    Told = executions.WatchExecutionResponse.TaskProgress
    progress = execution_pb2.ActionProgress(text=WIDE * 1_000)
    told = [Told(action_execution_id=f"{EXECUTION}.{n}.0.1", progress=progress) for n in range(1_500)]
    monkeypatch.setattr(views, "progress_messages", lambda queries, rows: list(told))
    watcher = Watcher(cast(Reads, None), executions.WatchExecutionRequest(execution_id=EXECUTION), 15.0)
    watcher._tokens = ResumeTokens("ab" * 32)

    messages = watcher._told_progress(cast(Queries, None), ())

    assert max(message.ByteSize() for message in messages) <= MESSAGE_BYTES_MAX
    assert [each for message in messages for each in message.action_progress.tasks] == told
    assert len({message.resume_token for message in messages}) == 1


def test_what_is_full_has_room_for_what_stands_beside_it() -> None:
    """A page, an execution in an answer and a dry run in an outcome, with tokens and ids, have at most 3.5 MiB each."""
    given: dict[str, Any] = {name: "x" * (MESSAGE_BYTES_MAX // 4 - 40) for name in EXECUTION_VALUES}
    execution = fitted(execution_pb2.Execution(**given), EXECUTION_VALUES)
    token = "t" * 2_000
    assert len(execution.left_out) == 1
    answer = executions.PauseExecutionsResponse(resume_token=token)
    answer.outcome.execution.CopyFrom(execution)
    assert answer.ByteSize() <= MESSAGE_BYTES_MAX
    small = first_of(execution_pb2.Execution(id=EXECUTION) for _ in range(200_000))
    page = executions.ListExecutionsResponse(executions=small, next_page_token=token)
    assert MESSAGE_BYTES_MAX * 0.8 < page.ByteSize() <= MESSAGE_BYTES_MAX
