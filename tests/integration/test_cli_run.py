"""`dalsegno demo`, `dalsegno run` and the examples, with the real services."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli_server import (
    DALSEGNO,
    SCRIPT,
    Served,
    clean_environment,
    list_processes,
    serve,
    type_command,
    wait_for,
)
from tests.tied import tied

from dalsegno.cli.examples import find_examples, read_example

pytestmark = pytest.mark.xdist_group("cli-run")

IN_BACKGROUND = ("bash", "-c", 'trap "" INT; exec "$@"', "bash")
"""A shell starts a command that ends with & so: it ignores SIGINT."""

GREETING = """
version: '2.0'
greet:
  input: [name]
  tasks:
    say:
      action: std.echo
      input: {output: "Hello, <% $.name %>"}
      publish: {said: <% task().result %>}
  output: {said: <% $.said %>}
"""


def test_the_demo_ends_with_success_and_an_output() -> None:
    """`dalsegno demo` runs without questions in well under 30 seconds and shows state and output; exit code 0."""
    began_s = time.monotonic()
    ended = type_command("demo")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert time.monotonic() - began_s < 30
    assert re.search(r"^state +SUCCESS after", ended.stdout, re.MULTILINE)
    assert "worth_in_crowns: 11340.0" in ended.stdout
    assert ended.stdout.count("HTTP 503") >= 2, "the flaky endpoint was not retried"


def test_files_of_the_present_folder_do_not_take_the_place_of_modules(tmp_path: Path) -> None:
    """Services and helpers of the command line start in a folder with scripts that are named like Python's modules."""
    for name in ("json", "nt", "random", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    (tmp_path / "greet.yaml").write_text(GREETING)
    for words in (("workflow", "validate", "greet.yaml"), ("run", "greet.yaml", "-i", "name=Ann")):
        ended = subprocess.run(
            [SCRIPT, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment(),
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_demo_draws_a_tree_on_a_terminal() -> None:
    """On a terminal the demo draws the tasks with their progress, and leaves the terminal unchanged."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        tied(*DALSEGNO, "demo"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean_environment(), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # the other side is closed
            break
    os.close(ours)

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.wait(10) == 0
    assert "✔ measure_weather  SUCCESS" in text
    assert "12/12" in text
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor stays hidden"


def test_a_file_runs_without_a_server(tmp_path: Path) -> None:
    """`run FILE` without a server starts a private one; afterwards nothing of it is left."""
    file = tmp_path / "greet.yaml"
    file.write_text(GREETING)
    environment = {**clean_environment(), "TMPDIR": str(tmp_path / "tmp"), "DALSEGNO_SERVER": ""}
    (tmp_path / "tmp").mkdir()
    command = [*DALSEGNO, "run", str(file), "-i", "name=Ada", "-o", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    assert ended.returncode == 0, ended.stderr
    assert '"said": "Hello, Ada"' in ended.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("before", [(), IN_BACKGROUND], ids=["", "in the background"])
def test_a_private_server_is_gone_with_its_run(tmp_path: Path, before: tuple[str, ...]) -> None:
    """SIGTERM in the middle of a run on a private server: services and data are gone, exit code as of Ctrl-C."""
    file = tmp_path / "long.yaml"
    file.write_text(GREETING.replace('Hello, <% $.name %>"}', 'x", delay: 60}'))
    (tmp_path / "tmp").mkdir()
    environment = {**clean_environment(), "TMPDIR": str(tmp_path / "tmp")}
    command = [*before, *DALSEGNO, "run", str(file), "-i", "name=Ada"]
    with subprocess.Popen(
        tied(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        assert "RUNNING" in run.stdout.readline()
        folder = wait_for(lambda: list((tmp_path / "tmp").iterdir()))[0]
        run.terminate()
        assert run.wait(40) == 130

    assert list((tmp_path / "tmp").iterdir()) == []
    assert [line for line in list_processes() if str(folder) in line] == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Provide one server for the tests of this file."""
    with serve(tmp_path_factory.mktemp("data")) as served:
        yield served


@pytest.fixture(scope="module")
def endpoints() -> Iterator[str]:
    """Provide the URL of the endpoints that the examples call."""
    command = [*DALSEGNO, "examples", "endpoints", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(tied(*command), stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[2].rstrip(";")
        finally:
            process.terminate()


RUNS: list[tuple[str, list[str], int, Any]] = [
    ("fan_out", [], 0, None),
    ("retry", [], 0, {"rate": 7.5, "source": "the exchange"}),
    ("sub_workflow", ["-i", 'cities=["Eastmarch"]'], 0, {"advice": ["Eastmarch: sun, leave it at home"]}),
    ("error_handling", ["-i", "city=Eastmarch"], 0, {"picnic": "21.0 degrees, go"}),
    ("error_handling", ["-i", "city=Nowhere"], 0, {"picnic": "stay: there is no city Nowhere"}),
    ("loop", ["-i", "n=6"], 0, {"steps": 8}),
    ("reverse", ["--params", '{"task_name": "test"}'], 0, None),
    ("workbook", ["-i", "city=Holmsey"], 0, {"sentence": "sun and 19.5 degrees in Holmsey"}),
    ("orquesta/fan_out", [], 0, None),
    ("orquesta/retry", [], 0, {"rate": 7.5, "source": "the exchange"}),
    ("orquesta/retry", ["-i", "attempts=0"], 0, {"rate": 7.25, "source": "yesterday"}),
    ("orquesta/sub_workflow", ["-i", 'cities=["Eastmarch"]'], 0, {"advice": ["Eastmarch: sun, leave it at home"]}),
    ("orquesta/advise_city", ["-i", "city=Greyhaven"], 0, {"advice": "Greyhaven: storm, take an umbrella"}),
    ("orquesta/error_handling", ["-i", "city=Eastmarch"], 0, {"city": "Eastmarch", "picnic": "21.0 degrees, go"}),
    (
        "orquesta/error_handling",
        ["-i", "city=Nowhere"],
        0,
        {"city": "Nowhere", "picnic": "stay: there is no city Nowhere"},
    ),
    (
        "orquesta/error_handling",
        ["-i", "city=Greyhaven"],
        1,
        {"city": "Greyhaven", "picnic": "8.0 degrees, too cold"},
    ),
    ("orquesta/loop", ["-i", "n=6"], 0, {"steps": 8}),
]


def copy_of(name: str, folder: Path) -> Path:
    """Return an example as a file."""
    file = folder / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(read_example(name))
    return file


@pytest.mark.parametrize(("name", "options", "code", "output"), RUNS, ids=lambda value: str(value)[:30])
def test_an_example_does_what_it_says(
    server: Served, endpoints: str, tmp_path: Path, name: str, options: list[str], code: int, output: Any
) -> None:
    """Each example runs to the end that its header promises."""
    file = copy_of(name, tmp_path)
    if name == "orquesta/sub_workflow":
        server.type("workflow", "create", copy_of("orquesta/advise_city", tmp_path))
    base = ["-i", f"base_url={endpoints}"] if "base_url" in file.read_text() else []
    ended = server.type("run", file, *base, *options, "--comment", name)

    assert ended.returncode == code, ended.stdout + ended.stderr
    [newest] = server.read("list", "--filter", "parent=", "--limit", "1")
    assert newest["comment"] == name
    if output is not None:
        assert newest["output"] == output


def test_a_failure_that_nobody_handles_is_exit_code_1(server: Served, endpoints: str, tmp_path: Path) -> None:
    """The example of error handling ends in ERROR when it is too cold, with its output for that case."""
    file = tmp_path / "error_handling.yaml"
    file.write_text(read_example("error_handling"))
    ended = server.type("run", file, "-i", f"base_url={endpoints}", "-i", "city=Greyhaven", "-o", "json")

    assert ended.returncode == 1
    assert '"picnic": false' in ended.stdout


def test_approval_pauses_and_goes_on(server: Served, tmp_path: Path) -> None:
    """The example of approval: exit code 4 at the pause, SUCCESS after the resume."""
    file = tmp_path / "approval.yaml"
    file.write_text(read_example("approval"))
    paused = server.type("run", file, "-i", "release=4.2")
    [execution] = server.read("list", "--filter", "workflow=release state=PAUSED")
    server.type("resume", execution["id"], "--comment", "tested")
    ended = server.type("watch", execution["id"])

    assert (paused.returncode, ended.returncode) == (4, 0)
    assert server.read("show", execution["id"])["output"] == {"done": "published build of 4.2"}


def test_a_callback_is_awaited_and_completed(server: Served, tmp_path: Path) -> None:
    """The example of a callback: it waits until `action complete` tells the result."""
    server.store(read_example("callback"), tmp_path)
    execution = server.type("start", "parcel", "-i", "parcel=K-113").stdout.strip()
    [attempt] = wait_for(
        lambda: [each for each in server.read("action", "attempts", execution) if each["state"] == "RUNNING"]
    )
    server.type("action", "complete", attempt["id"], "--result", '"signed"')
    ended = server.type("watch", execution)

    assert ended.returncode == 0
    assert server.read("show", execution)["output"] == {"message": "K-113 arrived: signed"}


def test_a_question_is_asked_and_answered(server: Served, tmp_path: Path) -> None:
    """The example of a question: the run pauses, an answer that does not fit is refused, one that fits ends it."""
    paused = server.type("run", copy_of("orquesta/approval", tmp_path), "-i", "release=4.2")
    [execution] = server.read("list", "--filter", "workflow=example.release state=PAUSED")
    [attempt] = [each for each in server.read("action", "attempts", execution["id"]) if each["state"] == "RUNNING"]
    refused = server.type("action", "complete", attempt["id"], "--result", '{"approved": "perhaps"}')
    server.type("action", "complete", attempt["id"], "--result", '{"approved": true}')
    ended = server.type("watch", execution["id"])

    assert (paused.returncode, refused.returncode, ended.returncode) == (4, 2, 0)
    assert server.read("show", execution["id"])["output"] == {"done": "published build of 4.2"}


@pytest.mark.parametrize(
    ("name", "workflow"), [("bootstrap", "bootstrap"), ("orquesta/bootstrap", "example.bootstrap")]
)
def test_the_phases_of_a_bootstrap_are_driven_from_outside(
    server: Served, tmp_path: Path, name: str, workflow: str
) -> None:
    """C5, C14 to C18: the example stops behind each phase that it is sent to, has done it and nothing of the next one;
    sent back, it undoes what came after; resumed, it does that again and ends."""
    server.type("workflow", "create", copy_of(name, tmp_path))
    started = server.type("start", workflow, "-i", "host=alpha.example.com", "--stop-at", "installed")
    execution = started.stdout.strip()
    paused = server.type("watch", execution, "--stop-at-pause")
    phases = [(server.read("show", execution)["paused_at"]["name"], tasks_of(server, execution))]
    for target in ("configured", "tested"):
        assert server.type("goto", execution, target, "--wait").returncode == 0
        phases.append((server.read("show", execution)["paused_at"]["name"], tasks_of(server, execution)))
    reached = server.read("checkpoints", execution)
    back = server.type("goto", execution, "installed", "--wait")
    undone = [(each["task_name"], each["result"]) for each in reverts_of(server, execution)]
    ended = server.type("resume", execution, "--wait")

    assert (paused.returncode, back.returncode, ended.returncode) == (4, 0, 0)
    assert {name for name, _ in undone} == {"set_up_network", "set_up_storage"}
    assert all("of alpha.example.com" in str(result) for _, result in undone)
    branches = {"install", "set_up_network", "set_up_storage", "configured"}
    assert phases == [("installed", {"install"}), ("configured", branches), ("tested", {*branches, "test"})]
    assert [each["name"] for each in reached["entries"]] == ["tested", "configured", "installed", "start"]
    packages = [f"{package} on alpha.example.com" for package in ("database", "queue", "web")]
    assert reached["entries"][2]["data"] == {"packages": packages}
    assert server.read("show", execution)["output"] == {"report": "alpha.example.com answers"}


@pytest.mark.parametrize(("name", "workflow"), [("poller", "poller"), ("orquesta/poller", "example.poller")])
def test_a_poller_without_end_keeps_its_last_rounds(
    server: Served, endpoints: str, tmp_path: Path, name: str, workflow: str
) -> None:
    """C19 to C22, C24: of the example there is only what belongs to its last 5 rounds: entries, tasks, changes and
    sub-workflows; it goes on counting."""
    execution = start_poller(server, endpoints, tmp_path, name, workflow)
    wait_for(lambda: rounds_of(server, execution)[0] >= 8, within_s=60)
    server.type("pause", execution, "--wait")
    rounds = rounds_of(server, execution)
    entries = server.read("checkpoints", execution)["entries"]
    changes = server.read("history", execution)
    tasks = {each["number"] for each in server.read("tasks", execution)}
    children = server.read("list", "--filter", f"parent={execution}")

    assert rounds == [rounds[0] - behind for behind in range(5)]
    assert changes[0]["consolidated"]["entry"] == {"name": "polled", "sequence": entries[-1]["sequence"]}
    assert changes[0]["sequence"] == entries[-1]["sequence"]
    assert server.read("show", execution)["first_sequence"] == entries[-1]["sequence"]
    assert len(tasks) <= 2 * 5 + 3, "the rounds that are kept, what begins, and the newest of each name"
    assert 4 <= len(children) <= 6
    assert {each["parent_task_number"] for each in children} <= tasks
    shown = server.type("show", execution).stdout
    assert f"history   from change {entries[-1]['sequence']} on; what was before is discarded" in shown
    assert server.type("goto", execution, "start").returncode == 2
    server.type("cancel", execution, "--wait")


@pytest.mark.parametrize(("name", "workflow"), [("poller", "poller"), ("orquesta/poller", "example.poller")])
def test_a_poller_is_forked_and_its_history_is_discarded(
    server: Served, endpoints: str, tmp_path: Path, name: str, workflow: str
) -> None:
    """C8, decision 21: a fork of the example stays at the round where it begins, then goes on with its own input, when
    the origin has been deleted too; a discard leaves nothing before the last round."""
    execution = start_poller(server, endpoints, tmp_path, name, workflow)
    wait_for(lambda: rounds_of(server, execution)[:1] >= [3], within_s=60)
    server.type("pause", execution, "--wait")
    round_number, revision = rounds_of(server, execution)[0], server.read("show", execution)["revision"]
    entry = server.read("checkpoints", execution)["entries"][0]["sequence"]
    asked = ("--from-checkpoint", "polled", "-i", "city=Larkhill", "-i", "every=4", "--stay")
    fork = server.read("rerun", execution, *asked)
    listed = server.read("list", "--forked-from", execution)
    shown = server.read("show", execution)
    discard = ("discard", execution, "--before", "polled")
    would = server.read(*discard, "--dry-run")["discards"]
    first = server.read(*discard)["first_sequence"]
    left = server.read("checkpoints", execution)["entries"]
    server.type("cancel", execution, "--wait")
    deleted = server.type("delete", execution)
    server.type("resume", fork["id"])
    wait_for(lambda: rounds_of(server, fork["id"])[0] > round_number, within_s=60)
    found = server.read("checkpoints", fork["id"])["entries"]
    server.type("cancel", fork["id"], "--wait")

    assert fork["state"] == "PAUSED"
    assert fork["forked_from"] == {"execution_id": execution, "sequence": entry, "checkpoint": "polled"}
    assert ([each["id"] for each in listed], shown["forks"], shown["revision"]) == (
        [fork["id"]],
        [fork["id"]],
        revision,
    )
    assert (would["before"]["sequence"], first, [each["sequence"] for each in left]) == (entry, entry, [entry])
    assert would["tasks"] >= min(round_number, 8)  # on a slow machine the example has discarded older rounds itself
    assert deleted.returncode == 0, deleted.stderr
    assert found[-1]["sequence"] == entry
    assert "clouds" in str(found[0]["data"]) or "Larkhill" in str(found[0]["data"])


@pytest.mark.parametrize(("name", "workflow"), [("poller", "poller"), ("orquesta/poller", "example.poller")])
def test_a_poller_that_fails_keeps_no_more(server: Served, tmp_path: Path, name: str, workflow: str) -> None:
    """C19: rounds that fail are handled and counted, and go as those that succeed."""
    execution = start_poller(server, "http://127.0.0.1:1", tmp_path, name, workflow)

    def failures() -> int:
        entries = server.read("checkpoints", execution)["entries"]
        return next((each["data"]["failures"] for each in entries if each["name"] == "polled"), 0)

    wait_for(lambda: failures() >= 9, within_s=60)
    server.type("pause", execution, "--wait")
    assert len(server.read("checkpoints", execution)["entries"]) == 5
    assert len(server.read("tasks", execution)) <= 2 * 5 + 3
    assert len(server.read("list", "--filter", f"parent={execution}")) <= 7
    server.type("cancel", execution, "--terminate")


def start_poller(server: Served, endpoints: str, folder: Path, name: str, workflow: str) -> str:
    """Start an example that polls as fast as it can; return its id."""
    for each in ("orquesta/advise_city", name):
        server.type("workflow", "create", copy_of(each, folder))
    return server.type("start", workflow, "-i", "every=0", "-i", f"base_url={endpoints}").stdout.strip()


def rounds_of(server: Served, execution: str) -> list[int]:
    """The numbers of the rounds of which there are entries, the newest first; [0] before the first one."""
    entries = server.read("checkpoints", execution)["entries"]
    return [each["data"]["rounds"] for each in entries if each["name"] == "polled"] or [0]


def reverts_of(server: Served, execution: str) -> list[dict[str, Any]]:
    """The attempts that undid something, in their order."""
    return [each for each in server.read("action", "attempts", execution) if each.get("revert")]


def tasks_of(server: Served, execution: str) -> set[str]:
    """The names of the tasks that have succeeded; nothing else has begun."""
    tasks = server.read("tasks", execution)
    assert {each["state"] for each in tasks} == {"SUCCESS"}
    return {each["name"] for each in tasks}


@pytest.mark.parametrize("name", list(find_examples()))
def test_an_example_has_no_problems(server: Served, tmp_path: Path, name: str) -> None:
    """Each example is a definition that can be stored, and calls nothing that is not there.

    The server may have to allow an action first: that is a warning.
    """
    server.type("workflow", "create", copy_of("orquesta/advise_city", tmp_path))

    *warnings, last = server.type("workflow", "validate", copy_of(name, tmp_path)).stdout.splitlines()
    assert last.startswith("no problems")
    assert all("--allow grpc.call=" in each for each in warnings)


def test_five_mistakes_are_five_problems_with_lines(server: Served, tmp_path: Path) -> None:
    """A file with five mistakes gets five lines, each with its line in the file; nothing is stored."""
    file = tmp_path / "bad.yaml"
    file.write_text(
        "version: '2.0'\n"
        "bad:\n"
        "  typo: 1\n"
        "  tasks:\n"
        "    one:\n"
        "      action: std.noop\n"
        "      on-success: nowhere\n"
        "    two:\n"
        "      action: std.noop\n"
        "      workflow: both\n"
        "    three:\n"
        "      action: std.echo output=<% $.( %>\n"
        "    four:\n"
        "      join: sometimes\n"
        "      action: std.noop\n"
    )
    checked = server.type("workflow", "validate", file)
    refused = server.type("workflow", "create", file)

    lines = [line for line in checked.stdout.splitlines() if line.startswith(str(file))]
    assert sorted(int(line.removeprefix(f"{file}:").split(":")[0]) for line in lines) == [3, 7, 10, 12, 14]
    assert (checked.returncode, refused.returncode) == (2, 2)
    assert server.type("workflow", "show", "bad").returncode == 2


def test_refusals_are_readable(server: Served, tmp_path: Path) -> None:
    """Missing and unknown inputs, unknown names, bad filters: one line each, with advice, exit code 2, no traceback."""
    server.store(GREETING, tmp_path)
    wrong = server.type("start", "greet", "-i", "nam=Ada")
    others = [
        server.type("start", "nowhere"),
        server.type("show", "no-id"),
        server.type("list", "--filter", "colour=red"),
        server.type("environment", "get", "nothing"),
    ]

    assert wrong.returncode == 2
    assert {line.strip().split(":")[0] for line in wrong.stderr.splitlines()[1:3]} == {"input.name", "input.nam"}
    for ended in others:
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: ")
        assert "Traceback" not in ended.stderr


def test_environments_and_standalone_actions(server: Served) -> None:
    """Environments are put, read, listed and deleted; a standalone action runs."""
    server.type("environment", "put", "staging", "-i", "region=north")

    assert server.read("environment", "get", "staging")["variables"] == {"region": "north"}
    assert [each["name"] for each in server.read("environment", "list")] == ["staging"]
    assert server.type("environment", "delete", "staging").returncode == 0
    ran = server.type("action", "run", "std.echo", "-i", "output=hello", "-o", "json")
    assert (ran.returncode, '"result": "hello"' in ran.stdout) == (0, True)
    assert server.type("action", "run", "std.fail").returncode == 1
