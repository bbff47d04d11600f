"""The HTTP endpoints that the examples call: a few fictional cities, their weather and their umbrellas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

from aiohttp import web

CITIES: dict[str, tuple[float, str, int]] = {
    "Alderford": (14.5, "rain", 120),
    "Brackwater": (11.0, "fog", 310),
    "Caldmere": (17.5, "clouds", 45),
    "Dunhollow": (9.5, "rain", 80),
    "Eastmarch": (21.0, "sun", 12),
    "Fennwick": (13.0, "drizzle", 205),
    "Greyhaven": (8.0, "storm", 400),
    "Holmsey": (19.5, "sun", 30),
    "Ironbridge": (12.5, "rain", 150),
    "Kestrel Bay": (23.0, "sun", 5),
    "Larkhill": (16.0, "clouds", 60),
    "Moorgate": (10.5, "fog", 95),
}
"""Name: degrees Celsius, sky, umbrellas in stock."""

_FAILURES_IN_A_ROW = 2

_STOP_S = 1.0
"""How long requests that are not answered yet may take when it stops: one that never arrives whole has no end."""


@asynccontextmanager
async def serve_endpoints(address: str) -> AsyncIterator[str]:
    """Serve at HOST:PORT while the block runs; yield the URL that all paths begin with."""
    application = web.Application()
    application.add_routes(
        [
            web.get("/cities", _list_cities),
            web.get("/weather/{city}", _tell_weather),
            web.get("/stock/{city}", _count_stock),
            web.get("/rate", _flaky_rate()),
            web.post("/reports", _take_report),
        ]
    )
    # Not the default logger: its lines would damage the tree that the same terminal shows.
    log = logging.getLogger("dalsegno.endpoints")
    runner = web.AppRunner(application, access_log=log, shutdown_timeout=_STOP_S)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        yield f"http://{address}"
    finally:
        await runner.cleanup()


async def _list_cities(request: web.Request) -> web.Response:
    return web.json_response(list(CITIES))


async def _tell_weather(request: web.Request) -> web.Response:
    city = _city_of(request)
    await asyncio.sleep(0.15 + len(city) % 5 / 10)
    temperature_c, sky, _ = CITIES[city]
    return web.json_response({"city": city, "temperature_c": temperature_c, "sky": sky})


async def _count_stock(request: web.Request) -> web.Response:
    city = _city_of(request)
    await asyncio.sleep(0.1 + len(city) % 3 / 10)
    return web.json_response({"city": city, "umbrellas": CITIES[city][2]})


def _flaky_rate() -> Callable[[web.Request], Awaitable[web.Response]]:
    requests = count()

    async def tell_rate(request: web.Request) -> web.Response:
        """Fail two requests in a row, answer the third: an example for retries."""
        if next(requests) % (_FAILURES_IN_A_ROW + 1) < _FAILURES_IN_A_ROW:
            raise web.HTTPServiceUnavailable(text="the exchange is closed for a moment")
        return web.json_response({"crowns_per_umbrella": 7.5})

    return tell_rate


async def _take_report(request: web.Request) -> web.Response:
    report = await request.json()
    return web.json_response({"accepted": True, "entries": len(report)}, status=201)


def _city_of(request: web.Request) -> str:
    city = request.match_info["city"]
    if city not in CITIES:
        raise web.HTTPNotFound(text=f"there is no city {city}")
    return city
