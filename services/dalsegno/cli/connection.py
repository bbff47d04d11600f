"""The connection to a server: its address, its services, and retries while it restarts."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dalsegno.access.bearer import FILE_VARIABLE, BadToken, TokenFile, open_token_file
from dalsegno.cli.exits import UNREACHABLE, CommandError
from dalsegno.cli.references import References, completed
from dalsegno.cli.retries import COMMAND, Retries, is_cut
from dalsegno.cli.retries import RETRY_S as RETRY_S
from dalsegno.rpc.addresses import is_address
from dalsegno.rpc.channel import ACTOR_KEY, open_channel, reason_in, was_never_sent
from dalsegno.rpc.failure import read_failure
from dalsegno.rpc.handshake import Explainer, explain
from dalsegno.rpc.links import BadCredentials, links_of, variable_of
from dalsegno.rpc.peers import addresses_of
from dalsegno.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    action_service_pb2_grpc,
    environment_service_pb2_grpc,
    execution_service_pb2_grpc,
    workflow_service_pb2_grpc,
)

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

DEFAULT_SERVER = "127.0.0.1:7700"
"""The default address of `dalsegno serve` and of every other command."""

CALL_S = 30.0
HEALTH_S = 2.0
"""The time for the answer why a server is not ready."""

_LACKING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""How calls end whose server lacks something: its store, or an engine."""

Q = TypeVar("Q", bound=Message, contravariant=True)
A = TypeVar("A", bound=Message, covariant=True)


class Unary(Protocol[Q, A]):
    """A method of a stub that takes one message and returns one."""

    def __call__(
        self, request: Q, /, *, timeout: float | None = None, metadata: tuple[tuple[str, str], ...] | None = None
    ) -> Awaitable[A]:
        """Call it."""


class Connection:
    """The public services of one server that commands use."""

    def __init__(self, address: str, channel: grpc.aio.Channel, *, is_private: bool = False) -> None:
        self.address = address
        self.is_private = is_private
        """Whether the server ends with this command."""
        executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        self.references = References(executions.ListExecutions)
        """Completes short ids, in every request and for commands that need one earlier."""
        self.workflows = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        self.executions = completed(executions, self.references)
        actions = action_service_pb2_grpc.ActionServiceStub(channel)
        self.actions = completed(actions, self.references)
        self.access = access_service_pb2_grpc.AccessServiceStub(channel)
        self.environments = environment_service_pb2_grpc.EnvironmentServiceStub(channel)


def check_address(address: str) -> None:
    """Raise CommandError if this is not HOST:PORT."""
    host = address.rpartition(":")[0]
    if not is_address(address) or "/" in address or host.startswith("[") != host.endswith("]"):
        raise CommandError(f"--server {address}: not of the form HOST:PORT", f"for instance --server {DEFAULT_SERVER}")


def command_tls() -> ClientTls | None:
    """Return how the command calls its server, by its options `--tls-...`. Raises CommandError."""
    try:
        return links_of(COMMAND.tls, listens=False).calls
    except BadCredentials as error:
        raise CommandError(str(error)) from None


def command_token() -> TokenFile | None:
    """Return the token that the command shows to its server. Raises CommandError."""
    try:
        return open_token_file(COMMAND.token_file)
    except BadToken as error:
        raise CommandError(str(error)) from None


@asynccontextmanager
async def connect(address: str, *, is_private: bool = False) -> AsyncIterator[Connection]:
    """Yield a connection to the server at `address`, HOST:PORT."""
    check_address(address)
    COMMAND.address = address
    tls = None if is_private else command_tls()
    token = None if is_private else command_token()
    COMMAND.explainer = Explainer(address, tls)
    several = len(await addresses_of(address)) > 1  # a single server answers reads also when it is not ready
    async with open_channel(address, balanced=several, tls=tls, token=token) as channel:
        COMMAND.is_connected = lambda: channel.get_state() is grpc.ChannelConnectivity.READY
        try:
            yield Connection(address, channel, is_private=is_private)
        except grpc.aio.AioRpcError as error:
            if error.code() in _LACKING and not was_never_sent(error):
                with suppress(grpc.aio.AioRpcError):
                    COMMAND.reason = (await _ask_health(channel, HEALTH_S))[1]
            raise


def follow_hint(connection: Connection, execution_id: str) -> str:
    """Return what happens to an execution after the command, and how to follow it again."""
    if connection.is_private:
        return f"{execution_id} ends here, with the private server that it ran on"
    return f"{execution_id} continues; follow it with: dalsegno watch {execution_id}{at_server(connection.address)}"


