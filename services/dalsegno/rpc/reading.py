"""Definitions in requests, read while the event loop goes on."""

from __future__ import annotations

import asyncio

from dalsegno.definitions.apart import Read, Reading, begin, is_short, read_here, unpickle
from dalsegno.expressions.pool.pool import CallFailed, Pool
from dalsegno.workflow.refusals import InvalidRequest


async def read_apart(pool: Pool, reading: Reading) -> Read:
    """Read a text in a process of the pool, or in a thread when it is short. Raises InvalidRequest when it takes too
    much. The process ends when the caller is cancelled."""
    if is_short(reading.text):
        return await asyncio.to_thread(read_here, reading)
    try:
        pickled = await asyncio.wrap_future(begin(pool, reading))
    except CallFailed as failure:
        raise InvalidRequest.of("text", str(failure)) from None
    found: Read = await asyncio.to_thread(unpickle, pickled)
    return found
