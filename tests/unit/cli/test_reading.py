"""Commands that read executions: waits, advice, single values, questions and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalsegno.access.bearer import new_token
from dalsegno.v1 import action_service_pb2, change_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

Type = Callable[..., Any]

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
CHILD = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b48"
FAR_S = 4_102_444_800
FAR = "2100-01-01 00:00:00Z"
SCHEMA = {
    "properties": {
        "berth": {"type": "string", "description": "Which berth?", "required": True},
        "pilot": {"type": "boolean", "description": "Does she need a pilot?"},
    }
}


def execution(state: str, **fields: Any) -> execution_pb2.Execution:
    """Return an execution in a state."""
    value = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    return execution_pb2.Execution(id=ID, workflow="harbour.arrival", state=value, revision=9, **fields)


def task(number: int, name: str, state: str, **fields: Any) -> execution_pb2.TaskExecution:
    """Return a task in a state."""
    value = execution_pb2.TaskState.Value(f"TASK_STATE_{state}")
    return execution_pb2.TaskExecution(id=f"{ID}.{number}", number=number, name=name, state=value, **fields)


def action(number: int, name: str, state: str = "RUNNING", **fields: Any) -> execution_pb2.ActionExecution:
    """Return an action of the task of this number."""
    value = execution_pb2.ActionState.Value(f"ACTION_STATE_{state}")
    told = {"id": f"{ID}.{number}.0.1", "execution_id": ID, "task_number": number, "task_name": name, "attempt": 1}
    return execution_pb2.ActionExecution(**{**told, "state": value, **fields})


def inquiry(**fields: Any) -> execution_pb2.ActionExecution:
    """Return an action that asks two questions."""
    asked = json.dumps({"schema": SCHEMA, "route": "harbour"})
    asking = action(2, "ask", action="core.ask", delegated=True, input=asked, **fields)
    asking.deadline.FromSeconds(FAR_S)
    return asking


def stands(api: Any, state: str, tasks: list[Any], actions: list[Any], cause: str = "", **fields: Any) -> None:
    """Let the server return an execution in this state."""
    found = execution(state, **fields)
    moved = change_pb2.ExecutionMoved(state=found.state)
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    api.answer("ListExecutions", messages.ListExecutionsResponse(executions=[found]))
    api.answer("ListTasks", messages.ListTasksResponse(tasks=tasks))
    api.answer("ListActionExecutions", action_service_pb2.ListActionExecutionsResponse(action_executions=actions))
    changes = [change_pb2.Change(sequence=9, cause=cause, execution_moved=moved)] if cause else []
    api.answer("ListChanges", messages.ListChangesResponse(changes=changes))


def waiting(api: Any) -> None:
    """Let the server return an execution that waits for something of each kind."""
    retry = task(1, "fetch", "RUNNING_DELAYED", attempts=1, state_info="no such host")
    start = task(3, "later", "RUNNING_DELAYED")
    for each in (retry, start):
        each.next_at.FromSeconds(FAR_S)
    timed = action(4, "slow")
    timed.deadline.FromSeconds(FAR_S)
    tasks = [
        retry,
        task(2, "ask", "RUNNING", attempts=1, action="core.ask", waiting_for=f"action {ID}.2.0.1"),
        start,
        task(4, "slow", "RUNNING", attempts=1),
        task(5, "shell", "RUNNING", attempts=1, action="core.local", waiting_for="executor"),
        task(6, "sub", "RUNNING", attempts=1, workflow="harbour.sub", waiting_for=f"execution {CHILD}"),
        task(7, "join", "WAITING", waiting_for="tasks fetch, slow"),
        task(8, "other", "RUNNING", attempts=1, action="harbour.crane", waiting_for=f"action {ID}.8.0.1"),
    ]
    stands(api, "RUNNING", tasks, [inquiry(), timed, action(8, "other", delegated=True)])


WAITS = {
    "fetch": f"retries at {FAR}",
    "ask 2.0.1": f"waits for an answer until {FAR}",
    "later": f"starts at {FAR}",
    "slow": f"times out at {FAR}",
    "shell": "waits for an executor that runs core.local",
    "sub": f"waits for execution {CHILD}",
    "join": "waits for tasks fetch, slow",
    "other 8.0.1": "waits to be completed",
}


def test_show_says_what_is_waited_for_and_until_when(api: Any, type_command: Type) -> None:
    """Delays, retries, timeouts, delegates, inquiries, executors, children and joins each have a line."""
    waiting(api)

    shown = type_command("show", ID, "--time", "utc", "-s", api.address).out

    for name, told in WAITS.items():
        assert f"{name}: {told}" in shown
    assert "Which berth? / Does she need a pilot?" in shown


def test_tasks_says_what_is_waited_for_and_until_when(api: Any, type_command: Type) -> None:
    """The list of tasks shows the waits too, beside the reason of an earlier failure."""
    waiting(api)

    lines = type_command("tasks", ID, "--time", "utc", "-s", api.address).out.splitlines()

    for name, told in WAITS.items():
        [line] = [each for each in lines if each.split()[1] == name.split()[0]]
        assert told in line
    assert "no such host" in lines[1]


def test_list_says_what_is_waited_for(api: Any, type_command: Type) -> None:
    """The list of executions shows the first few waits and counts the others."""
    waiting(api)

    listed = type_command("list", "--time", "utc", "-s", api.address).out

    assert f"fetch: retries at {FAR}" in listed
    assert "and 5 more" in listed


FAILED = "Failure caused by error in tasks: lift, load\n  lift: no crane\n  load: no hook"


@pytest.mark.parametrize(
    ("cause", "info", "actions", "told"),
    [
        ("pause_requested", "low tide", [], f"continue it: dalsegno resume {ID}"),
        ("pause_requested", "", [inquiry()], f"continue it: dalsegno resume {ID}"),
        ("task_done", "paused before task 'b'", [], f"continue it: dalsegno resume {ID}"),
        ("task_done", FAILED, [], f"run what failed again: dalsegno resume {ID} --task lift --task load"),
        ("task_done", FAILED, [], f"or continue after it: dalsegno resume {ID} --skip lift --result JSON"),
        ("task_done", "", [inquiry()], f"answer it: dalsegno answer {ID}.2.0.1 berth=STRING"),
        (
            "task_done",
            "",
            [action(2, "ask", delegated=True)],
            f"complete what it waits for: dalsegno action complete {ID}.2.0.1 --result JSON",
        ),
    ],
)
def test_the_advice_after_a_pause_is_that_for_its_kind(
    api: Any, type_command: Type, cause: str, info: str, actions: list[Any], told: str
) -> None:
    """The advice after a requested pause is resume, after a failure a choice, and for an inquiry an answer."""
    tasks = [task(2, "ask", "RUNNING", attempts=1, waiting_for=f"action {ID}.2.0.1")] if actions else []
    failed = [task(3, "lift", "ERROR", state_info="no crane"), task(4, "load", "ERROR", state_info="no hook")]
    tasks = failed if info == FAILED else tasks
    counts = [execution_pb2.TaskCount(state=each.state, count=1) for each in tasks]
    stands(api, "PAUSED", tasks, actions, cause, state_info=info, task_counts=counts)

    advice = type_command("show", ID, "-s", api.address).err

    assert f"{told} --server {api.address}\n" in advice
    if told.startswith(("answer", "complete")):
        assert "resume" not in advice


def test_the_advice_shows_who_asks(
    api: Any, type_command: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command in the advice has the typed file of the token, so that it works when it is copied; it has none that
    the environment names."""
    file = tmp_path / "my token"
    file.write_text(new_token())
    file.chmod(0o600)
    stands(api, "PAUSED", [], [], "pause_requested")
    told = f"continue it: dalsegno resume {ID} --server {api.address}"

    assert (
        f"{told} --token-file '{file}'\n" in type_command("show", ID, "-s", api.address, "--token-file", str(file)).err
    )

    monkeypatch.setenv("DALSEGNO_TOKEN_FILE", str(file))
    assert f"{told}\n" in type_command("show", ID, "-s", api.address).err


