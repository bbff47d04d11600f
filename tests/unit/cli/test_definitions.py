"""`workflow create` and `workflow validate`: the files they send, their output and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalsegno.definitions.problems import Problem
from dalsegno.v1 import definition_pb2, failure_pb2, workflow_service_pb2
from dalsegno.workflow.refusals import InvalidDefinition

Type = Callable[..., Any]
Answer = workflow_service_pb2.ValidateDefinitionsResponse
GOOD = "version: '2.0'\nw: {tasks: {t: {action: std.noop}}}\n"
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file for the request."""
    path = tmp_path / "w.yaml"
    path.write_text("version: '2.0'\n# ümlaut\n")
    return path


def warning(file: Path) -> failure_pb2.Problem:
    """Return a warning as a server sends it."""
    return failure_pb2.Problem(
        path="w.output.o", message="there is no function", hint="did you?", line=3, column=12, file=str(file)
    )


def test_problems_of_a_file_have_their_lines(api: Any, type_command: Type, file: Path) -> None:
    """`workflow validate` prints file:line:column in the form of editors, and ends with exit code 2."""
    told = failure_pb2.Problem(
        path="w.tasks.a", line=4, column=3, message="is no task", hint="write a mapping", file=str(file)
    )
    whole = failure_pb2.Problem(message="has no workflow", file=str(file))
    api.answer("ValidateDefinitions", Answer(problems=[told, whole]))

    ended = type_command("workflow", "validate", file, "-s", api.address)

    assert ended.exit_code == 2
    assert ended.out.splitlines() == [
        f"{file}:4:3: w.tasks.a: is no task (write a mapping)",
        f"{file}: has no workflow",
        "2 problems: nothing",
    ]


def test_a_good_file_is_said_to_be_good(api: Any, type_command: Type, file: Path) -> None:
    """`workflow validate` of a file without problems ends with exit code 0 and names the definitions in it."""
    api.answer("ValidateDefinitions", Answer(workflows=["a", "b"]))

    ended = type_command("workflow", "validate", file, "-s", api.address)

    assert (ended.exit_code, ended.out) == (0, "no problems: a, b\n")


def test_warnings_follow_the_problems(api: Any, type_command: Type, file: Path) -> None:
    """`workflow validate` prints warnings as such, counts them, and ends with exit code 0 when there is no problem;
    with --strict the server is asked to take them as problems."""
    told = warning(file)
    api.answer(
        "ValidateDefinitions",
        Answer(workflows=["w"], warnings=[told]),
        Answer(problems=[told], warnings=[told, told]),
        Answer(problems=[told]),
    )

    warned = type_command("workflow", "validate", file, "-s", api.address)
    both = type_command("workflow", "validate", file, "-s", api.address)
    refused = type_command("workflow", "validate", file, "--strict", "-s", api.address)

    line = f"{file}:3:12: warning: w.output.o: there is no function (did you?)"
    assert (warned.exit_code, warned.out.splitlines()) == (0, [line, "no problems, 1 warning: w"])
    assert (both.exit_code, both.out.splitlines()[1:]) == (2, [line, line, "1 problem, 2 warnings: nothing"])
    assert (refused.exit_code, refused.out.splitlines()[-1]) == (2, "1 problem: nothing")
    assert [request.strict for request in api.requests] == [False, False, True]


