"""Provide a server that gives scripted answers, and a way to type commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from dalsegno.cli.main import main
from dalsegno.rpc.channel import REASON_KEY
from dalsegno.rpc.errors import code_of, status_of, trailing_metadata
from dalsegno.v1 import (
    access_service_pb2,
    action_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    workflow_service_pb2,
)
from dalsegno.workflow.refusals import Unavailable

SERVICES = {
    "WorkflowService": workflow_service_pb2,
    "ExecutionService": execution_service_pb2,
    "ActionService": action_service_pb2,
    "EnvironmentService": environment_service_pb2,
    "AccessService": access_service_pb2,
}


@dataclass
class FakeApi:
    """Answers each method with what `answers` holds for it: a message, a list of messages for a stream, or an
    exception.

    A list of lists or a list for a unary method is one answer per call, the last one again and again.
    """

    address: str = ""
    answers: dict[str, list[Any]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    modules: dict[str, Any] = field(default_factory=lambda: SERVICES)
    lacks: str = ""
    """What its health says that it lacks."""

    def answer(self, method: str, *answers: Any) -> None:
        """Set the answers of `method`, one per call."""
        self.answers[method] = list(answers)

    def take(self, method: str, request: Message) -> Any:
        """Return the next answer."""
        self.requests.append(request)
        nothing = [] if method.startswith("List") else [Unavailable("the test told no answer")]
        left = self.answers.get(method) or nothing or [_empty_answer(method)]
        return left.pop(0) if len(left) > 1 else left[0]


class _Health(HealthServicer):
    """Says what a fake api lacks."""

    def __init__(self, api: FakeApi) -> None:
        super().__init__()
        self._api = api

    def Check(self, request: Any, context: Any) -> Any:
        """Answer with the reason, as the servers of the services do."""
        context.set_trailing_metadata(((REASON_KEY, self._api.lacks.encode()),))
        return super().Check(request, context)


def _empty_answer(method: str) -> Message:
    """Return the answer of a list method with no entries."""
    name = f"{method}Response"
    answer: Message = next(getattr(module, name)() for module in SERVICES.values() if hasattr(module, name))
    return answer


@dataclass
class Ended:
    """How a command ends."""

    exit_code: int
    out: str
    err: str


def _methods(api: FakeApi, name: str, module: Any) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    found: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in module.DESCRIPTOR.services_by_name[name].methods:
        coders = {
            "request_deserializer": getattr(module, method.input_type.name).FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if method.server_streaming:
            found[method.name] = grpc.unary_stream_rpc_method_handler(_stream(api, method.name), **coders)
        else:
            found[method.name] = grpc.unary_unary_rpc_method_handler(_unary(api, method.name), **coders)
    return found


def _refuse(context: grpc.ServicerContext, error: Exception) -> None:
    status = status_of(error, "r-1")
    context.set_trailing_metadata((("x-request-id", "r-1"), *trailing_metadata(status)))
    context.abort(code_of(error), status.message)


def _unary(api: FakeApi, method: str) -> Callable[[Message, grpc.ServicerContext], Any]:
    def serve(request: Message, context: grpc.ServicerContext) -> Any:
        answer = api.take(method, request)
        if isinstance(answer, Exception):
            _refuse(context, answer)
        return answer

    return serve


def _stream(api: FakeApi, method: str) -> Callable[[Message, grpc.ServicerContext], Iterator[Any]]:
    def serve(request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
        for message in api.take(method, request):
            if isinstance(message, Exception):
                _refuse(context, message)
            yield message

    return serve


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """Provide a running server with scripted answers."""
    fake = FakeApi()
    server = grpc.server(
        ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    )
    for name, module in SERVICES.items():
        handler = grpc.method_handlers_generic_handler(f"dalsegno.v1.{name}", _methods(fake, name, module))
        server.add_generic_rpc_handlers((handler,))
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    health_pb2_grpc.add_HealthServicer_to_server(_Health(fake), server)
    server.start()
    yield fake
    server.stop(0).wait()


@pytest.fixture
def type_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Provide a function that types a command and returns how it ends."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["dalsegno", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0 if code is None else 1, told.out, told.err)

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/unit/cli --write-golden` writes the golden files again."""
    parser.addoption("--write-golden", action="store_true", help="write tests/unit/cli/golden/*.txt anew")