def at_server(server: str) -> str:
    """Return the options by which a command reaches the server; "" if the command needs none."""
    known = os.environ.get("DALSEGNO_SERVER") or DEFAULT_SERVER
    return ("" if server in ("", known) else f" --server {server}") + caller_options()


def typed_token_file() -> str:
    """Return the file of the token that is typed; empty for none, and for that of the environment variable."""
    file = COMMAND.token_file
    return "" if file == os.environ.get(FILE_VARIABLE) else file


def typed_tls() -> dict[str, str]:
    """Return the settings of TLS that are typed, by name, without those of environment variables."""
    return {name: value for name, value in COMMAND.tls.items() if value and value != os.environ.get(variable_of(name))}


def caller_options() -> str:
    """Return the typed options of token and TLS, for a command that a message names: without them it is refused."""
    options = {f"--tls-{name}": value for name, value in typed_tls().items()}
    if file := typed_token_file():
        options["--token-file"] = file
    return "".join(f" {name} {shlex.quote(value)}" for name, value in options.items())


async def ask(method: Unary[Q, A], request: Q, retry_s: float = 0.0) -> A:
    """Call `method`; while the server is unavailable, retry for `retry_s` seconds and print so.

    Only for what may be repeated: reads, and writes with a request id. Raises grpc.aio.AioRpcError.
    """
    outer = COMMAND.exit_hint
    was_taken = False
    async with Retries(retry_s) as retries:
        while True:
            COMMAND.exit_hint = _repeat_hint(request) or outer  # from now on it may arrive
            try:
                answer = await method(request, timeout=CALL_S, metadata=actor_metadata())
            except grpc.aio.AioRpcError as error:
                was_taken = was_taken or not (was_never_sent(error) or read_failure(error).was_not_begun)
                cut = is_cut(error)
                if not was_taken or not (cut or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED):
                    COMMAND.exit_hint = outer
                if not cut:
                    raise
                await retries.wait(error)
            else:
                COMMAND.exit_hint = outer
                retries.answered()
                return answer


def _repeat_hint(request: object) -> str:
    """Return how to repeat a write that has no answer yet; empty for a read."""
    request_id = getattr(request, "request_id", "")
    if isinstance(request, access_service_pb2.CreateTokenRequest):  # another call makes another token
        return ""
    if not request_id or getattr(request, "dry_run", False):
        return ""
    return f"it is not known whether this was done; it is done once if you repeat it with --request-id {request_id}"


def actor_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata with the caller: DALSEGNO_ACTOR, else the user's name; `?` replaces what is not ASCII."""
    try:
        name = os.environ.get("DALSEGNO_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ()
    told = name.encode("ascii", "replace").decode()
    return ((ACTOR_KEY, "".join(each if each.isprintable() else "?" for each in told)),)


async def is_serving(address: str, within_s: float = 1.0, tls: ClientTls | None = None) -> bool:
    """Return whether a server answers at `address` that it is ready for calls. Raises CommandError if one is there
    that does not speak as this side does."""
    async with open_channel(address, tls=tls) as channel:
        try:
            return (await _ask_health(channel, within_s))[0]
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise CommandError(f"the server at {address}: {error.details()}", exit_code=UNREACHABLE) from None
            if told := await explain(address, tls):
                raise CommandError(f"the server at {address}: {told}", exit_code=UNREACHABLE) from None
            return False


async def _ask_health(channel: grpc.aio.Channel, within_s: float) -> tuple[bool, str]:
    """Return whether a server is ready for calls, and what it says that it lacks. Raises grpc.aio.AioRpcError."""
    stub = health_pb2_grpc.HealthStub(channel)
    call = stub.Check(health_pb2.HealthCheckRequest(), timeout=within_s)  # type: ignore[attr-defined]
    answer, metadata = await call, await call.trailing_metadata()
    return answer.status == health_pb2.HealthCheckResponse.SERVING, reason_in(metadata)


async def why_not_ready(address: str, tls: ClientTls | None = None) -> str:
    """Return why a server is not ready for calls; empty if it is."""
    async with open_channel(address, tls=tls) as channel:
        try:
            is_ready, reason = await _ask_health(channel, HEALTH_S)
        except grpc.aio.AioRpcError:
            return f"{address} does not answer"
        return "" if is_ready else reason or f"{address} is not ready"


async def wait_until_serving(address: str, within_s: float, tls: ClientTls | None = None) -> None:
    """Return once the server at `address` is ready. Raises CommandError when the time is over."""
    give_up_at = time.monotonic() + within_s
    while not await is_serving(address, tls=tls):
        if time.monotonic() > give_up_at:
            raise CommandError(f"the server at {address} did not become ready", exit_code=UNREACHABLE)
        await asyncio.sleep(0.05)
