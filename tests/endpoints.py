"""An HTTP server for tests, on a free port: answers at once, only when it is told to, or with an error."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

REACHABLE = {"DALSEGNO_PRIVATE_NETWORKS": "127.0.0.1"}
"""The variable by which services may reach servers of tests."""


class Endpoint:
    """Use it with `async with`, and its `url`.

    /echo/WORD answers {"said": WORD}; /fail 500 with {"reason": "out of order"}; /flaky/N fails N times;
    /held answers only once `release` is set, /slow/WORD like /echo after a tenth of a second.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        """How often each path was asked for."""
        self._asked = asyncio.Condition()
        self.release = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Endpoint:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def until_asked(self, *paths: str) -> None:
        """Return when each of these paths under /held has been asked for."""
        async with asyncio.timeout(30), self._asked:
            await self._asked.wait_for(lambda: all(self.calls[path] for path in paths))

    async def _answer(self, request: web.Request) -> web.Response:
        kind, _, word = request.match_info["path"].partition("/")
        self.calls[request.path] += 1
        if kind == "held":
            async with self._asked:
                self._asked.notify_all()
            await self.release.wait()
        if kind == "slow":
            await asyncio.sleep(0.1)
        if kind == "fail" or (kind == "flaky" and self.calls[request.path] <= int(word)):
            return web.json_response({"reason": "out of order"}, status=500)
        body = await request.json() if request.can_read_body else None
        return web.json_response({"said": word, "method": request.method, "body": body})