def test_a_resume_after_an_asked_pause_ends_it(api: Any, type_command: Type) -> None:
    """After a resume a later pause does not count as requested."""
    asking = task(2, "ask", "RUNNING", attempts=1, waiting_for=f"action {ID}.2.0.1")
    stands(api, "PAUSED", [asking], [inquiry()])
    states = [("PAUSED", "pause_requested"), ("RUNNING", "resume_requested"), ("PAUSED", "task_done")]
    moves = [
        change_pb2.Change(
            cause=cause,
            execution_moved=change_pb2.ExecutionMoved(
                state=execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
            ),
        )
        for state, cause in states
    ]
    api.answer("ListChanges", messages.ListChangesResponse(changes=moves))

    assert "answer it: " in type_command("show", ID, "-s", api.address).err


def test_inquiries_are_listed_with_their_questions(api: Any, type_command: Type) -> None:
    """`inquiries` lists the question, the attempt, the addressee, the deadline and the type of the value."""
    stands(api, "PAUSED", [], [inquiry(), action(3, "crane", delegated=True)])

    ended = type_command("inquiries", "--time", "utc", "-s", api.address)

    lines = ended.out.splitlines()
    assert lines[0] == f"{ID}.2.0.1  harbour.arrival  ask 2.0.1"
    assert f"until {FAR}" in lines[1]
    assert lines[1].endswith("for harbour")
    assert lines[2:] == [
        "  berth  Which berth? (a text)",
        "  pilot  Does she need a pilot? (true or false, or none)",
    ]
    asked = [each for each in api.requests if isinstance(each, action_service_pb2.ListActionExecutionsRequest)]
    assert [each.filter for each in asked] == ["state=RUNNING,PAUSED delegated=true"]


