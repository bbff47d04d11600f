"""Inputs: each follows from a seed and a number, and is written down so that it can be sent again."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import quote, urlencode

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.json_format import MessageToJson, SerializeToJsonError
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import MessageToString
from tests.fuzz.documents import draw_document, is_yaml
from tests.fuzz.material import ALIASES, Material, draw_filter
from tests.fuzz.messages import damage, draw_message, passes, write
from tests.hostile.exam import Case
from tests.hostile.forms import Grammar
from tests.hostile.jinja_forms import GRAMMAR as JINJA
from tests.hostile.yaql_forms import MISTRAL_GRAMMAR, ORQUESTA_GRAMMAR

from dalsegno.access.bearer import is_jwt, is_token
from dalsegno.gateway.contract import PUBLIC
from dalsegno.gateway.messages import parse_json
from dalsegno.v1 import engine_service_pb2, executor_service_pb2
from dalsegno.workflow.refusals import Refusal

ROUND = 4_000
"""After so many inputs over the wire the stand is set up anew."""


class Kind(StrEnum):
    """Where an input goes. The first five go over the wire, to processes; the others to the functions that read such
    texts in an api and an engine."""

    API = "api"
    """A request of gRPC, for any method of the public services."""
    ENGINE = "engine"
    """A request of EngineService, as an api makes it."""
    STREAM = "stream"
    """The messages of one stream of an executor; each counts."""
    GATEWAY = "gateway"
    """A request of HTTP: Connect in JSON or binary, gRPC-Web, a GET, or a webhook."""
    TOKEN = "token"
    """A request whose metadata are odd."""
    MESSAGE = "message"
    """The bytes of a request, as every server reads them before it serves."""
    BODY = "body"
    """A body in JSON, as the gateway reads it."""
    REPORT = "report"
    """A message of an executor, as an engine reads it."""
    DEFINITION = "definition"
    EXPRESSION = "expression"
    FILTER = "filter"


@dataclass(frozen=True)
class Input:
    """One input; for a stream, its messages."""

    kind: Kind
    target: str
    """The method, the path, or the type of the message."""
    parts: tuple[bytes, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    passing: int = 0
    """How many of its parts pass the first check."""

    @property
    def count(self) -> int:
        """How many inputs it is."""
        return max(1, len(self.parts))

    def written(self) -> str:
        """Return it as JSON, from which `read_input` makes it again."""
        parts = [base64.b64encode(each).decode() for each in self.parts]
        return json.dumps({"kind": self.kind, "target": self.target, "parts": parts, "headers": self.headers})

    def shown(self) -> str:
        """Return it for people: messages as texts."""
        texts = "\n".join(_shown(self, part)[:4_000] for part in self.parts)
        return f"{self.kind} {self.target} {list(self.headers)}\n{texts}"


def read_input(text: str) -> Input:
    """Return what `written` has written."""
    found = json.loads(text)
    parts = tuple(base64.b64decode(each) for each in found["parts"])
    headers = tuple((name, value) for name, value in found["headers"])
    return Input(Kind(found["kind"]), found["target"], parts, headers)


def _shown(sent: Input, part: bytes) -> str:
    method = methods().get(sent.target)
    if sent.kind is Kind.STREAM:
        descriptor: Any = executor_service_pb2.ConnectRequest.DESCRIPTOR
    elif method is not None and sent.kind in (Kind.API, Kind.ENGINE, Kind.TOKEN, Kind.MESSAGE):
        descriptor = method.input_type
    else:
        return repr(part)
    try:
        return MessageToString(GetMessageClass(descriptor).FromString(part), as_utf8=True)
    except Exception:  # it is damaged
        return repr(part)


@cache
def methods() -> dict[str, MethodDescriptor]:
    """Return every method that takes one request, by `/package.Service/Method`."""
    engine = cast(Any, engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"])
    return {f"/{service.full_name}/{each.name}": each for service in (*PUBLIC, engine) for each in service.methods}


@cache
def _public() -> tuple[str, ...]:
    return tuple(path for path in methods() if "EngineService" not in path)


@cache
def _writes() -> tuple[str, ...]:
    return tuple(path for path in methods() if "EngineService" in path)


def draw_wire(seed: int, number: int, tokens: Sequence[str] = ()) -> Input:
    """Return an input that goes over the wire. `tokens`: what servers have given, for fields with such names."""
    random = Random(f"{seed} wire {number}")
    material = Material(random, number // ROUND, tokens)
    kind = random.choices((Kind.API, Kind.ENGINE, Kind.STREAM, Kind.GATEWAY, Kind.TOKEN), weights=(44, 12, 12, 24, 8))[
        0
    ]
    return _DRAWN[kind](material)


def draw_here(seed: int, number: int) -> Input:
    """Return an input for a function of the services."""
    random = Random(f"{seed} here {number}")
    material = Material(random, 0)
    kinds = (Kind.MESSAGE, Kind.BODY, Kind.REPORT, Kind.DEFINITION, Kind.EXPRESSION, Kind.FILTER)
    return _DRAWN[random.choices(kinds, weights=(25, 17, 25, 8, 15, 10))[0]](material)


def _request(material: Material, kind: Kind, paths: Sequence[str]) -> Input:
    path = material.random.choice(paths)
    descriptor = methods()[path].input_type
    data = write(material.random, draw_message(material, descriptor))
    return Input(kind, path, (data,), passing=passes(descriptor, data))


def _api(material: Material) -> Input:
    return _request(material, Kind.API, _public())


def _engine(material: Material) -> Input:
    return _request(material, Kind.ENGINE, _writes())


def _message(material: Material) -> Input:
    return _request(material, Kind.MESSAGE, list(methods()))


def _stream(material: Material) -> Input:
    """Return the messages of a stream: mostly a Hello first, then anything, also what must not come then."""
    random = material.random
    descriptor: Descriptor = executor_service_pb2.ConnectRequest.DESCRIPTOR
    drawn: list[Any] = [draw_message(material, descriptor) for _ in range(1 + random.randrange(20))]
    if random.randrange(10):
        drawn = [each for each in drawn if each.WhichOneof("message") != "hello" or random.randrange(8) == 0]
        hello = draw_message(material, executor_service_pb2.Hello.DESCRIPTOR)
        first = executor_service_pb2.ConnectRequest(hello=cast(executor_service_pb2.Hello, hello))
        if random.randrange(8):
            _make_right(random, first.hello)
        for each in drawn:
            _make_readable(random, each)
        drawn.insert(0, first)
    parts = list(_until_its_end(write(random, each, 50) for each in drawn))
    return Input(Kind.STREAM, "/dalsegno.v1.ExecutorService/Connect", tuple(parts), passing=_passing(parts))


def _until_its_end(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the messages up to the one that ends the stream: what comes after it, no engine reads."""
    for number, part in enumerate(parts):
        yield part
        try:
            message = executor_service_pb2.ConnectRequest.FromString(part)
        except DecodeError:
            return
        kind = message.WhichOneof("message")
        if (kind == "hello") != (number == 0) or kind == "goodbye":
            return
        if (kind == "task_done" and not message.task_done.outcomes) or (kind == "credit" and message.credit.more < 1):
            return


