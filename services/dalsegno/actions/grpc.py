"""The gRPC family: grpc.call, which calls methods of any service. Off until the operator allows targets.

The method is found by server reflection, or in a descriptor set; grpc_calls/ has the parts.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import math
import re
import time
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dalsegno.actions.action import ActionContext, ActionFailed, AnyAction, action
from dalsegno.actions.permission import allows_target, is_target, names_target
from dalsegno.outgoing.reach import EVERYWHERE, NOWHERE, Reach

if TYPE_CHECKING:  # descriptions do not need gRPC
    from dalsegno.actions.grpc_calls.call import Request
    from dalsegno.actions.grpc_calls.connection import Connections
    from dalsegno.actions.grpc_calls.failure import CallFailed

NAME = "grpc.call"
RETRIES_MAX = 100

_METHOD = re.compile(r"/?([A-Za-z_][\w.]*)/([A-Za-z_]\w*)")

_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Connections] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Files:
    """The files that an operator gives grpc.call."""

    ca: str = ""
    """PEM of the authorities that sign the certificates of services; empty: those that gRPC knows."""
    certificate: str = ""
    """PEM of the client certificate for services with TLS; empty: none."""
    key: str = ""
    """PEM of its key."""
    descriptors: str = ""
    """The folder of the descriptor sets that workflows can name; empty: none."""


NO_FILES = Files()


class Caller:
    """The action, with what its operator allows and gives it."""

    def __init__(self, targets: Collection[str], files: Files, reach: Reach) -> None:
        """`targets`: the allowed ones, with wildcards; `reach`: the addresses that those with a wildcard may have."""
        self._targets = targets
        self._files = files
        self._reach = reach

    async def call(
        self,
        context: ActionContext,
        target: str,
        method: str,
        request: object = None,
        metadata: Mapping[str, object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as in std.http)
        tls: bool = False,
        retries: int = 3,
        retry_codes: list[str] | None = None,
        stop_after: int | None = None,
        descriptor_set: str = "",
        descriptor_file: str = "",
    ) -> object:
        """Call package.Service/Method at host:port; return the answer, of a stream the list. Off by default.

        `request` is the message as JSON. `timeout` is in seconds, for all tries together. The types come from server
        reflection, else from a FileDescriptorSet: base64 in `descriptor_set`, or a file of the operator's folder. A
        stream is left after `stop_after` messages. A failure has code, message, details, metadata, sent, tries.
        """
        from dalsegno.actions.grpc_calls.call import carry_out
        from dalsegno.actions.grpc_calls.connection import Certificates
        from dalsegno.actions.grpc_calls.failure import CallFailed, invalid

        tries = 0
        try:
            self._check_target(target)
            if not isinstance(tls, bool):
                raise invalid("tls: must be true or false")
            order = _read_order(
                context, method, request, metadata or {}, timeout, retries, retry_codes or [], stop_after
            )
            order.descriptors = await self._read_descriptors(descriptor_set, descriptor_file)
            files = self._files
            certificates = Certificates(files.ca, files.certificate, files.key) if tls else None
            # The operator says where a target leads by naming its host.
            reach = EVERYWHERE if names_target(self._targets, target) else self._reach
            async with _open_connections().use(target, certificates, reach) as connection:
                try:
                    return await carry_out(order, connection)
                finally:
                    tries = order.tries
        except CallFailed as failure:
            raise _explain(failure, target, method, tries) from None

    def _check_target(self, target: str) -> None:
        from dalsegno.actions.grpc_calls.failure import CallFailed, invalid

        if not is_target(target):
            raise invalid(f"target: {str(target)[:80]!r} is neither host:port nor unix:/path")
        if not allows_target(self._targets, target):
            how = f"its operator allows it with --allow {NAME}={target}"
            raise CallFailed("PERMISSION_DENIED", f"this executor must not call {target}: {how}")

    async def _read_descriptors(self, written: str, name: str) -> tuple[bytes, bytes] | None:
        """Return a descriptor set after its digest; None if the input has none."""
        from dalsegno.actions.grpc_calls.failure import invalid

        if written and name:
            raise invalid("only one of descriptor_set and descriptor_file can be given")
        if name:
            content = await asyncio.to_thread(self._read_file, name)
        elif written:
            try:
                content = b64decode(written, validate=True)
            except (binascii.Error, ValueError):
                raise invalid("descriptor_set is not base64") from None
        else:
            return None
        return hashlib.sha256(content).digest(), content

    def _read_file(self, name: str) -> bytes:
        """Return a file of the operator's folder, not of another one. Raises CallFailed that names those there are."""
        from dalsegno.actions.grpc_calls.failure import invalid

        if not self._files.descriptors:
            raise invalid(
                "this executor has no folder of descriptor sets: its operator names it with --grpc-descriptors"
            )
        try:
            folder = Path(self._files.descriptors)
            there = {each.name: each for each in folder.iterdir() if each.is_file()}
            if name in there:
                return there[name].read_bytes()
        except OSError as error:
            raise invalid(f"the executor's folder of descriptor sets cannot be read: {error.strerror}") from None
        raise invalid(f"there is no descriptor_file {name}, only {', '.join(sorted(there)) or 'none'}")