@pytest.mark.parametrize("which", [ID, f"{ID}.2.0.1"])
def test_an_answer_is_what_was_asked_for(api: Any, type_command: Type, which: str) -> None:
    """Fields are typed one by one and have the types of the question: a berth 7 is a text."""
    stands(api, "PAUSED", [], [inquiry()])
    api.answer("GetActionExecution", action_service_pb2.GetActionExecutionResponse(action_execution=inquiry()))
    done = action(2, "ask", "SUCCESS")
    api.answer("CompleteAction", action_service_pb2.CompleteActionResponse(action_execution=done))

    ended = type_command("answer", which, "berth=7", "pilot=true", "-m", "by radio", "-s", api.address)

    request = api.requests[-1]
    assert (ended.exit_code, ended.out) == (0, f"{ID}.2.0.1  SUCCESS\n")
    assert json.loads(request.result) == {"berth": "7", "pilot": True}
    assert (request.action_execution_id, request.comment) == (f"{ID}.2.0.1", "by radio")


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "asks for berth (Which berth?), pilot"), (["pilot=maybe"], "what is asked is true or false")],
)
def test_an_answer_that_cannot_fit_is_not_sent(api: Any, type_command: Type, words: list[str], told: str) -> None:
    """A missing field or a value of another type is refused before a request is sent."""
    stands(api, "PAUSED", [], [inquiry()])

    ended = type_command("answer", ID, *words, "-s", api.address)

    assert ended.exit_code == 2
    assert told in ended.err
    assert not [each for each in api.requests if isinstance(each, action_service_pb2.CompleteActionRequest)]


def test_output_prints_one_value_raw(api: Any, type_command: Type) -> None:
    """`output` prints a text as it is and another value as JSON; a task has a name or a number."""
    stands(api, "SUCCESS", [task(3, "fetch", "SUCCESS")], [], output='{"n": 4.10}')
    told = task(3, "fetch", "SUCCESS", result='"one\\ntwo"')
    api.answer("GetTask", messages.GetTaskResponse(task=told))
    item = action(3, "fetch", "SUCCESS", result='"\\u001b[2Jthree"', item=5)
    api.answer("ListActionExecutions", action_service_pb2.ListActionExecutionsResponse(action_executions=[item]))
    api.answer("GetActionExecution", action_service_pb2.GetActionExecutionResponse(action_execution=item))

    def printed(*words: str) -> str:
        return str(type_command("output", *words, "-s", api.address).out)

    assert json.loads(printed(ID)) == {"n": 4.1}
    assert printed(f"{ID}.fetch") == printed(f"{ID}.3") == "one\ntwo\n"
    assert printed(f"{ID}.fetch.5") == "␛[2Jthree\n"
    assert printed(f"{ID}.fetch.5", "--exact") == "\x1b[2Jthree"
    assert api.requests[-2].filter == "item=5"


def test_a_value_that_is_not_there_is_said(api: Any, type_command: Type) -> None:
    """Without a value the command prints the state and the reason, and ends with exit code 1."""
    stands(api, "ERROR", [], [], state_info="no crane")

    ended = type_command("output", ID, "-s", api.address)

    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == f"error: {ID} has no output: it is ERROR, no crane\n"


def test_texts_of_many_lines_print_as_they_are(api: Any, type_command: Type) -> None:
    """`show` prints the lines of a text below its name."""
    value = json.dumps({"stdout": "one\n  two \nthree", "n": "4.10"})
    stands(api, "SUCCESS", [], [], output=value)

    shown = type_command("show", ID, "-s", api.address).out

    assert "output\n  stdout: |-\n    one\n      two \n    three\n  n: '4.10'\n" in shown


def test_a_value_that_is_too_large_for_a_message_is_read_in_pieces(api: Any, type_command: Type) -> None:
    """A value that left_out names is read by itself: `output` and `-o json` print it, `show` says where it is."""
    stands(api, "SUCCESS", [], [], left_out=["output"])
    pieces = ['{"stdout": "', "one\\ntwo", '"}']
    api.answer("ReadValue", [messages.ReadValueResponse(piece=each) for each in pieces])

    assert json.loads(type_command("output", ID, "-s", api.address).out) == {"stdout": "one\ntwo"}
    assert type_command("show", ID, "-k", "output.stdout", "-s", api.address).out == "one\ntwo\n"
    assert f"dalsegno output {ID}" in type_command("show", ID, "-s", api.address).out


def test_a_list_that_is_cut_says_so(api: Any, type_command: Type) -> None:
    """When the limit cuts a list, the output says how to see all."""
    stands(api, "SUCCESS", [], [])

    assert "--limit 0" in type_command("list", "--limit", "1", "-s", api.address).err
    assert "--limit 0" not in type_command("list", "--limit", "2", "-s", api.address).err