def _make_right(random: Random, hello: Any) -> None:
    """Make a Hello one that an engine takes."""
    hello.slots, hello.credit = 1 + random.randrange(50), random.randrange(50)
    hello.executor_id = hello.executor_id.replace("\0", "")[:200] or "fuzz-1"
    del hello.actions[:]
    for name in random.sample(("fuzz.act", "fuzz.ask", "std.noop", "std.echo"), 1 + random.randrange(3)):
        hello.actions.add(name=name, safe_to_rerun=random.random() < 0.5, accepts_any=True)
    hello.labels.clear()
    given = Material(random, random.randrange(3))
    hello.session_id = given.execution_id() if random.randrange(3) == 0 else str(uuid.UUID(int=random.getrandbits(128)))
    held = {given.action_id(): max(1, each.delivery) for each in hello.in_flight}
    del hello.in_flight[:]
    for name, delivery in held.items():
        hello.in_flight.add(action_execution_id=name, delivery=delivery)


def _make_readable(random: Random, message: Any) -> None:
    """Make a later message of a stream one that does not end it, nearly always."""
    if random.randrange(15) == 0:
        return
    match message.WhichOneof("message"):
        case "credit":
            message.credit.more = 1 + random.randrange(9)
        case "goodbye" if random.randrange(4):
            message.heartbeat.SetInParent()
        case "task_done" if not message.task_done.outcomes:
            message.task_done.outcomes.add(outcome=random.randrange(8))
        case "inventory":
            del message.inventory.in_flight[3:]


def _passing(parts: Iterable[bytes]) -> int:
    return sum(passes(executor_service_pb2.ConnectRequest.DESCRIPTOR, each) for each in parts)


