"""Every method with every role, over the wire, compared with tests/permissions.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from tests.issuing import TestIssuer, jwks, rule, write_issuers
from tests.permissions import written_rows
from tests.unit.api.guarded import Caller, Guarded, add_token, guarded_system
from tests.unit.api.test_access import start_one

from dalsegno.gateway.contract import PUBLIC
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.jwt_directory import IssuerFile
from dalsegno.v1 import engine_service_pb2

HAVING = {
    "viewer": {"viewer", "operator", "author", "admin", "service"},
    "operator": {"operator", "admin", "service"},
    "author": {"author", "admin", "service"},
    "admin": {"admin", "service"},
}
"""Who may do what a role may."""

LISTS = {
    "ListExecutions",
    "CountExecutions",
    "ListWorkflows",
    "ListEnvironments",
    "ListActions",
    "ListActionExecutions",
}
REFUSED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


def _request(method: MethodDescriptor, execution_id: str, namespace: str) -> Any:
    """Return a request about this execution, or this namespace, that changes nothing."""
    request: Any = GetMessageClass(method.input_type)()
    given = {
        "namespace": namespace,
        "execution_id": execution_id,
        "task_execution_id": f"{execution_id}.1",
        "action_execution_id": f"{execution_id}.1.0.1",
        "dry_run": True,
        "filter": "" if method.name in LISTS else "state=PAUSED",
    }
    for field in method.input_type.fields:
        if field.containing_oneof is not None and method.name == "ReadValue":
            request.execution_id = execution_id
        elif field.name in given:
            setattr(request, field.name, given[field.name])
        elif field.name == "timeout":
            request.timeout.FromSeconds(0)
    if method.name == "ListActionExecutions":
        request.execution_id = execution_id
    return request


async def _code(channel: grpc.aio.Channel, method: MethodDescriptor, request: Any) -> grpc.StatusCode:
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = GetMessageClass(method.output_type)
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = kind(path, type(request).SerializeToString, answer.FromString)(request, timeout=20)
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        return error.code()
    call.cancel()
    return grpc.StatusCode.OK


async def _refused(caller: Caller, methods: list[Any], execution_id: str, namespace: str) -> set[str]:
    """Return the methods that a caller is refused."""
    codes = await asyncio.gather(
        *(_code(caller.channel, each, _request(each, execution_id, namespace)) for each in methods)
    )
    return {each.name for each, code in zip(methods, codes, strict=True) if code in REFUSED}


SSO = TestIssuer()


def _issuers(folder: Path) -> IssuerFile:
    """Return a file of issuers by which a group has the role whose name it has."""
    (folder / "keys.json").write_bytes(jwks(SSO.key))
    rules = [rule(grant, grant) for role in HAVING for grant in (f"{role}@team-a", f"{role}@team-b")]
    return IssuerFile(write_issuers(folder / "issuers.yaml", SSO.entry("keys.json", rules)))


async def _new_caller(system: Guarded, grant: str, *, of_issuer: bool) -> Caller:
    """Return a caller with a token of ours, or of an issuer (JWT)."""
    return await (system.caller(SSO.token(groups=[grant])) if of_issuer else system.granted(grant))


async def test_every_method_with_every_role(tmp_path: Path) -> None:
    """In its own namespace a caller may do exactly what the page says; in another one nothing but lists, which are
    empty; without a token nothing at all. It is the same with tokens of an issuer as with ours."""
    methods = [method for service in PUBLIC for method in service.methods]
    may = {
        row.method: {"service"} if row.scope == "all namespaces" else HAVING[row.role]
        for row in written_rows()
        if row.role in HAVING
    }
    assert {each.name for each in methods} == set(may)
    narrowed = LISTS - {"ListActionExecutions"} | {"GetServerInfo"}
    narrowed_writes = {each.name for each in methods if each.name.endswith("Executions") and each.name not in LISTS}
    async with guarded_system(tmp_path, is_started=False) as system:
        await system.start_engine()
        own_token = system.file(add_token(system.store, "api", "service"))
        await system.start_api(token=own_token, issuers=_issuers(tmp_path))
        there = await start_one(system, "team-a")
        for index, role in enumerate(("viewer", "operator", "author", "admin")):
            caller = await _new_caller(system, f"{role}@team-a", of_issuer=index % 2 == 0)
            own = await _refused(caller, methods, there, "team-a")
            assert own == {name for name, roles in may.items() if role not in roles}, role
            caller = await _new_caller(system, f"{role}@team-b", of_issuer=index % 2 == 1)
            foreign = await _refused(caller, methods, there, "team-a")
            open_lists = narrowed | (narrowed_writes if role in HAVING["operator"] else set())
            assert foreign == set(may) - open_lists, role
        executor = await _refused(await system.granted("executor"), methods, there, "team-a")
        assert executor == set(may)
        everywhere = await _refused(await system.granted("service"), methods, there, "team-a")
        assert everywhere == set()
        channel = open_channel(f"127.0.0.1:{system.api.port}")
        codes = [await _code(channel, each, _request(each, there, "team-a")) for each in methods]
        await channel.close()
        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}


@pytest.mark.parametrize("name", ["Submit", "SubmitMany", "Await", "Follow"])
async def test_only_a_service_calls_the_engine(tmp_path: Path, name: str) -> None:
    """An admin who reaches the engine's port cannot write past the api, in a name that it chooses."""
    service = cast("Any", engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"])
    method = service.methods_by_name[name]
    async with guarded_system(tmp_path) as system:
        admin = await system.granted("admin")
        request = GetMessageClass(method.input_type)()
        assert await _code(admin.engine, method, request) is grpc.StatusCode.PERMISSION_DENIED