def call_action(targets: Collection[str] = (), files: Files = NO_FILES, reach: Reach = NOWHERE) -> AnyAction:
    """Return grpc.call for these allowed targets, with these files; `reach`: see Caller."""
    return action(NAME, typed=False)(Caller(targets, files, reach).call)


async def close() -> None:
    """Close the connections kept open by this event loop."""
    connections = _connections.pop(asyncio.get_running_loop(), None)
    if connections is not None:
        await connections.close()


def _open_connections() -> Connections:
    from dalsegno.actions.grpc_calls.connection import Connections

    return _connections.setdefault(asyncio.get_running_loop(), Connections())


def _read_order(
    context: ActionContext,
    method: str,
    data: object,
    metadata: Mapping[str, object],
    timeout_s: float | None,
    retries: int,
    retry_codes: list[str],
    stop_after: int | None,
) -> Request:
    """Return what to call. Raises CallFailed for an input that cannot be sent."""
    from dalsegno.actions.grpc_calls.call import Request
    from dalsegno.actions.grpc_calls.failure import check_codes, invalid
    from dalsegno.actions.grpc_calls.metadata import read_metadata

    found = _METHOD.fullmatch(str(method))
    if found is None:
        raise invalid(f"method: {str(method)[:200]!r} is not of the form package.Service/Method")
    if stop_after is not None and not _is_number(stop_after, 1, math.inf):
        raise invalid("stop_after: must be a number of messages, at least 1")
    if not _is_number(retries, 0, RETRIES_MAX):
        raise invalid(f"retries: must be a number from 0 to {RETRIES_MAX}")
    limits_s = [each for each in (timeout_s, context.timeout_s) if each is not None]
    if not all(isinstance(each, int | float) and each > 0 for each in limits_s):
        raise invalid("timeout: must be a number of seconds above 0")
    try:
        entries = list(read_metadata(metadata))
    except ValueError as error:
        raise invalid(str(error)) from None
    given = {key for key, _ in entries}
    return Request(
        service=found[1],
        method=found[2],
        data={} if data is None else data,
        metadata=entries + [each for each in context.trace_context.items() if each[0] not in given],
        deadline_s=time.monotonic() + min(limits_s) if limits_s else None,
        retries=retries,
        retry_codes=check_codes(retry_codes),
        safe=context.safe_to_rerun,
        stop_after=stop_after,
    )


def _is_number(given: object, least: float, most: float) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and least <= given <= most


def _explain(failure: CallFailed, target: str, method: str, tries: int) -> ActionFailed:
    return ActionFailed(
        f"{failure} ({method} at {target})",
        {
            "code": failure.code,
            "message": failure.message,
            "details": list(failure.details),
            "metadata": dict(failure.metadata),
            "sent": failure.sent,
            "tries": tries,
        },
    )