def _report(material: Material) -> Input:
    kinds = (executor_service_pb2.TaskDone, executor_service_pb2.Hello, executor_service_pb2.Inventory)
    descriptor: Descriptor = material.random.choice(kinds).DESCRIPTOR
    data = write(material.random, draw_message(material, descriptor))
    return Input(Kind.REPORT, descriptor.name, (data,), passing=passes(descriptor, data))


def _gateway(material: Material) -> Input:
    random = material.random
    if random.randrange(6) == 0:
        return _hook(material)
    path = random.choice(_public())
    method = methods()[path]
    message = draw_message(material, method.input_type)
    if random.randrange(2):
        body = write(random, message)
        does_pass, form = passes(method.input_type, body), "proto"
    else:
        body = _json_of(random, message)
        does_pass, form = _passes_json(method.input_type, body), "json"
    if method.server_streaming:
        framed = b"\0" + len(body).to_bytes(4, "big") + body
        return _http(random, path, framed, f"application/connect+{form}", passing=does_pass)
    if random.randrange(8) == 0:
        framed = b"\0" + len(body).to_bytes(4, "big") + body
        kind = "application/grpc-web+proto" if form == "proto" else "application/grpc-web+json"
        return _http(random, path, framed, kind, passing=does_pass)
    if method.GetOptions().idempotency_level == 1 and len(body) < 8_000 and random.randrange(5) == 0:
        query = {"encoding": form, "base64": "1", "message": base64.urlsafe_b64encode(body).decode()}
        return _http(random, f"GET {path}?{urlencode(query)}", b"", "", passing=does_pass)
    return _http(random, path, body, f"application/{form}", passing=does_pass)


def _hook(material: Material) -> Input:
    random = material.random
    about = random.choice(("token/" + quote(material.text("task_token")), "alias/" + quote(random.choice(ALIASES))))
    more = random.choice(("", "", "/heartbeat", "/odd"))
    query = random.choice(("", "?outcome=failed", "?namespace=team-a", "?outcome=odd", "?a=%ff", "?outcome=cancelled"))
    kind = random.choice(("application/json", "application/x-www-form-urlencoded", "text/plain", "image/png"))
    body = material.text("result").encode("utf-8", "replace")
    return _http(random, f"/hooks/{about}{more}{query}", body, kind, passing=more != "/odd" and kind != "image/png")


_HEADERS = (
    *(("x-request-id", "a b"), ("x-request-id", "x" * 200), ("x-dalsegno-actor", "anna"), ("x-odd-bin", "!!")),
    *(("connect-timeout-ms", "10"), ("connect-timeout-ms", "-5"), ("connect-timeout-ms", "9" * 30), ("te", "gzip")),
    *(("connect-protocol-version", "7"), ("accept-encoding", "gzip"), ("origin", "https://example.com"), ("x-a", "b")),
    *(("grpc-timeout", "1S"), ("grpc-timeout", "x"), ("content-encoding", "br"), ("content-encoding", "gzip")),
    *(("host", "evil.example.com"), ("x-dalsegno-actor", "a" * 300), ("user-agent", "x" * 3_000), ("cookie", "a=b")),
)
_REFUSED = frozenset(("te", "origin", "host", "content-encoding", "connect-protocol-version", "connect-timeout-ms"))
"""Headers of this list by which the gateway refuses a request before it looks at the body."""


def _http(random: Random, target: str, body: bytes, content_type: str, *, passing: bool) -> Input:
    headers = [("content-type", content_type)] if content_type else []
    if random.randrange(5) == 0:
        headers += random.sample(_HEADERS, 1 + random.randrange(2))
    if random.randrange(60) == 0:
        headers[:1] = [("content-type", random.choice(("", "text/html", "application/json; charset=odd")))]
        passing = False
    does_pass = passing and not any(name in _REFUSED for name, _ in headers)
    return Input(Kind.GATEWAY, target, (body,), tuple(headers), passing=does_pass)


def _json_of(random: Random, message: Any) -> bytes:
    try:
        text = MessageToJson(message, preserving_proto_field_name=random.random() < 0.5)
    except (ValueError, SerializeToJsonError):  # a time that JSON does not have
        text = "{}"
    data = text.encode("utf-8", "surrogatepass")
    match random.randrange(24):
        case 0:
            return damage(random, data)
        case 1:
            return data.replace(b'"', b"'", 2)
        case 2:
            return random.choice((b"", b"[]", b"null", b'{"a":' * 2_000, b'{"odd": 1}', b"\xef\xbb\xbf{}", b"{}{}"))
        case _:
            return data


