"""A gateway beside the services of a test, and requests to it by curl.

gateway = gateway_of(system, folder)
await gateway.start()
reply = await call(gateway.url, "ExecutionService/GetExecution", {"executionId": id})
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Service, System
from tests.tied import tied

PACKAGE = "/dalsegno.v1."
JSON = ("-H", "content-type: application/json")
STREAM = ("-H", "content-type: application/connect+json")
HTTP_2 = "--http2-prior-knowledge"


@dataclass(frozen=True, slots=True)
class Reply:
    """What curl has received."""

    status: int
    version: str
    """Of HTTP."""
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """The flags and the content of each message of a stream that is whole."""
        found, rest = [], self.body
        while len(rest) >= 5 and len(rest) >= (end := 5 + int.from_bytes(rest[1:5], "big")):
            found.append((rest[0], rest[5:end]))
            rest = rest[end:]
        return found


def gateway_of(system: System, folder: Path, *options: str) -> Service:
    """A gateway, not started, for the api of these services."""
    return Service("gateway", folder, ["--api", system.api.address, "--grace-s", "2", *options])


def url_of(gateway: Service) -> str:
    """Where it is reached without TLS."""
    return f"http://{gateway.address}"


def enveloped(message: object) -> bytes:
    """A message as it stands in a stream."""
    text = json.dumps(message).encode()
    return b"\0" + len(text).to_bytes(4, "big") + text


async def curl(*arguments: str, body: bytes | None = None, seconds: float = 20.0) -> Reply:
    """Run curl. What it has received when the time is over counts, too."""
    form = "%{stderr}%{http_code} %{http_version}"
    given = ("--data-binary", "@-") if body is not None else ()
    process = await asyncio.create_subprocess_exec(
        *tied("curl", "-sN", "-m", str(seconds), "-D", "/dev/stderr", "-w", form, *given, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, told = await process.communicate(body or b"")
    *heads, last = told.decode().split("\r\n\r\n")  # the head of an answer of its own is "100 Continue"
    lines = [line.partition(": ") for line in (heads[-1] if heads else "").splitlines()[1:]]
    status, version = last.split(" ")
    return Reply(int(status), version, {name.lower(): value for name, _, value in lines}, output)


async def call(gateway: Service, method: str, message: object, *arguments: str, seconds: float = 20.0) -> Reply:
    """Call a method with JSON."""
    body = json.dumps(message).encode()
    return await curl(f"{url_of(gateway)}{PACKAGE}{method}", *JSON, *arguments, body=body, seconds=seconds)


async def watch(gateway: Service, execution_id: str, *arguments: str, seconds: float = 20.0) -> Reply:
    """Watch an execution to its rest, or until the time is over."""
    body = enveloped({"executionId": execution_id, "fromFirstChange": True})
    at = f"{url_of(gateway)}{PACKAGE}ExecutionService/WatchExecution"
    return await curl(at, *STREAM, *arguments, body=body, seconds=seconds)


def messages_of(frames: Iterable[tuple[int, bytes]]) -> list[Any]:
    """The messages of a stream in JSON, without its end."""
    return [json.loads(content) for flags, content in frames if not flags & 2]


async def send_raw(gateway: Service, sent: bytes) -> bytes:
    """What comes back when this is sent and then the sending side is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    writer.write_eof()
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
