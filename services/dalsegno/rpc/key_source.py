"""Where the public keys of an issuer come from: a file, or a URL. The last ones that could be read stay in use."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path

from dalsegno.access.files import stamp_of
from dalsegno.access.issuers import Issuer
from dalsegno.access.jwt_keys import BadKeys, KeySet, read_keys
from dalsegno.rpc.fetching import Bounds, CannotFetch, fetch
from dalsegno.workflow.refusals import Unavailable

REFRESH_S = 300.0
"""How often keys are fetched, so that one that their issuer withdraws counts no more."""
AGAIN_S = 10.0
"""The least time between two reads for keys that are not known, or after one that has failed: a flood of tokens with
keys that do not exist costs little, here and at the issuer."""
FETCH_S = 5.0
"""The time that a fetch has, as a whole."""
KEYS_BYTES_MAX = 256 * 1024
WAITING_MAX = 2000
"""The number of calls that wait for keys at once."""

NO_KEYS = KeySet()

_log = logging.getLogger("dalsegno.access")


class KeySource:
    """The keys of one issuer. Use it within one event loop."""

    def __init__(self, issuer: Issuer, keys: KeySet = NO_KEYS) -> None:
        """`keys`: those that were read there before."""
        self.issuer = issuer
        self.keys = keys
        self.told = ""
        """Why they cannot be read now; empty if they could be read."""
        self._stamp = None if issuer.has_url else stamp_of(issuer.keys)
        self._began_s = -math.inf
        """When the last read began, by the clock of the event loop."""
        self._reading: asyncio.Task[None] | None = None
        self._waiting = 0
        if not issuer.has_url:  # so that a file with a fault later has keys from before
            try:
                self._take(read_file(issuer))
            except BadKeys as error:
                self._note_fault(str(error))

    def look(self) -> None:
        """Begin to read the keys if it is time for that."""
        if self._reading is not None:
            return
        if self.issuer.has_url:
            is_due = self._age_s >= (AGAIN_S if self.told else REFRESH_S)
        else:
            stamp, before = stamp_of(self.issuer.keys), self._stamp
            self._stamp = stamp
            is_due = stamp != before or (bool(self.told) and self._age_s >= AGAIN_S)
        if is_due:
            self._begin()

    async def look_again(self) -> None:
        """Read the keys once more, together with all who ask for it meanwhile, unless that was done just before.

        Raises Unavailable if too many wait for that.
        """
        reading = self._reading
        if reading is None:
            if self._age_s < AGAIN_S:
                return
            reading = self._begin()
        if self._waiting >= WAITING_MAX:
            raise Unavailable(f"the keys of the issuer {self.issuer.name!r} are being read: try again")
        self._waiting += 1
        try:
            await asyncio.wait([reading])
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()

    @property
    def _age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_s

    def _begin(self) -> asyncio.Task[None]:
        self._began_s = asyncio.get_running_loop().time()
        self._reading = asyncio.create_task(self._read(), name=f"keys of {self.issuer.name}")
        return self._reading

    async def _read(self) -> None:
        try:
            if self.issuer.has_url:
                content = await fetch(self.issuer.keys, self.issuer.ca, Bounds(FETCH_S, KEYS_BYTES_MAX))
                keys = await asyncio.to_thread(read_keys, content)
            else:
                keys = await asyncio.to_thread(read_file, self.issuer)
        except (BadKeys, CannotFetch) as error:
            self._note_fault(str(error))
        else:
            self._take(keys)
        finally:
            self._reading = None

    def _note_fault(self, told: str) -> None:
        kept = "those from before stay in use" if self.keys.keys else "its tokens do not count until then"
        told = f"the keys of the issuer {self.issuer.name!r} cannot be read: {told}; {kept}"
        if told != self.told:
            _log.warning("%s", told)
        self.told = told

    def _take(self, keys: KeySet) -> None:
        if keys.faults and keys.faults != self.keys.faults:
            _log.warning("keys of the issuer %r that are not used: %s", self.issuer.name, "; ".join(keys.faults))
        before = {each.thumbprint for each in self.keys.keys}
        if self.told or before != {each.thumbprint for each in keys.keys}:
            kids = ", ".join(each.kid[:64] or "one without a kid" for each in keys.keys)
            _log.info("the issuer %r has the keys %s", self.issuer.name, kids)
        self.keys, self.told = keys, ""


def read_file(issuer: Issuer) -> KeySet:
    """Return the keys in the file of an issuer. Raises BadKeys."""
    try:
        with Path(issuer.keys).open("rb") as file:
            content = file.read(KEYS_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise BadKeys(f"{issuer.keys}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > KEYS_BYTES_MAX:
        raise BadKeys(f"{issuer.keys} has more than {KEYS_BYTES_MAX} bytes")
    return read_keys(content)