def _passes_json(descriptor: Descriptor, body: bytes) -> bool:
    try:
        return passes(descriptor, parse_json(body, GetMessageClass(descriptor)))
    except Refusal:
        return False


def _body(material: Material) -> Input:
    path = material.random.choice(_public())
    descriptor = methods()[path].input_type
    body = _json_of(material.random, draw_message(material, descriptor))
    return Input(Kind.BODY, path, (body,), passing=_passes_json(descriptor, body))


def _token(material: Material) -> Input:
    """Return a request with an odd token, which passes the first check if it has the form of one."""
    random = material.random
    path = random.choice(_public())
    right = Random(f"token {random.randrange(9)}").randbytes(32)
    encoded = base64.urlsafe_b64encode(right).decode().rstrip("=")
    header = base64.urlsafe_b64encode(random.choice(_JWT_HEADERS)).decode().rstrip("=")
    payload = base64.urlsafe_b64encode(material.text("input").encode("utf-8", "replace")[:900]).decode().rstrip("=")
    shown = random.choice(
        (f"dst_{encoded}", f"dst_{encoded}", f"{header}.{payload}.{encoded}", f"{header}.{payload}.", f"dst_{encoded}x")
    )
    scheme = random.choice(("Bearer", "Bearer", "bearer", "BEARER  ", "Basic", ""))
    headers = [("authorization", f"{scheme} {shown}".strip())]
    if random.randrange(3) == 0:
        headers.append(random.choice((("x-dalsegno-actor", "root"), ("x-request-id", "a b"), ("x-odd-bin", "AAAA"))))
    data = draw_message(material, methods()[path].input_type).SerializeToString()
    does_pass = scheme.strip().lower() == "bearer" and (is_token(shown) or is_jwt(shown))
    return Input(Kind.TOKEN, path, (data,), tuple(headers), passing=does_pass)


_JWT_HEADERS = (
    *(b'{"alg":"none"}', b'{"alg":"HS256","kid":"a"}', b'{"alg":"RS256","typ":"JWT"}', b"{}", b"[]", b"\xff"),
    *(b'{"alg":["RS256"]}', b'{"alg":"ES256","crit":["x"],"x":1}', b'{"kid":' + b"[" * 900, b'{"alg":"RS256","kid":7}'),
)


def _definition(material: Material) -> Input:
    text = draw_document(material.random)
    return Input(Kind.DEFINITION, "", (text.encode("utf-8", "replace"),), passing=is_yaml(text))


def _expression(material: Material) -> Input:
    """Return an expression; whether it passes, is found when it is compiled."""
    random = material.random
    notation, language, grammar = random.choice(_GRAMMARS)
    kind = random.choice(grammar.heads)
    text = grammar.write(kind, 1 + random.randrange(3), random.choice, random.randrange)
    if random.randrange(10) == 0:
        text = damage(random, text.encode()).decode("utf-8", "replace")
    elif notation == "jinja":
        text = f"{{{{ {text} }}}}"
    return Input(Kind.EXPRESSION, f"{notation} {language}", (text.encode(),))


_GRAMMARS: tuple[tuple[str, str, Grammar], ...] = (
    ("yaql", "mistral", MISTRAL_GRAMMAR),
    ("yaql", "orquesta", ORQUESTA_GRAMMAR),
    ("jinja", "mistral", JINJA),
)


def case_of(sent: Input) -> Case:
    """Return the expression of an input."""
    notation, language = sent.target.split(" ")
    return Case(notation, language, sent.parts[0].decode("utf-8", "replace"))


def _filter(material: Material) -> Input:
    """Return a filter; whether it passes, is found when it is read."""
    return Input(Kind.FILTER, "", (draw_filter(material.random).encode("utf-8", "replace"),))


_DRAWN: dict[Kind, Callable[[Material], Input]] = {
    Kind.API: _api,
    Kind.ENGINE: _engine,
    Kind.STREAM: _stream,
    Kind.GATEWAY: _gateway,
    Kind.TOKEN: _token,
    Kind.MESSAGE: _message,
    Kind.BODY: _body,
    Kind.REPORT: _report,
    Kind.DEFINITION: _definition,
    Kind.EXPRESSION: _expression,
    Kind.FILTER: _filter,
}