def test_folders_stand_for_the_files_in_them(api: Any, type_command: Type, tmp_path: Path) -> None:
    """A folder stands for all YAML files below it, in order, each once, without hidden ones, in one request."""
    for name in ("b.yaml", "a.yml", "sub/c.yaml", "note.txt", ".hidden.yaml", ".git/d.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
    api.answer("ValidateDefinitions", Answer(workflows=[f"w{number}" for number in range(12)]))

    ended = type_command("workflow", "validate", tmp_path, tmp_path / "b.yaml", "-s", api.address)

    [request] = api.requests
    assert [Path(each.file).relative_to(tmp_path).as_posix() for each in request.documents] == [
        "a.yml",
        "b.yaml",
        "sub/c.yaml",
    ]
    assert [each.text for each in request.documents] == ["# a.yml\n", "# b.yaml\n", "# sub/c.yaml\n"]
    assert ended.out == "3 files: no problems: w0, w1, w2, w3, w4, w5, w6, w7, w8, w9 and 2 more\n"


def test_a_folder_without_definitions_is_said_to_be_one(type_command: Type, tmp_path: Path) -> None:
    """A folder without definitions is refused, and nothing is sent."""
    ended = type_command("workflow", "create", tmp_path, "-s", NOWHERE)
    assert (ended.exit_code, "there is no YAML file in" in ended.err) == (2, True)


def test_one_name_is_for_one_file(type_command: Type, tmp_path: Path, file: Path) -> None:
    """Two files cannot be stored under one name."""
    (tmp_path / "v.yaml").write_text(GOOD)
    ended = type_command("workflow", "create", tmp_path, "--name", "a.b", "-s", NOWHERE)
    assert (ended.exit_code, "--name is for one file, and there are 2" in ended.err) == (2, True)


def test_more_than_fits_is_refused_with_the_sizes_before_anything_is_sent(
    api: Any, type_command: Type, tmp_path: Path
) -> None:
    """15,000,000 bytes in all are sent, one byte more is not; nor are 4,000,001 bytes in one file."""
    sizes = [3_000_000, 3_000_000, 3_000_000, 3_000_000, 1_500_000, 1_500_000]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.yaml").write_text("#" * size)
    api.answer("CreateDefinitions", workflow_service_pb2.CreateDefinitionsResponse())
    assert type_command("workflow", "create", tmp_path, "-s", api.address).exit_code == 0
    assert len(api.requests) == 1

    (tmp_path / "5.yaml").write_text("#" * 1_500_001)
    ended = type_command("workflow", "create", tmp_path, "-s", api.address)
    assert ended.exit_code == 2
    assert "6 files have 15,000,001 bytes together, and 15,000,000 go into one request; nothing was sent" in ended.err
    assert f"3,000,000  {tmp_path}/3.yaml" in ended.err
    assert "1,500,000  in 1 more" in ended.err

    (tmp_path / "6.yaml").write_text("#" * 4_000_001)
    one = type_command("workflow", "create", tmp_path / "6.yaml", "-s", api.address)
    assert (one.exit_code, "a definition has at most 4,000,000 bytes" in one.err) == (2, True)
    assert len(api.requests) == 1


def test_create_prints_warnings_beside_what_was_stored(api: Any, type_command: Type, file: Path) -> None:
    """`workflow create` prints warnings on standard error; with --strict they are a refusal, and the exit code is 2."""
    stored = workflow_service_pb2.CreateDefinitionsResponse(warnings=[warning(file)])
    stored.workflows.add(name="w", version=1)
    problem = Problem("w.output.o", 3, 12, "there is no function", file=str(file))
    api.answer("CreateDefinitions", stored, stored, InvalidDefinition([problem]))

    table = type_command("workflow", "create", file, "-s", api.address)
    printed = type_command("workflow", "create", file, "-o", "json", "-s", api.address)
    strict = type_command("workflow", "create", file, "--strict", "-s", api.address)

    assert (table.exit_code, len(table.out.splitlines())) == (0, 2)
    assert table.err == f"{file}:3:12: warning: w.output.o: there is no function (did you?)\n"
    assert json.loads(printed.out)["warnings"][0]["line"] == 3
    assert printed.err == ""
    assert strict.exit_code == 2
    assert f"{file}:3:12: w.output.o: there is no function" in strict.err
    assert [request.strict for request in api.requests] == [False, False, True]


def test_create_says_what_was_stored(api: Any, type_command: Type, file: Path) -> None:
    """`workflow create` sends the text as it is, and lists each workflow with its version and inputs."""
    parameters = [definition_pb2.Parameter(name="a", required=True), definition_pb2.Parameter(name="b", default="1")]
    stored = definition_pb2.Workflow(name="w", version=3, parameters=parameters)
    api.answer("CreateDefinitions", workflow_service_pb2.CreateDefinitionsResponse(workflows=[stored]))

    ended = type_command("workflow", "create", file, "-s", api.address)

    assert ended.out.splitlines()[1].split() == ["workflow", "w", "3", "a,", "b=1"]
    assert [each.text for each in api.requests[0].documents] == ["version: '2.0'\n# ümlaut\n"]


def test_validate_needs_no_server(type_command: Type, tmp_path: Path) -> None:
    """Validation without a server knows built-in actions and the definitions in the files, and warns of others, in both
    languages."""
    (tmp_path / "m.yaml").write_text(
        "version: '2.0'\nw:\n  tasks:\n    t: {workflow: harbour.sail}\n    u: {action: std.eco}\n"
        "    v: {action: std.ssh}\n"
    )
    (tmp_path / "o.yaml").write_text("version: 1.0\nname: harbour.sail\ntasks: {t: {action: core.ecko}}\n")

    ended = type_command("workflow", "validate", tmp_path, "-s", NOWHERE)

    assert ended.exit_code == 0
    assert f"no server at {NOWHERE}" in ended.err
    told = ended.out.splitlines()
    assert f"{tmp_path}/m.yaml:5:9: warning: w.tasks.u.action: no action `std.eco` is known now" in told[0]
    assert "did you mean `std.echo`?" in told[0]
    assert "the action `std.ssh` is off" in told[1]
    assert "`dalsegno serve --allow std.ssh`" in told[1]
    assert f"{tmp_path}/o.yaml:3:13: warning: tasks.t.action: no action `core.ecko` is known now" in told[-2]
    assert told[-1].startswith("2 files: no problems, ")
    assert not any("harbour.sail`" in line for line in told)

    strict = type_command("workflow", "validate", tmp_path, "--strict", "--offline")
    assert strict.exit_code == 2
    assert strict.err == ""
    assert "warning" not in strict.out


def test_validate_without_a_server_finds_problems(type_command: Type, tmp_path: Path) -> None:
    """Validation without a server finds problems and ends with exit code 2."""
    path = tmp_path / "bad.yaml"
    path.write_text("version: '2.0'\nw:\n  tasks:\n    t: {action: std.noop, on-success: [nowhere]}\n")
    ended = type_command("workflow", "validate", path, "--offline")
    assert ended.exit_code == 2
    assert ended.out.splitlines()[0].startswith(f"{path}:4:")
    assert "1 problem: w" in ended.out


def test_what_an_answer_leaves_out_is_counted(api: Any, type_command: Type, file: Path) -> None:
    """Of many workflows and actions the output names those in the answer and counts the others."""
    stored = workflow_service_pb2.CreateDefinitionsResponse(further_workflows=1_200, further_actions=34)
    stored.workflows.add(name="w", version=1)
    api.answer("CreateDefinitions", stored)
    api.answer("ValidateDefinitions", Answer(workflows=["w"], actions=["a"], further_names=1_234))

    created = type_command("workflow", "create", file, "-s", api.address)
    validated = type_command("workflow", "validate", file, "-s", api.address)

    assert created.exit_code == validated.exit_code == 0
    assert "and 1,234 more: dalsegno workflow list and dalsegno action list show all" in created.err
    assert validated.out.splitlines()[-1] == "no problems: w, a and 1234 more"
