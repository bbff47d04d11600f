"""Who may ask: the host that a request names, and the origin of the page that sends it.

Any page can make a browser send requests to a loopback address: directly, which its origin tells, or under a name of
its own that it lets point there (DNS rebinding), which the host tells. So both must be ones that the operator named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectrpc.code import Code

from dalsegno.gateway.hosts import is_loopback, name_of
from dalsegno.gateway.responses import Headers, Response, refusal

_ALLOWED_HEADERS = (
    "authorization, connect-protocol-version, connect-timeout-ms, content-encoding, content-type, grpc-timeout"
    ", traceparent, x-dalsegno-actor, x-grpc-web, x-request-id, x-user-agent"
)
_EXPOSED_HEADERS = "grpc-message, grpc-status, grpc-status-details-bin, trailer-x-request-id, x-request-id"
_PREFLIGHT_S = 7200


class Access:
    """The hosts and the origins that are served."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str], own_origin: str = "") -> None:
        """`hosts`: names beside those of loopback; `origins`: `https://app.example.com`, or `*` for any; `own_origin`:
        that of the gateway itself behind a proxy."""
        self._own_origin = own_origin
        self._hosts = frozenset(each.lower().rstrip(".") for each in hosts)
        self._origins = frozenset(each.lower().rstrip("/") for each in origins)

    def refuse(self, scheme: str, headers: Mapping[str, str]) -> Response | None:
        """Return why a request is refused, or None. `headers`: by lower-case name."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_served(name_of(host)):
            told = f"the host {host!r} is not served here: the operator names hosts with --host-names"
            return refusal(403, Code.PERMISSION_DENIED, told)
        if origin is None:
            return self._refuse_embedding(headers)
        if origin.lower() in (f"{scheme}://{host.lower()}", self._own_origin or None) or self._is_allowed(origin):
            return None
        told = f"the origin {origin!r} may not call this gateway: the operator names origins with --cors-origins"
        return refusal(403, Code.PERMISSION_DENIED, told, ("vary", "Origin"))

    def _refuse_embedding(self, headers: Mapping[str, str]) -> Response | None:
        """Refuse what a tag of a foreign page asks for: the page cannot read it, but is told whether it was found."""
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if not foreign or headers.get("sec-fetch-dest") == "document" or "*" in self._origins:
            return None
        return refusal(403, Code.PERMISSION_DENIED, "pages of other sites may not embed what is here")

    def headers(self, headers: Mapping[str, str]) -> Headers:
        """Return what a page of a named origin needs in a response, so that it can read it."""
        origin = headers.get("origin")
        if origin is None or not self._is_allowed(origin):
            return ()
        allowed = ("access-control-allow-origin", origin)
        return (allowed, ("access-control-expose-headers", _EXPOSED_HEADERS), ("vary", "Origin"))

    def preflight(self, headers: Mapping[str, str]) -> Response:
        """Answer the question of a browser whether a page may send a request."""
        told = (
            ("access-control-allow-methods", "GET, POST, PUT"),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "") or _ALLOWED_HEADERS),
            ("access-control-max-age", str(_PREFLIGHT_S)),
        )
        return Response(204, headers=told if "origin" in headers else (("allow", "GET, POST, PUT, OPTIONS"),))

    def _is_served(self, name: str) -> bool:
        return name in self._hosts or is_loopback(name)

    def _is_allowed(self, origin: str) -> bool:
        return origin.lower() in self._origins or "*" in self._origins
