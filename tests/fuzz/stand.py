"""The services that inputs are sent to: an engine, an executor, an api and a gateway as processes, which ask for
tokens. Every fault that they log, and their memory, is looked at."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from tests.fuzz.documents import MISTRAL, ORQUESTA, PASSWORD, POINTS, SECRET
from tests.fuzz.material import WORKFLOWS, execution_ids
from tests.gateways import gateway_of
from tests.hostile.engine import pool_of, resident_mib
from tests.processes import CALL_S, Service, System
from tests.tokens import store_token, write_token

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.channel import open_channel
from dalsegno.secrets.keys import ensure_file
from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    workflow_service_pb2,
)

MEMORY_MIB = 700
"""No service has more resident memory than this: the cache of an engine is 256 MiB, roughly."""
ASKED = ("--auth", "tokens", "--log-level", "warning")
ROLES = ("admin", "service", "executor")
COVERED = Path(__file__).with_name("covered.py")
CANARY = """
version: '2.0'
fuzz_canary:
  tasks:
    sing: {action: std.echo output=la}
"""


class Stand:
    """A running system, what its callers show, and what it has given them."""

    def __init__(self, system: System, gateway: Service, folder: Path) -> None:
        self.system = system
        self.gateway = gateway
        self.services = [*system.services, gateway]
        self.admin = (folder / "admin.token").read_text().strip()
        self.api = open_channel(system.api.address)
        self.engine = open_channel(system.engine.address)
        self.tokens: list[str] = []
        """Page tokens and the like that servers have given."""
        self.memory_mib: dict[str, int] = {}
        """The most that each service has had; the engine with its evaluation processes apart."""
        self._pids = {each.name: each.pid for each in self.services}
        self._read: dict[str, int] = {}

    def metadata(self, kind: str) -> tuple[tuple[str, str], ...]:
        """Return the token for calls of a role: admin, service, or executor."""
        return TokenFile(str(self.system.api.log.parent / f"{kind}.token")).metadata

    async def set_up(self, number: int) -> None:
        """Give it definitions, an environment, and the executions of a round."""
        for text, name in ((MISTRAL, ""), (POINTS, ""), (ORQUESTA, "fuzz_orquesta"), (SECRET, ""), (CANARY, "")):
            for namespace in ("", "team-a"):
                request = workflow_service_pb2.CreateDefinitionsRequest(text=text, name=name, namespace=namespace)
                await self.system.workflows.CreateDefinitions(request, timeout=CALL_S)
        put = environment_service_pb2.PutEnvironmentRequest(name="stage", variables='{"word": "hi"}')
        await self.system.environments.PutEnvironment(put, timeout=CALL_S)
        for index, execution_id in enumerate(execution_ids(number)):
            start = execution_service_pb2.StartExecutionRequest(
                workflow=WORKFLOWS[index % len(WORKFLOWS)],
                input=json.dumps({"password": PASSWORD}) if WORKFLOWS[index % len(WORKFLOWS)] == "fuzz_secret" else "",
                execution_id=execution_id,
                namespace="team-a" if index % 3 == 0 else "",
                on_conflict=execution_service_pb2.ON_CONFLICT_USE_EXISTING,
                labels={"team": "red"},
            )
            with suppress(grpc.aio.AioRpcError):  # fuzzed requests may have taken the id in another namespace
                await self.system.executions.StartExecution(start, timeout=CALL_S)
        await self._take_tokens()

    async def _take_tokens(self) -> None:
        listing = execution_service_pb2.ListExecutionsRequest(page_size=1)
        page = await self.system.executions.ListExecutions(listing, timeout=CALL_S)
        actions = action_service_pb2.ListActionExecutionsRequest(page_size=1)
        acts = await self.system.actions.ListActionExecutions(actions, timeout=CALL_S)
        watch = execution_service_pb2.WatchExecutionRequest(execution_id=page.executions[0].id)
        stream = self.system.executions.WatchExecution(watch, timeout=CALL_S)
        message: Any = await stream.read()
        stream.cancel()
        given = (page.next_page_token, acts.next_page_token, message.resume_token)
        self.tokens[:] = [each for each in given if each]

    async def sing(self) -> float:
        """Run the canary through api, engine and executor. Return the seconds that it took."""
        began_s = time.monotonic()
        await self.system.define(CANARY)
        execution = await self.system.run("fuzz_canary")
        assert execution.output, execution
        return time.monotonic() - began_s

    def faults(self) -> list[str]:
        """Return what has gone wrong since this was called before, by what services say and are."""
        found = []
        for service in self.services:
            if not service.is_running or service.pid != self._pids[service.name]:
                found.append(f"{service.name} has died\n{service.new_log()}")
                continue
            found += [f"{service.name} logs a fault: {line[:4_000]}" for line in self._new_errors(service)]
            used = max(map(resident_mib, (service.pid, *pool_of(service.pid))))
            self.memory_mib[service.name] = max(used, self.memory_mib.get(service.name, 0))
            if used > MEMORY_MIB:
                found.append(f"{service.name} has {used} MiB")
        return found

    def _new_errors(self, service: Service) -> Iterable[str]:
        with service.log.open("rb") as log:
            log.seek(self._read.get(service.name, 0))
            lines = log.read().decode("utf-8", "replace").splitlines()
            self._read[service.name] = log.tell()
        return [line for line in lines if _is_fault(line)]


def _is_fault(line: str) -> bool:
    if PASSWORD in line:
        return True
    if not line.startswith("{"):
        return "Traceback (most recent call last)" in line
    with suppress(ValueError):
        told = json.loads(line)
        return "traceback" in told or told.get("level") == "critical"
    return False  # it is written just now


def make_tokens(folder: Path, database: str) -> None:
    """Store a token for each role that calls, and write it into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        write_token(folder / f"{role}.token", store_token(database, role, role))


@asynccontextmanager
async def open_stand(folder: Path, *, with_coverage: bool = False) -> AsyncIterator[Stand]:
    """Provide a running stand; in the end every journal must equal the rows."""
    database = f"sqlite:///{folder}/store.db"
    make_tokens(folder, database)
    files = {name: str(folder / f"{name}.token") for name in ROLES}
    ensure_file(folder / "secrets.key")
    system = System(
        folder,
        database=database,
        token=TokenFile(files["admin"]),
        engine=(*ASKED, "--secret-keys", str(folder / "secrets.key")),
        api=(*ASKED, "--token-file", files["service"]),
        executor=("--token-file", files["executor"]),
    )
    gateway = gateway_of(system, folder, *ASKED)
    if with_coverage:
        os.environ["COVERAGE_FILE"] = str(folder / "coverage")
        for each in (system.engine, system.api, gateway):
            each.launcher = (str(COVERED),)
    async with system:
        await gateway.start()
        stand = Stand(system, gateway, folder)
        try:
            yield stand
        finally:
            await stand.api.close()
            await stand.engine.close()
            gateway.stop()
    differences = system.findings()
    assert differences == [], differences[:20]
