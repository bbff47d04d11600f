"""The permission table: it has every method of every server, and each rule fits the request of its method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1 import health_pb2
from tests.permissions import PAGE, written_rows

from dalsegno.access.grants import Role
from dalsegno.access.permissions import RULES, Scope
from dalsegno.gateway.contract import PUBLIC
from dalsegno.gateway.login import PATHS
from dalsegno.rpc.guard import Guard
from dalsegno.v1 import engine_service_pb2, executor_service_pb2
from dalsegno.workflow.refusals import PermissionDenied


def _services(*files: Any) -> Iterable[ServiceDescriptor]:
    return (each for file in files for each in cast("Any", file.DESCRIPTOR.services_by_name.values()))


OURS = [
    method for service in (*PUBLIC, *_services(engine_service_pb2, executor_service_pb2)) for method in service.methods
]

WORDS = {
    Scope.NAMESPACE: "the request's namespace",
    Scope.EXECUTION: "the execution's namespace",
    Scope.CALLBACK: "a callback",
    Scope.VALUE: "the resource's namespace",
    Scope.FILTER: "narrowed",
    Scope.EXECUTION_OR_FILTER: "the execution's namespace, or narrowed",
    Scope.EVERYWHERE: "all namespaces",
    Scope.ANYWHERE: "anything",
    Scope.OPEN: "nobody",
}
"""How tests/permissions.md calls each scope."""

NEEDED: dict[Scope, tuple[set[str], ...]] = {
    Scope.NAMESPACE: ({"namespace"},),
    Scope.EXECUTION: ({"execution_id"}, {"task_execution_id"}, {"action_execution_id"}),
    Scope.CALLBACK: ({"task_token", "alias", "namespace", "action_execution_id"},),
    Scope.VALUE: ({"execution_id", "task_execution_id", "action_execution_id", "definition_id", "environment"},),
    Scope.FILTER: ({"filter"},),
    Scope.EXECUTION_OR_FILTER: ({"execution_id", "filter"},),
}
"""By scope: the fields, all of one set of which a request has."""


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def test_the_table_is_what_reviewers_read() -> None:
    """tests/permissions.md, which people write, says of each method the same as the table of the services."""
    of_services = {
        (method.rpartition("/")[0].rpartition(".")[2], method.rpartition("/")[2]): (
            "nobody" if rule.scope is Scope.OPEN else rule.role.value,
            WORDS[rule.scope],
        )
        for method, rule in RULES.items()
    }
    assert {(row.service, row.method): (row.role, row.scope) for row in written_rows()} == of_services


def test_reviewers_read_of_every_path_of_the_gateway() -> None:
    """The page names the paths of the gateway that are no methods and no webhooks: what they need is nothing."""
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith("- *over HTTP*")]
    assert all(f"`{path}`" in line for path in (*PATHS, "/healthz", "/openapi.json"))


def test_the_table_has_every_method_and_no_other() -> None:
    """A method that is new in the contract fails here until somebody says who may call it."""
    others = {f"/{each.full_name}/{method.name}" for each in _services(health_pb2) for method in each.methods}
    others |= {f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo" for v in ("v1", "v1alpha")}
    assert set(RULES) - {"/grpc.health.v1.Health/List"} == {_path(each) for each in OURS} | others - {
        "/grpc.health.v1.Health/List"
    }


@pytest.mark.parametrize("method", OURS, ids=_path)
def test_a_rule_fits_its_request(method: MethodDescriptor) -> None:
    """Each rule finds in the request what it looks for, and a viewer calls only what changes nothing."""
    rule = RULES[_path(method)]
    fields = set(method.input_type.fields_by_name)
    assert rule.scope is not Scope.OPEN
    assert any(each <= fields for each in NEEDED.get(rule.scope, (set(),)))
    is_read = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    if method.containing_service in PUBLIC and rule.role is not Role.ADMIN and method.name != "ValidateDefinitions":
        assert is_read == (rule.role is Role.VIEWER)
    if "namespace" in fields or any("execution_id" in each for each in fields):
        assert rule.scope not in (Scope.ANYWHERE, Scope.EVERYWHERE), "it is about one namespace"


async def test_a_method_beyond_the_table_is_refused() -> None:
    """What the table does not have nobody may call, whatever token is shown."""

    async def unread(_: object) -> Any:
        raise AssertionError("the store is not read")

    with pytest.raises(PermissionDenied, match=r"it is not in the permission table"):
        await Guard(unread).identify("/dalsegno.v1.NewService/New", None, {}, ())
