"""Headers and metadata: which headers of a request the api gets, and which metadata of an answer the caller gets."""

from __future__ import annotations

import base64
import binascii
import re

from connectrpc.request import Headers
from grpc.aio import Metadata

from dalsegno.rpc.channel import REQUEST_ID_KEY
from dalsegno.rpc.errors import refusals

_OF_HTTP = re.compile(
    "(accept|access-control|connect|content|grpc|if|proxy|sec|x-forwarded)(-.*)?"
    "|age|cache-control|connection|cookie|date|dnt|expect|forwarded|from|host|http2-settings|keep-alive|origin|pragma"
    "|priority|range|referer|te|trailer|transfer-encoding|upgrade|upgrade-insecure-requests|user-agent|via|warning"
    "|x-grpc-web|x-real-ip|x-user-agent"
)
"""Headers that HTTP, the protocols and browsers use themselves; all others are metadata of the call."""

_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")

MetadataList = list[tuple[str, str | bytes]]


def metadata_of(headers: Headers, request_id: str) -> MetadataList:
    """Return the metadata of a call. Raises InvalidRequest for what metadata cannot carry."""
    metadata: MetadataList = [(REQUEST_ID_KEY, request_id)]
    for name, value in headers.allitems():
        if name == REQUEST_ID_KEY or _OF_HTTP.fullmatch(name):
            continue
        if not _NAME.fullmatch(name) or not _TEXT.fullmatch(value):
            raise refusals.InvalidRequest.of(name, "is a header that is not printable ASCII")
        metadata.append((name, _decoded(name, value) if name.endswith("-bin") else value))
    return metadata


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise refusals.InvalidRequest.of(name, "is not base64") from None


def add_to(headers: Headers, metadata: Metadata) -> None:
    """Add the metadata of an answer to the headers or trailers of one."""
    for name, value in metadata:
        if name.startswith("grpc-"):
            continue
        text = value if isinstance(value, str) else base64.b64encode(value).decode().rstrip("=")
        headers.add(name, text)


def accepts_gzip(headers: Headers) -> bool:
    """Return whether the library may compress the answer."""
    names = ("accept-encoding", "connect-accept-encoding", "grpc-accept-encoding")
    return any("gzip" in headers.get(name, "") for name in names)
