"""The SSH family, as in Mistral: std.ssh and std.ssh_proxied. Off until the operator allows them.

A host in the known_hosts file of the executor's user must have the key in this file; the key of another host is
accepted, as in Mistral.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalsegno.actions.action import ActionFailed, action
from dalsegno.workflow.value import VALUE_BYTES_MAX, byte_length

if TYPE_CHECKING:  # an extra, and slow to import
    import asyncssh

CONNECT_S = 60.0
"""The time for the connection and the login."""

_READ_BYTES = 65_536

_log = logging.getLogger(__name__)


@action("std.ssh", typed=False)
async def run(
    cmd: str,
    host: object,
    username: str,
    password: str | None = "",
    private_key_filename: str | None = None,
    private_key: str | None = None,
    port: int = 22,
) -> object:
    """Run a command on a host, or on several in turn; return its output, or the list of outputs. Off by default.

    `private_key_filename` is a file in ~/.ssh of the executor's user, or a whole path; `password` opens the key if it
    is locked, and logs in.
    """
    login = _Login(username, password, private_key_filename, private_key)
    return await _run_on_all(cmd, host, port, login, None)


@action("std.ssh_proxied", typed=False)
async def run_proxied(
    cmd: str,
    host: object,
    username: str,
    private_key_filename: str | None,
    gateway_host: str,
    gateway_username: str | None = None,
    password: str | None = None,
    proxy_command: str | None = None,
    private_key: str | None = None,
    port: int = 22,
    gateway_port: int = 22,
) -> object:
    """Run a command on a host through another one, with the same key and password for both. Off by default.

    `proxy_command` is a command of the executor's machine whose input and output lead to the gateway.
    """
    login = _Login(username, password, private_key_filename, private_key)
    through = _Login(gateway_username or username, password, private_key_filename, private_key)
    async with AsyncExitStack() as stack:
        options = {"proxy_command": proxy_command} if proxy_command else {}
        gateway = await _connect(stack, gateway_host, gateway_port, through, options)
        return await _run_on_all(cmd, host, port, login, gateway)


class _Login:
    """A login: the user and the credentials."""

    def __init__(self, username: str, password: str | None, filename: str | None, private_key: str | None) -> None:
        self.username = username
        self.password = password or None
        self.filename = filename
        self.private_key = private_key

    def options(self) -> dict[str, Any]:
        """Return the options for asyncssh. Workflows cannot use the executor's own keys and agent."""
        asyncssh = _library()
        keys = []
        if self.private_key:
            keys = [asyncssh.import_private_key(self.private_key, self.password)]
        elif self.filename:
            keys = [asyncssh.read_private_key(_key_path(self.filename), self.password)]
        return {
            "username": self.username,
            "password": self.password,
            "client_keys": keys or None,
            "agent_path": None,
            "config": None,
        }


async def _run_on_all(
    cmd: str, host: object, port: int, login: _Login, gateway: asyncssh.SSHClientConnection | None
) -> object:
    hosts = host if isinstance(host, list) else [host]
    options = {} if gateway is None else {"tunnel": gateway}
    outputs = []
    for each in hosts:
        async with AsyncExitStack() as stack:
            connection = await _connect(stack, str(each), port, login, options)
            outputs.append(await _run(connection, cmd, str(each)))
    return outputs if len(outputs) != 1 else outputs[0]


async def _connect(
    stack: AsyncExitStack, host: str, port: int, login: _Login, options: dict[str, Any]
) -> asyncssh.SSHClientConnection:
    asyncssh = _library()
    try:
        connection = await asyncssh.connect(
            host, port, known_hosts=_known_hosts(host, port), connect_timeout=CONNECT_S, **login.options(), **options
        )
    except (asyncssh.Error, OSError, ValueError) as error:
        # The error names only what failed: the text of a server or a key file may be confidential.
        _log.info("ssh to %s failed: %s", host, error)
        raise ActionFailed(f"Failed to connect to {host} by ssh: {_told(error)}") from error
    return await stack.enter_async_context(connection)


async def _run(connection: asyncssh.SSHClientConnection, cmd: str, host: str) -> str:
    asyncssh = _library()
    try:
        async with connection.create_process(cmd, errors="replace") as process:
            stdout, stderr = await asyncio.gather(_read_all(process.stdout), _read_all(process.stderr))
            done = await process.wait()
    except (asyncssh.Error, OSError) as error:
        raise ActionFailed(f"Failed to execute ssh cmd '{cmd}' on {host}: {_told(error)}") from error
    if done.exit_status != 0:
        raise ActionFailed(
            f"Failed to execute ssh cmd '{cmd}' on {host}: exit status {done.exit_status}",
            {"host": host, "status": done.exit_status, "stdout": stdout, "stderr": stderr},
        )
    return stdout


async def _read_all(stream: asyncssh.SSHReader[str]) -> str:
    parts: list[str] = []
    length = 0
    while part := await stream.read(_READ_BYTES):
        parts.append(part)
        length += byte_length(part)
        if length > VALUE_BYTES_MAX:
            raise ActionFailed(f"result too large: the command writes more than {VALUE_BYTES_MAX:,} bytes")
    return "".join(parts)


def _known_hosts(host: str, port: int) -> Any:
    """Return the known host keys; None: the host's key is not checked."""
    asyncssh = _library()
    path = Path("~/.ssh/known_hosts").expanduser()
    if not path.is_file():
        return None
    found = asyncssh.match_known_hosts(str(path), host, "", port)
    return str(path) if any(found) else None


def _key_path(filename: str) -> str:
    if ".." in Path(filename).parts:
        raise ActionFailed("private_key_filename must not contain '..'")
    return str(Path("~/.ssh").expanduser() / filename)


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", "")
    return str(reason or (error.strerror if isinstance(error, OSError) else "") or type(error).__name__)


def _library() -> Any:
    try:
        import asyncssh
    except ImportError:
        raise ActionFailed("this executor cannot speak SSH: install dalsegno[ssh] where it runs") from None
    return asyncssh
