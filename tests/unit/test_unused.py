"""What nobody uses goes: no definition of the services is there for nothing, or for tests only."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from vulture import Vulture
from vulture.core import Item

from dalsegno.v1 import (
    access_service_pb2,
    action_service_pb2,
    engine_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    executor_service_pb2,
    system_service_pb2,
    workflow_service_pb2,
)

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "services" / "dalsegno"

REGISTERED = [
    *("@action*", "@app.*", "@_sharing.*"),  # actions; commands
    *("@builtin*", "@_kept*", "@pass_context", "@specs.name*"),  # functions of expressions
    "@sa.event.*",
]
"""Decorators that give a function to whoever calls it."""

FROM_OUTSIDE = [
    *("ignore_aliases", "indentless", "allow_block", "fetch_alias", "fetch_anchor"),  # PyYAML
    *("visit_Compare", "visit_Concat", "intercepted_binops", "code_generator_class", "call_binop"),  # Jinja
    *("paste", "__self"),  # the code that Jinja generates
    *("_srcfile", "logMultiprocessing", "logProcesses", "logThreads"),  # logging
    *("intercept_service", "isolation_level"),  # grpc; sqlite3
    "read_max_bytes",  # connectrpc
    *("ssl_enabled", "create_ssl_context"),  # Hypercorn
    *("tls_ca", "tls_certificate", "tls_key", "tls_server_name"),  # options and settings of commands, by name
    *("read_pickled", "load_pickled"),  # evaluation processes, by name
    *("users", "kwarg_op"),  # parameters of actions that have no effect here
    "deterministic",  # of a protocol
    "__getattr__",  # of modules
    "articles",  # of a result in an example
    "JSON",  # chosen on the command line
    "source_count",  # a column, for people who read the database
]
"""Names by which libraries, other processes and people find what is ours."""

CONTRACT: list[FileDescriptor] = [
    access_service_pb2.DESCRIPTOR,
    action_service_pb2.DESCRIPTOR,
    engine_service_pb2.DESCRIPTOR,
    environment_service_pb2.DESCRIPTOR,
    execution_service_pb2.DESCRIPTOR,
    executor_service_pb2.DESCRIPTOR,
    system_service_pb2.DESCRIPTOR,
    workflow_service_pb2.DESCRIPTOR,
]


def names_of(file: FileDescriptor) -> set[str]:
    """Return the rpcs of a file, which grpc calls, and the fields that an answer is given by assignment."""
    rpcs = {rpc.name for service in file.services_by_name.values() for rpc in service.methods}
    messages = [message for each in (file, *file.dependencies) for message in each.message_types_by_name.values()]
    return rpcs | {field.name for message in messages for field in message.fields}


@cache
def list_unused() -> list[Item]:
    """Return what vulture finds in the services that their own code does not name."""
    found = Vulture(ignore_decorators=REGISTERED)
    found.scavenge([PACKAGE], exclude=[f"{PACKAGE}/v1/*", f"{PACKAGE}/store/migrations/*"])
    unused: list[Item] = found.get_unused_code()
    return unused


def test_nothing_is_there_for_nobody() -> None:
    """Every definition is used by the services themselves, or by whom FROM_OUTSIDE and the contract name."""
    used = set().union(FROM_OUTSIDE, *map(names_of, CONTRACT))
    assert [
        f"{Path(item.filename).relative_to(ROOT)}:{item.first_lineno} {item.typ} {item.name}"
        for item in list_unused()
        if item.name not in used
    ] == []


def test_exceptions_are_needed() -> None:
    """Each name in FROM_OUTSIDE is of something that would be found without it."""
    assert set(FROM_OUTSIDE) <= {item.name for item in list_unused()}
