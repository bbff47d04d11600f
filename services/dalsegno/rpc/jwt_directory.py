"""The callers of tokens (JWT) that others have made: the issuers in the file of --issuers.

    token ──look_at──▶ issuer ──its keys──▶ check ──claims──▶ Caller, kept until its token, key or issuer counts no more

The file and the keys are looked at once a second, and read again when they change.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from dalsegno.access.bearer import hash_of, id_of
from dalsegno.access.callers import Caller, Origin
from dalsegno.access.claims import given_by, named_by
from dalsegno.access.files import stamp_of
from dalsegno.access.issuers import BadIssuers, Issuer, Trusted, read_issuers
from dalsegno.access.jwt_check import BadJwt, Shown, UnknownKey, check, choose_key, ends_at, look_at, name_of
from dalsegno.access.jwt_keys import BadKeys, Key
from dalsegno.rpc.fetching import CannotFetch, trust_of
from dalsegno.rpc.key_source import NO_KEYS, KeySource, read_file
from dalsegno.workflow.refusals import Refusal, Unauthenticated, Unavailable

LOOK_S = 1.0
"""How often it is looked whether a caller, a key or the file has changed."""
KNOWN_MAX = 10_000
"""The number of tokens that are not checked again at their next call."""

HOW = "programs take a token by --token-file or DALSEGNO_TOKEN_FILE, and read it again when that file changes"

_log = logging.getLogger("dalsegno.access")


class IssuerFile:
    """The issuers in a file. One that has become faulty leaves those from before in use."""

    def __init__(self, path: str) -> None:
        """Read it, and the files that it names. Raises BadIssuers."""
        self._path = path
        self._stamp = stamp_of(path)
        self.trusted = _read_all(path)
        self.told = ""
        """What is wrong with the file now; empty if nothing is."""

    def look(self) -> None:
        """Read it again if it has changed. What is wrong with the files that it names, their readers tell."""
        if (stamp := stamp_of(self._path)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self.trusted, self.told = read_issuers(self._path), ""
        except BadIssuers as error:
            self.told = f"{error}; what was read before stays in use"
            _log.warning("%s", self.told)
        else:
            _log.info("read again after a change: %s", self._path)


class JwtDirectory:
    """Finds the callers of tokens of issuers. Use it within one event loop."""

    def __init__(self, file: IssuerFile) -> None:
        self._file = file
        self._taken: Trusted | None = None
        """What the file says, as it counts here."""
        self._sources: dict[str, KeySource] = {}
        """By the claim `iss`."""
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        """By the hash of the token."""
        self._take_issuers()

    @property
    def told(self) -> str:
        """Return what cannot be read at present; empty if all can."""
        return "; ".join(filter(None, (self._file.told, *(each.told for each in self._sources.values()))))

    async def find(self, token: str) -> Caller:
        """Return the caller of a token. Raises Unauthenticated, and Unavailable if its key is unknown while the keys
        cannot be read."""
        sha256 = hash_of(token)
        known = self._known.get(sha256)
        if known is not None and self._fault_of(known) is None:
            self._known.move_to_end(sha256)
            return known
        self._known.pop(sha256, None)
        try:
            shown = look_at(token)
            source = self._source_of(shown)
            key = await key_for(shown, source)
            claims = check(token, shown, source.issuer, key)
        except BadJwt as error:
            raise Unauthenticated(f"the token (JWT) does not count: {error}; {HOW}") from None
        caller = self._known[sha256] = _caller(sha256, claims, source.issuer, key)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return caller

    def check(self, caller: Caller) -> None:
        """Raise Unauthenticated or Unavailable if a caller with an open call is not valid any more. Only compares."""
        if (fault := self._fault_of(caller)) is not None:
            raise fault

    def _fault_of(self, caller: Caller) -> Refusal | None:
        assert isinstance(caller.origin, Origin), "it is a caller of this directory"
        if caller.expires_s is not None and caller.expires_s <= time.time():
            return Unauthenticated(f"the token (JWT) of {caller.name!r} has expired; {HOW}")
        issuer = caller.origin.issuer
        source = self._sources.get(issuer.issuer)
        if source is None or source.issuer is not issuer:  # another call is decided by what the file says now
            return Unavailable(f"what the file of --issuers says of {issuer.name!r} has changed: call again")
        if not source.keys.has(caller.origin.key):
            return Unauthenticated(f"{issuer.name!r} has withdrawn the key by which {caller.name!r} was known; {HOW}")
        return None

    def _source_of(self, shown: Shown) -> KeySource:
        source = self._sources.get(shown.issuer)
        if source is None:
            raise BadJwt(f"its issuer (iss) {shown.issuer[:200]!r} is not in the file of --issuers")
        return source

    def _take_issuers(self) -> None:
        """Take what the file says now. An issuer of which it says the same as before keeps its keys and callers."""
        before, self._sources = self._sources, {}
        self._taken = self._file.trusted
        for issuer in self._taken.issuers:
            known = before.get(issuer.issuer)
            if known is not None and known.issuer == issuer:
                self._sources[issuer.issuer] = before.pop(issuer.issuer)
            else:
                keys = known.keys if known is not None and known.issuer.keys == issuer.keys else NO_KEYS
                self._sources[issuer.issuer] = KeySource(issuer, keys)
        for source in before.values():
            source.close()

    async def keep_up(self, refreshed: Callable[[], None]) -> None:
        """Look at the file and at the keys once a second for ever, and call `refreshed` each time."""
        try:
            while True:
                await asyncio.to_thread(self._file.look)
                if self._file.trusted is not self._taken:
                    self._take_issuers()
                for source in self._sources.values():
                    source.look()
                refreshed()
                await asyncio.sleep(LOOK_S)
        finally:
            for source in self._sources.values():
                source.close()


def _read_all(path: str) -> Trusted:
    """Read the file, and look whether the files that it names can be used. Raises BadIssuers."""
    trusted = read_issuers(path)
    for issuer in trusted.issuers:
        try:
            if issuer.has_url:
                trust_of(issuer.ca)
            else:
                read_file(issuer)
        except (BadKeys, CannotFetch) as error:
            raise BadIssuers(f"--issuers {path}: the keys of {issuer.name!r}: {error}") from None
    return trusted


async def key_for(shown: Shown, source: KeySource) -> Key:
    """Return the key that checks a token; keys are read again if they have none of its name. Raises BadJwt, and
    Unavailable if they cannot be read."""
    try:
        return choose_key(shown, source.issuer, source.keys)
    except UnknownKey:
        await source.look_again()
    try:
        return choose_key(shown, source.issuer, source.keys)
    except UnknownKey:
        if source.told:
            raise Unavailable(f"the keys of the issuer {source.issuer.name!r} cannot be read at present") from None
        raise


def _caller(sha256: bytes, claims: Mapping[str, Any], issuer: Issuer, key: Key) -> Caller:
    given = given_by(issuer.rules, claims)
    named = named_by(claims, issuer.grants_claim) if issuer.grants_claim else ()
    name = name_of(claims, issuer)
    return Caller(
        name=name,
        grants=tuple(dict.fromkeys((*given, *named))),
        token_id=id_of(sha256),
        expires_s=ends_at(claims) + issuer.leeway_s,
        account=name,
        origin=Origin(issuer, key.thumbprint),
        advice=f"what tokens of {issuer.name!r} give is in the file of --issuers",
    )
