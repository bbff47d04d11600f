"""A server that is unavailable: the messages meanwhile and at the end, with and without Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tests.virtual_time import run_in_virtual_time

from dalsegno.cli.connection import DEFAULT_SERVER, at_server
from dalsegno.cli.retries import COMMAND, Retries, is_cut
from dalsegno.rpc.channel import REQUEST_ID_KEY
from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2
from dalsegno.workflow.refusals import NotBegun, Unavailable

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
NOWHERE = "127.0.0.1:1"
Type = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_errand() -> Iterator[None]:
    """Reset the state of the command, and handle Ctrl-C as in a terminal: test workers ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    COMMAND.reset()
    yield
    COMMAND.reset()
    signal.signal(signal.SIGINT, before)


def away() -> grpc.aio.AioRpcError:
    """Return the error of a call to a server that does not answer."""
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "away")


@pytest.mark.parametrize(
    ("code", "answered", "cut"),
    [
        (grpc.StatusCode.UNAVAILABLE, True, True),
        (grpc.StatusCode.INTERNAL, False, True),
        (grpc.StatusCode.UNKNOWN, False, True),
        (grpc.StatusCode.INTERNAL, True, False),
        (grpc.StatusCode.NOT_FOUND, False, False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, False, False),
    ],
)
def test_a_cut_call_is_told_from_an_answer(code: grpc.StatusCode, answered: bool, cut: bool) -> None:
    """A stream that a proxy resets comes as INTERNAL without the server's metadata; what the server says has them."""
    trailing = grpc.aio.Metadata((REQUEST_ID_KEY, "one")) if answered else grpc.aio.Metadata()
    assert is_cut(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "")) is cut


def test_a_command_prints_after_a_second_and_then_every_five_how_long_it_retries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command prints a message after a second and every five, and the error at the end."""
    COMMAND.address = NOWHERE

    printed_s: list[float] = []

    async def try_for_ever(retries: Retries) -> None:
        while True:
            await retries.wait(away())
            if not printed_s and capsys.readouterr().err:
                printed_s.append(asyncio.get_running_loop().time())

    async def course() -> float:
        async with Retries(7.5) as retries:
            with pytest.raises(grpc.aio.AioRpcError):
                await try_for_ever(retries)
        return asyncio.get_running_loop().time()

    ended_s = run_in_virtual_time(course())
    assert 1.0 <= printed_s[0] <= 1.5
    assert 6.5 <= ended_s <= 7.5
    assert capsys.readouterr().err == "still so after 6 s; trying for another 1 s\n"


def test_a_short_absence_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An absence of less than a second prints nothing; a longer one prints two lines."""

    async def course() -> None:
        async with Retries() as retries:
            await retries.wait(away())
            retries.answered()
            assert capsys.readouterr().err == ""
            for _ in range(5):
                await retries.wait(away())
            retries.answered()

    run_in_virtual_time(course())
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("the server does not answer; trying for another 19 s")
    assert last == "the server is back"


def test_a_server_that_cannot_be_connected_is_mentioned_before_any_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A connection that is not made prints a message after a second; a slow answer prints nothing."""

    async def course() -> None:
        async with Retries():
            await asyncio.sleep(1.6)
            assert capsys.readouterr().err == ""
            COMMAND.is_connected = lambda: False
            await asyncio.sleep(1.6)

    run_in_virtual_time(course())
    assert "does not answer" in capsys.readouterr().err


def interrupt_when(is_time: Callable[[], object]) -> None:
    """Press Ctrl-C when a condition holds."""

    def press() -> None:
        while not is_time():
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


def test_ctrl_c_while_watching_tells_how_to_come_back(api: Any, type_command: Type) -> None:
    """The output says that the execution continues and how to follow it again."""
    running = execution_pb2.Execution(id=ID, workflow="w", state=execution_pb2.EXECUTION_STATE_RUNNING)
    page = execution_service_pb2.WatchExecutionResponse()
    page.snapshot.execution.CopyFrom(running)
    gone = threading.Event()

    def messages() -> Iterator[Any]:
        yield page
        gone.wait(60)

    api.answer("WatchExecution", messages())
    interrupt_when(lambda: api.requests and COMMAND.exit_hint)
    ended = type_command("watch", ID, "-s", api.address)
    gone.set()

    assert ended.exit_code == 130
    assert ended.err == f"then:  {ID} continues; follow it with: dalsegno watch {ID} --server {api.address}\n"


@pytest.mark.parametrize(
    ("variable", "address", "told"),
    [
        ("", DEFAULT_SERVER, ""),
        ("", "127.0.0.1:1", " --server 127.0.0.1:1"),
        ("127.0.0.1:1", "127.0.0.1:1", ""),
        ("127.0.0.1:1", DEFAULT_SERVER, f" --server {DEFAULT_SERVER}"),
    ],
)
def test_a_command_that_is_named_reaches_the_server(
    variable: str, address: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option is there where the command would call another server: that of the variable, or the default one."""
    monkeypatch.setenv("DALSEGNO_SERVER", variable)

    assert at_server(address) == told


