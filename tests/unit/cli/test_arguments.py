"""Options mean the same in every command, may stand before the command, and choose the form of results and errors."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from dalsegno.cli.arguments import add_shared_options, move_options
from dalsegno.cli.main import app
from dalsegno.v1 import execution_pb2, execution_service_pb2
from dalsegno.workflow.refusals import NotFound

Type = Callable[..., Any]

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"


def commands(program: object, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Return every command with the words that name it."""
    if isinstance(program, TyperGroup):
        for name, command in program.commands.items():
            yield from commands(command, f"{path} {name}".strip())
    elif isinstance(program, TyperCommand):
        yield path, program


PROGRAM = typer.main.get_command(app)
add_shared_options(PROGRAM)
COMMANDS = dict(commands(PROGRAM))


def test_a_letter_is_the_same_option_in_every_command() -> None:
    """`-m`, `-w`, `-v` and `-o` mean the same in every command."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for command in COMMANDS.values():
        for option in command.params:
            short = [each for each in option.opts if not each.startswith("--") and each.startswith("-")]
            long = [each for each in option.opts if each.startswith("--")]
            for letter in short:
                meanings[letter].add(sorted(long)[0])

    assert {letter: names for letter, names in meanings.items() if len(names) > 1} == {}
    assert meanings["-o"] == {"--output"}
    assert meanings["-m"] == {"--comment"}
    assert meanings["-w"] == {"--wait"}
    assert meanings["-v"] == {"--version"}


def test_output_is_how_results_are_printed_in_every_command() -> None:
    """Wherever there is an `--output` it takes table, json or yaml, and the command takes -k and --time too."""
    for path, command in COMMANDS.items():
        by_name = {each.name: each for each in command.params}
        if "--output" in {name for each in command.params for name in each.opts}:
            assert {"output", "key", "time"} <= set(by_name), path


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        ("--server h:1 list --limit 3", "list --server h:1 --limit 3"),
        ("-s h:1 -o json workflow list", "workflow list -s h:1 -o json"),
        ("--server=h:1 -ojson workflow show w", "workflow show --server=h:1 -ojson w"),
        ("list --server h:1", "list --server h:1"),
        ("-s h:1 nonsense", "-s h:1 nonsense"),
        ("-s h:1", "-s h:1"),
        ("--version", "--version"),
    ],
)
def test_shared_options_may_stand_before_the_command(words: str, moved: str) -> None:
    """Options before the command are read as if they stood right after it, so a later one wins."""
    assert move_options(PROGRAM, words.split()) == moved.split()


def test_an_option_before_the_command_reaches_it(api: Any, type_command: Type) -> None:
    """`dalsegno --server HOST:PORT -o json list` asks that server and prints JSON."""
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse())

    ended = type_command("--server", api.address, "-o", "json", "list")

    assert (ended.exit_code, json.loads(ended.out)) == (0, [])


def test_errors_are_data_when_results_are(api: Any, type_command: Type) -> None:
    """With -o json a refusal is JSON on standard error: code, reason, message, advice, exit code; nothing on output."""
    api.answer("GetExecution", NotFound("execution", ID))

    ended = type_command("show", ID, "-s", api.address, "-o", "json")

    told = json.loads(ended.err)["error"]
    assert (ended.exit_code, ended.out) == (2, "")
    assert told["code"] == "NOT_FOUND"
    assert ID in told["message"]
    assert told["exit_code"] == 2
    assert "dalsegno list" in told["next"]


@pytest.mark.parametrize(
    "words", [("list", "-s", "nonsense"), ("show",), ("list", "--nonsense"), ("list", "--time", "x")]
)
def test_misuse_is_data_too(type_command: Type, words: tuple[str, ...]) -> None:
    """With -o json a mistake in the command line is printed as JSON too."""
    ended = type_command(*words, "-o", "json")

    assert json.loads(ended.err)["error"]["code"] == "USAGE"
    assert (ended.exit_code, ended.out) == (2, "")


def test_a_key_picks_a_field(api: Any, type_command: Type) -> None:
    """-k prints one field only: a text as it is, a value as JSON, and for a list one line for each entry."""
    execution = execution_pb2.Execution(id=ID, workflow="w", output='{"cities": [{"name": "Alderford"}], "n": 4.10}')
    api.answer("GetExecution", execution_service_pb2.GetExecutionResponse(execution=execution))
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse(executions=[execution, execution]))

    def typed(*words: str) -> str:
        return str(type_command(*words, "-s", api.address).out)

    assert typed("show", ID, "-k", "output.cities[0].name") == "Alderford\n"
    assert typed("show", ID, "-k", "output.n", "-o", "json") == "4.1\n"
    assert typed("show", ID, "-k", "state_info") == "\n"
    assert typed("list", "-k", "id") == f"{ID}\n{ID}\n"
    ended = type_command("show", ID, "-k", "output.towns", "-s", api.address)
    assert ended.err.splitlines() == ["error: -k output.towns: there is no towns", "next:  there is: cities, n"]


@pytest.mark.parametrize(
    ("style", "told"),
    [("utc", "2026-01-02 03:04:05Z"), ("Asia/Tokyo", "2026-01-02 12:04:05+09:00"), ("relative", "ago")],
)
def test_times_are_told_as_asked(api: Any, type_command: Type, style: str, told: str) -> None:
    """--time chooses how times are printed: relative to now, in UTC, or in a zone with its offset."""
    execution = execution_pb2.Execution(id=ID, workflow="w")
    execution.created_at.FromJsonString("2026-01-02T03:04:05Z")
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse(executions=[execution]))

    assert told in type_command("list", "--time", style, "-s", api.address).out


@pytest.mark.parametrize("words", [("start", "\udcff"), ("show", "@latest", "-k", "\udcff"), ("list", "-n", "a\udcff")])
def test_a_word_that_is_not_utf_8_is_refused(type_command: Type, words: tuple[str, ...]) -> None:
    """The command refuses bytes that no message can carry before it sends a request, and prints no traceback."""
    ended = type_command(*words)

    assert ended.exit_code == 2
    assert (
        ended.err
        == f"error: {words[-1].replace(chr(0xDCFF), '�')}: not UTF-8\nnext:  write it in UTF-8, or rename the file\n"
    )


@pytest.mark.parametrize("address", ["here:99999", "[::1:7700", "::1]:7700", "here:7²", "here"])
def test_what_is_no_address_is_refused_at_once(type_command: Type, address: str) -> None:
    """A command refuses a wrong address at once and does not wait for a server."""
    ended = type_command("list", "--server", address)

    assert ended.exit_code == 2
    assert f"--server {address}: not of the form HOST:PORT" in ended.err
