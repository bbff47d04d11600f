"""One api: its servicers, its engines, its readiness."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from dalsegno.api.access import AccessTokens
from dalsegno.api.actions import Actions
from dalsegno.api.environments import Environments
from dalsegno.api.executions import Executions
from dalsegno.api.follow import Follower
from dalsegno.api.homes import Homes
from dalsegno.api.reads import Reads
from dalsegno.api.settings import Settings
from dalsegno.api.system import System
from dalsegno.api.workflows import Workflows
from dalsegno.api.writes import Writes
from dalsegno.definitions.document import forget_expressions
from dalsegno.definitions.reading import MODULE as READING
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.caller_limits import CallerLimits, Limits
from dalsegno.rpc.guard import NO_LIMITS, Guard
from dalsegno.rpc.memory import give_back_now_and_then
from dalsegno.rpc.options import Auth
from dalsegno.rpc.peers import Peers
from dalsegno.rpc.server import Server
from dalsegno.store.store import Store
from dalsegno.v1 import (
    access_service_pb2_grpc,
    action_service_pb2_grpc,
    environment_service_pb2_grpc,
    execution_service_pb2_grpc,
    system_service_pb2_grpc,
    workflow_service_pb2_grpc,
)

_log = logging.getLogger("dalsegno.api")

SERVICES = (
    "dalsegno.v1.WorkflowService",
    "dalsegno.v1.ExecutionService",
    "dalsegno.v1.ActionService",
    "dalsegno.v1.EnvironmentService",
    "dalsegno.v1.SystemService",
    "dalsegno.v1.AccessService",
)
UNHURRIED = ("/dalsegno.v1.ExecutionService/WaitExecution", "/dalsegno.v1.ActionService/WaitAction")
READINESS_S = 0.5


class Api:
    """Serves the public API. Use it within one event loop."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._reads = Reads(store, settings.readers)
        homes = Homes()
        self._follower = Follower(self._reads, homes)
        self._engines = Peers("engine", settings.engines, self._follower.follow, settings.tls.calls, settings.token)
        writes = Writes(self._engines, homes)
        limits = Limits(settings.caller_calls, settings.caller_streams, settings.caller_starts)
        is_guarded = settings.auth == Auth.TOKENS
        names, issuers = settings.service_names, settings.issuers
        guard = Guard(self._reads.run, names, limits, issuers) if is_guarded else None
        self._server = Server(
            *(settings.listen, SERVICES, UNHURRIED),
            insecure=settings.insecure,
            tls=settings.tls.serves,
            guard=guard,
        )
        self._pool = Pool(0, modules=(READING,))
        counted = guard.limits if guard is not None else CallerLimits(NO_LIMITS)
        executions = Executions(self._reads, writes, self._follower, self._pool, settings.progress_s, counted)
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(executions, self._server.grpc)
        workflows = Workflows(self._reads, writes, self._pool)
        workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(workflows, self._server.grpc)
        actions = Actions(self._reads, writes, self._follower)
        action_service_pb2_grpc.add_ActionServiceServicer_to_server(actions, self._server.grpc)
        environments = Environments(self._reads, writes)
        environment_service_pb2_grpc.add_EnvironmentServiceServicer_to_server(environments, self._server.grpc)
        system_service_pb2_grpc.add_SystemServiceServicer_to_server(
            System(self._reads, self._engines), self._server.grpc
        )
        tokens = AccessTokens(self._reads, writes)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(tokens, self._server.grpc)
        self._readiness: asyncio.Task[None] | None = None
        self._memory: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Return the port that it listens on, after the start."""
        return self._server.port

    async def start(self) -> None:
        """Listen, and become ready when store and engine are. Raises CannotListen."""
        await self._server.start()
        await self._engines.start()
        self._follower.start()
        self._readiness = keep_running(self._keep_readiness, "readiness")
        self._memory = keep_running(partial(give_back_now_and_then, forget_expressions), "memory")

    async def stop(self) -> None:
        """End streams, let calls finish, close everything."""
        for task in (self._readiness, self._memory):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._server.stop(self._settings.grace_s)
        await self._follower.stop()
        await self._engines.stop()
        self._reads.close()
        await asyncio.to_thread(self._pool.close)

    async def _keep_readiness(self) -> None:
        """Update the health twice a second: whether the store is read and an engine accepts writes, else why not."""
        told: str | None = None
        while True:
            lost = "" if await self._reads.is_possible() else self._reads.lost
            away = "" if self._engines.is_ready else self._engines.told() or "no engine is known"
            reason = "; ".join(filter(None, (lost, away)))
            if reason != told:
                await self._server.set_ready(not reason, reason=reason)
                if not reason:
                    _log.info("ready")
                elif told is not None:  # at the start it is not ready yet, and that is nothing to tell
                    _log.warning("not ready: %s", reason)
                told = reason
            await asyncio.sleep(READINESS_S / 5 if reason else READINESS_S)