def test_ctrl_c_on_a_write_tells_what_is_not_known(api: Any, type_command: Type) -> None:
    """The output says that the write may be done, and that a repetition with its request id is safe."""
    api.answer("StartExecution", Unavailable("the engine is being restarted"))
    interrupt_when(lambda: api.requests and COMMAND.exit_hint)

    ended = type_command("start", "w", "-s", api.address)

    assert ended.exit_code == 130
    request_id = api.requests[0].request_id
    assert ended.err.splitlines()[-1] == (
        f"then:  it is not known whether this was done; it is done once if you repeat it with --request-id {request_id}"
    )


def test_ctrl_c_on_what_was_never_sent_tells_nothing(type_command: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts to connect it is known that nothing was sent: a write and a read print nothing."""
    wait = Retries.wait

    async def press_and_wait(self: Retries, error: grpc.aio.AioRpcError) -> None:
        signal.raise_signal(signal.SIGINT)
        await wait(self, error)

    monkeypatch.setattr(Retries, "wait", press_and_wait)
    for words in (["start", "w"], ["list"]):
        COMMAND.reset()
        ended = type_command(*words, "-s", NOWHERE)
        assert (ended.exit_code, ended.err) == (130, "")


def test_the_end_of_patience_tells_the_same_as_ctrl_c(
    api: Any, type_command: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People get the advice as a line, programs as a member of the error."""
    monkeypatch.setattr(Retries, "_left_s", lambda self: 0.0)
    api.answer("StartExecution", Unavailable("the engine is being restarted"))

    told = type_command("start", "w", "-s", api.address, "--request-id", "r-7")
    data = type_command("start", "w", "-s", api.address, "--request-id", "r-7", "-o", "json")

    assert (told.exit_code, data.exit_code) == (5, 5)
    assert told.err.splitlines()[-1].endswith("--request-id r-7")
    assert json.loads(data.err)["error"]["then"].endswith("--request-id r-7")


def test_what_the_server_lacks_is_told(api: Any, type_command: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers is not taken for one that is away: the error has what its health says. What it has not
    begun is not in doubt."""
    monkeypatch.setattr(Retries, "_left_s", lambda self: 0.0)
    api.lacks = "the store cannot be written: disk full"
    api.answer("StartExecution", NotBegun("the store cannot be written at present"))

    told = type_command("start", "w", "-s", api.address)
    data = type_command("start", "w", "-s", api.address, "-o", "json")

    assert (told.exit_code, data.exit_code) == (5, 5)
    assert told.err.splitlines() == [
        "error: the store cannot be written at present",
        "  its health says: the store cannot be written: disk full",
        "next:  correct that at the server, then repeat the command",
    ]
    assert json.loads(data.err)["error"]["lacks"] == api.lacks
    assert "then" not in json.loads(data.err)["error"]


def test_a_server_that_refuses_is_not_told_to_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """While the command tries again, the message has what the server says."""

    async def course() -> None:
        trailing = grpc.aio.Metadata((REQUEST_ID_KEY, "one"))
        refused = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, "the store is away")
        async with Retries() as retries:
            for _ in range(5):
                await retries.wait(refused)

    run_in_virtual_time(course())
    assert capsys.readouterr().err == "the store is away; trying for another 19 s (Ctrl-C stops)\n"


def test_ctrl_c_on_an_action_that_runs_tells_where_it_is_seen(api: Any, type_command: Type) -> None:
    """The output says that the action continues and how to see it."""
    running = execution_pb2.ActionExecution(id=f"{ID}.1.0.1", state=execution_pb2.ACTION_STATE_RUNNING)
    api.answer("RunAction", action_service_pb2.RunActionResponse(action_execution=running))
    api.answer("WaitAction", action_service_pb2.WaitActionResponse(action_execution=running))
    interrupt_when(lambda: "see it with" in COMMAND.exit_hint)

    ended = type_command("action", "run", "std.echo", "-s", api.address)

    assert (ended.exit_code, ended.err) == (
        130,
        f"then:  {ID}.1.0.1 continues; see it with: dalsegno action show {ID}.1.0.1\n",
    )
