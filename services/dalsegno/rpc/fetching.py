"""Requests to an issuer of tokens that the operator has named: within a time and a size, and without redirects."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass


class CannotFetch(ValueError):
    """What was asked for cannot be had. The text says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    within_s: float
    """The time for all of it."""
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Form:
    """What is posted."""

    fields: Mapping[str, str]
    user: tuple[str, str] | None = None
    """The name and the password for HTTP Basic."""


def trust_of(ca: str) -> ssl.SSLContext:
    """Return the context for the authorities in a file, or for those of the system. Raises CannotFetch."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as error:
        raise CannotFetch(f"no certificate of an authority can be read in {ca}: {error}") from None


async def fetch(url: str, ca: str, bounds: Bounds, form: Form | None = None) -> bytes:
    """Return what is at a URL, or what it answers to a form. Raises CannotFetch."""
    import aiohttp  # it takes long to import, and keys may be in files

    headers = {"accept-encoding": "identity"}
    how: dict[str, object] = {"allow_redirects": False, "headers": headers}
    if form is not None:
        how["data"] = dict(form.fields)
        if form.user is not None:
            headers["authorization"] = f"Basic {base64.b64encode(':'.join(form.user).encode()).decode()}"
    try:
        how["ssl"] = await asyncio.to_thread(trust_of, ca)
        is_away = url.startswith("https:")  # what is in plain text is on this machine: no proxy stands between
        async with (
            asyncio.timeout(bounds.within_s),
            aiohttp.ClientSession(trust_env=is_away, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request("GET" if form is None else "POST", url, **how) as answer,  # type: ignore[arg-type]
        ):
            if answer.status != 200:
                away = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
                raise CannotFetch(f"{url} answers HTTP {answer.status}{away}")
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > bounds.bytes_max:
                    raise CannotFetch(f"{url} has more than {bounds.bytes_max} bytes")
            return bytes(content)
    except TimeoutError:
        raise CannotFetch(f"{url} has not answered within {bounds.within_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, CannotFetch):
            raise
        raise CannotFetch(f"{url}: {error or type(error).__name__}") from None
