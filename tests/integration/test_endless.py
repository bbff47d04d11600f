"""An execution without end over the real services: it takes no more after 5,000 rounds than after 1,000 (C19, C20, C22,
decision 24). `scripts/bench --only W12` goes round 100,000 times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.benchmarks.endless import measure_span
from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services, running_services
from tests.benchmarks.texts import LANGUAGES, Language

FIRST, LAST, SPAN = 1_000, 5_000, 250
MOST = 10_000
"""Other programs on the machine make a single measurement longer: the least of many counts, of at most these rounds."""
A_TENTH = 1.1


async def spans(services: Services, client: Client, execution_id: str, begin: int, end: int) -> list[Result]:
    """What 250 rounds take each, from one place to another."""
    places = range(begin, end, SPAN)
    return [await measure_span(services, client, execution_id, place, "endless", SPAN) for place in places]


def least(found: list[Result]) -> float:
    """The least processor time of a round in any of the spans."""
    return min(each.cpu_us_per_task or 0.0 for each in found)


@asynccontextmanager
async def endless(language: Language) -> AsyncIterator[tuple[Services, Client, str]]:
    """The services, with an execution without end."""
    async with running_services() as (services, client):
        for name, text in language.endless:
            await client.define(text, name)
        yield services, client, await client.start("endless", {"rounds": 1_000_000})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))
async def test_an_execution_without_end_takes_no_more_later(language: Language) -> None:
    """Rows, executions, bytes on disk, memory, and time for each round."""
    async with endless(language) as running:
        early = await spans(*running, FIRST, FIRST + 5 * SPAN)
        late = await spans(*running, LAST - 5 * SPAN, LAST)
        for name in ("executions", "rows", "disk_mb", "rss_mb"):
            assert getattr(late[-1], name) <= max(getattr(each, name) for each in early) * A_TENTH, name
        while least(late) > least(early) * A_TENTH and late[-1].n < MOST:
            late += await spans(*running, late[-1].n, late[-1].n + SPAN)
    if least(late) > least(early) * A_TENTH:  # perhaps the machine has become slower: a young execution shows it
        async with endless(language) as running:
            early = await spans(*running, FIRST, FIRST + 5 * SPAN)
    assert least(late) <= least(early) * A_TENTH
