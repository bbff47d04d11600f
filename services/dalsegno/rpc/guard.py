"""Who calls, and whether it may: asked before each call of a server that asks for tokens.

    authorization, certificate ──identify──▶ Caller ──permit: the table of access/permissions.py──▶ the servicer

`permit` narrows the filter of a list to the namespaces that its caller may see, so servicers need no checks.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dalsegno.access.bearer import KEY, is_jwt
from dalsegno.access.callers import HOLDER, ByCertificate, Caller
from dalsegno.access.grants import EVERY, Grant, Role
from dalsegno.access.permissions import RULES, Rule, Scope
from dalsegno.rpc.caller_limits import CallerLimits, Limits
from dalsegno.rpc.channel import actor_in
from dalsegno.rpc.token_directory import HOW, Run, TokenDirectory
from dalsegno.store.filters import check_closed
from dalsegno.store.store import Queries
from dalsegno.workflow.refusals import InvalidRequest, NotFound, PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from dalsegno.rpc.certificate_callers import CertificateCallers
    from dalsegno.rpc.jwt_directory import IssuerFile, JwtDirectory

KNOWN_S = 10.0
"""How long the namespace of an execution is remembered. Its id may be used again after it was deleted."""
KNOWN_MAX = 100_000

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

NO_LIMITS = Limits()
_UNKNOWN = Caller("")


class Guard:
    """Checks the calls of one server."""

    def __init__(
        self,
        run: Run,
        service_names: Collection[str] = (),
        limits: Limits = NO_LIMITS,
        issuers: IssuerFile | None = None,
    ) -> None:
        """`run` reads the store. `service_names`: the names in certificates of our own services; `limits`: of each
        caller; `issuers`: whose tokens count beside ours."""
        self.limits = CallerLimits(limits)
        self._run = run
        self.service_names = frozenset(service_names)
        self._tokens = TokenDirectory(run)
        self._jwts: JwtDirectory | None = None
        self._certificates: CertificateCallers | None = None
        if issuers is not None:
            self._jwts, self._certificates = _others(issuers)
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """The namespaces of executions and definitions by id, and when each was read."""

    async def identify(
        self, method: str, request: Any, metadata: Mapping[str, Any], names: Iterable[str], certificate: bytes = b""
    ) -> Caller:
        """Return who calls. `request`: None for a stream of requests; `names`: those in the caller's `certificate`, a
        PEM text.

        Raises Unauthenticated, Unavailable, and PermissionDenied for a method that is not in the table.
        """
        rule = RULES.get(method)
        if rule is None:
            raise PermissionDenied(f"nobody may call {method[:200]}: it is not in the permission table")
        if rule.scope is Scope.OPEN:
            return _UNKNOWN
        if KEY in metadata:
            caller = await self._find(_token_in(metadata[KEY]))
        elif name := next((each for each in sorted(names) if each in self.service_names), ""):
            caller = Caller(name, (Grant(Role.SERVICE),))
        elif self._certificates is not None and (known := self._certificates.find(certificate)) is not None:
            caller = known
        elif rule.scope is Scope.CALLBACK and _shows_task_token_only(request):
            return Caller(HOLDER)
        else:
            others = ", or a certificate that the file of --issuers names" if self.takes_certificates else ""
            raise Unauthenticated(f"this server asks for a token (authorization: Bearer TOKEN){others}; {HOW}")
        if (actor := actor_in(metadata)) and caller.has_everywhere(Role.SERVICE):
            return replace(caller, name=actor)
        return caller

    def check(self, caller: Caller) -> None:
        """Raise Unauthenticated if a caller with an open call is not valid any more; Unavailable if it has to call
        again."""
        if self._certificates is not None and isinstance(caller.origin, ByCertificate):
            self._certificates.check(caller)
        elif self._jwts is not None and caller.origin is not None:
            self._jwts.check(caller)
        else:
            self._tokens.check(caller)

    @property
    def takes_certificates(self) -> bool:
        """Return whether callers that are no services may be known by certificates."""
        return self._certificates is not None and self._certificates.are_any

    @property
    def told(self) -> str:
        """Return what of others it cannot read at present; empty if it can read all."""
        return self._jwts.told if self._jwts is not None else ""

    async def keep_up(self, refreshed: Callable[[], None]) -> None:
        """Look for ever who is valid, and call `refreshed` at least once a second."""
        async with asyncio.TaskGroup() as looking:
            looking.create_task(self._tokens.keep_up(refreshed))
            if self._jwts is not None:
                looking.create_task(self._jwts.keep_up(refreshed))

    async def _find(self, token: str) -> Caller:
        if not is_jwt(token):
            return await self._tokens.find(token)
        if self._jwts is None:
            raise Unauthenticated(f"this server takes no tokens of others (JWT): it has no --issuers; {HOW}")
        return await self._jwts.find(token)

    async def permit(self, caller: Caller, method: str, request: Any) -> None:
        """Raise PermissionDenied unless a caller may make this call; a list is narrowed to what it may see.

        `request`: None for a stream of requests. Also raises NotFound for an execution that does not exist.
        """
        rule = RULES[method]
        if rule.scope is Scope.OPEN or caller.has_everywhere(rule.role):
            return
        match rule.scope:
            case Scope.EVERYWHERE:
                raise _denied(caller, rule.role, "all namespaces (*)")
            case Scope.ANYWHERE:
                if not caller.patterns(rule.role):
                    raise _denied(caller, rule.role, "anything")
            case Scope.NAMESPACE:
                await self._permit_namespace(caller, rule, request)
            case Scope.EXECUTION:
                await self._permit_execution(caller, rule.role, _execution_id(request))
            case Scope.CALLBACK:
                await self._permit_callback(caller, rule.role, request)
            case Scope.VALUE:
                await self._permit_value(caller, rule.role, request)
            case Scope.EXECUTION_OR_FILTER if request.execution_id:
                await self._permit_execution(caller, rule.role, request.execution_id)
            case Scope.FILTER | Scope.EXECUTION_OR_FILTER:
                _narrow(caller, rule.role, request)

    async def _permit_namespace(self, caller: Caller, rule: Rule, request: Any) -> None:
        definition_id = getattr(request, "definition_id", "")
        if definition_id:
            await self._permit_definition(caller, definition_id)
        if not definition_id or rule.role is not Role.VIEWER:
            _check(caller, rule.role, request.namespace)

    async def _permit_definition(self, caller: Caller, definition_id: str) -> None:
        namespace = await self._namespace("definition_id", "definition", definition_id, _of_definition)
        if not caller.has(Role.VIEWER, namespace):
            raise _denied(caller, Role.VIEWER, f"the namespace of definition {definition_id}")

    async def _permit_execution(self, caller: Caller, role: Role, execution_id: str) -> None:
        namespace = await self._namespace("execution_id", "execution", execution_id, _of_execution)
        if caller.has(role, namespace):
            return
        if not caller.has(Role.VIEWER, namespace):  # it is not told the name
            raise _denied(caller, role, f"the namespace of execution {execution_id}")
        raise _denied(caller, role, shown(namespace))

    async def _permit_callback(self, caller: Caller, role: Role, request: Any) -> None:
        if _shows_task_token_only(request):
            return
        if request.action_execution_id:
            await self._permit_execution(caller, role, _execution_id(request))
        if request.alias or not request.action_execution_id:
            _check(caller, role, request.namespace)

    async def _permit_value(self, caller: Caller, role: Role, request: Any) -> None:
        match request.WhichOneof("resource"):
            case "definition_id":
                await self._permit_definition(caller, request.definition_id)
            case "environment":
                _check(caller, role, request.environment.namespace)
            case _:
                await self._permit_execution(caller, role, _execution_id(request))

    async def _namespace(self, field: str, kind: str, thing_id: str, read: Callable[[Queries, str], str | None]) -> str:
        """Return the namespace of an execution or a definition. Raises NotFound and InvalidRequest."""
        if not _UUID.fullmatch(thing_id):
            told = f"{thing_id[:64]!r} does not begin with a UUID" if thing_id else "is missing"
            raise InvalidRequest.of(field, told)
        known = self._known.get(thing_id)
        if known is not None and known[1] + KNOWN_S > time.monotonic():
            return known[0]
        namespace: str | None = await self._run(lambda queries: read(queries, thing_id))
        if namespace is None:
            raise NotFound(kind, thing_id)
        self._known[thing_id] = namespace, time.monotonic()
        self._known.move_to_end(thing_id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return namespace


def _others(issuers: IssuerFile) -> tuple[JwtDirectory, CertificateCallers]:
    """Return who else is known, by what others have made."""
    from dalsegno.rpc.certificate_callers import CertificateCallers
    from dalsegno.rpc.jwt_directory import JwtDirectory  # these load cryptography: not for tokens of ours

    return JwtDirectory(issuers), CertificateCallers(issuers)


def _token_in(header: object) -> str:
    scheme, _, token = str(header).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _shows_task_token_only(request: Any) -> bool:
    return bool(request is not None and request.task_token and not request.action_execution_id and not request.alias)


def _execution_id(request: Any) -> str:
    """Return the id of the execution that a request names, alone or as the beginning of another id."""
    for name in ("execution_id", "task_execution_id", "action_execution_id"):
        if found := getattr(request, name, ""):
            return str(found).partition(".")[0]
    return ""


def _narrow(caller: Caller, role: Role, request: Any) -> None:
    """Add to the filter of a request that it chooses in those namespaces only for which its caller has the role."""
    patterns = caller.patterns(role)
    if not patterns:
        raise _denied(caller, role, "any namespace")
    has_age = "older_than" in request.DESCRIPTOR.fields_by_name and request.HasField("older_than")
    if hasattr(request, "each") and not request.filter.strip() and not has_age:  # what is added must not be the first
        raise InvalidRequest.of("filter", "is missing: an operation on many needs at least one term")
    check_closed(request.filter)  # else a quotation mark in it could swallow what is added
    values = (json.dumps(each.removesuffix(EVERY)) + EVERY * each.endswith(EVERY) for each in patterns)
    request.filter = f"{request.filter} namespace={','.join(values)}"


def _check(caller: Caller, role: Role, namespace: str) -> None:
    if not caller.has(role, namespace):
        raise _denied(caller, role, shown(namespace))


def _denied(caller: Caller, role: Role, where: str) -> PermissionDenied:
    told = f"{caller.name!r} lacks the role {role} for {where}"
    return PermissionDenied(f"{told}; {caller.advice}")


def shown(namespace: str) -> str:
    """Return a namespace for people."""
    return f"the namespace {namespace!r}" if namespace else "the default namespace"


def _of_execution(queries: Queries, execution_id: str) -> str | None:
    row = queries.executions_of([execution_id], full=False).get(execution_id)
    return row.namespace if row is not None else None


def _of_definition(queries: Queries, definition_id: str) -> str | None:
    row = queries.definition(definition_id)
    return row.namespace if row is not None else None
