"""Measures separate engine, executor and api processes, and prints a table (scripts/bench)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tests.benchmarks import (
    definitions,
    delegates,
    disturbances,
    endless,
    engines,
    going_back,
    kills,
    operations,
    over_http,
    profiles,
    workloads,
)
from tests.benchmarks.results import Result, describe_machine, find_commit, write_json, write_table
from tests.benchmarks.services import running_services
from tests.benchmarks.texts import LANGUAGES, Language

NOTE = """cpu_s: processor time of engine, executor and api together, without the client (this program).
W10: n canaries; wall_s is the longest that any of them took.
W13: n delegates; p50_ms and p99_ms are of one completion, as a caller sees it.
W12: n rounds so far, of which the last 1,000 are measured; p50_ms is the time of one of them.
W14: cpu_s is that of the gateway, too; rss_mb that of the gateway alone."""
WORKLOADS = {
    **workloads.WORKLOADS,
    **operations.WORKLOADS,
    "W10": disturbances.measure_disturbances,
    "W11": going_back.measure_going_back,
    "W12": endless.measure_endless,
    "W13": delegates.measure_delegates,
    "W14": over_http.measure_gateway,
}
EVERY = sorted([*WORKLOADS, "W6"], key=lambda name: int(name[1:]))
LONG = {"W12", "W13", "W14"}
"""Run only when they are named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for. The exit code is 1 when a workload failed."""
    options = _read_options(arguments)
    if options.database == "postgresql":
        sizes = options.engines, options.workflows_at_once, options.times
        if options.kill:
            table, note = asyncio.run(kills.measure_kills(*sizes)), kills.NOTE
        else:
            table, note = asyncio.run(engines.measure_engines(*sizes, options.delay_ms)), engines.NOTE
        print(f"machine: {describe_machine()}\ncommit: {find_commit()}\n\n{table}\n\n{note}")
        return 0
    results: list[Result] = []
    try:
        asyncio.run(_measure(options, results))
    finally:
        print(f"machine: {describe_machine()}\ncommit: {find_commit()}\n")
        print(write_table(results), f"\n{NOTE}", sep="\n")
        if options.json:
            write_json(results, options.json)
    return 0


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    several = f"some of {','.join(EVERY)}; otherwise all but {' and '.join(sorted(LONG))}"
    parser.add_argument("--only", default="", metavar="W1,W3", help=several)
    languages = ",".join(LANGUAGES)
    parser.add_argument("--language", default=languages, metavar=languages, help="in which; otherwise in both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--expressions", action="store_true", help="what expressions cost, instead of the workloads")
    parser.add_argument("--definitions", action="store_true", help="what large definitions cost, instead")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="record the services with py-spy, if there is one")
    parser.add_argument("--rounds", type=int, default=endless.ROUNDS, metavar="N", help="how often W12 goes round")
    parser.add_argument("--waiting", type=int, default=delegates.WAITING, metavar="N", help="how many wait in W13")
    parser.add_argument("--database", default="sqlite", choices=("sqlite", "postgresql"), help="see scripts/bench")
    parser.add_argument("--engines", type=_numbers, default=[1, 2, 4], metavar="1,2,4", help="how many engines")
    parser.add_argument("--workflows", dest="workflows_at_once", type=_numbers, default=[1_000, 10_000], metavar="N,M")
    parser.add_argument(
        "--times", type=int, default=2, metavar="N", help="how often each number of engines has its turn"
    )
    parser.add_argument("--kill", action="store_true", help="kill an engine, and measure until all have moved")
    parser.add_argument("--delay-ms", type=float, default=0.0, metavar="MS", help="of each packet to the database")
    options = parser.parse_args(arguments)
    options.workloads = [name.strip().upper() for name in options.only.split(",") if name.strip()]
    unknown = set(options.workloads) - set(EVERY)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(EVERY)}")
    options.languages = [LANGUAGES[name] for name in _known(parser, options.language)]
    if not options.workloads and not options.expressions and not options.definitions:
        options.workloads = [name for name in EVERY if name not in LONG]
    return options


def _numbers(text: str) -> list[int]:
    """Read numbers that commas separate. Raises ValueError."""
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


def _known(parser: argparse.ArgumentParser, given: str) -> list[str]:
    names = [name.strip().lower() for name in given.split(",") if name.strip()]
    unknown = set(names) - set(LANGUAGES)
    if unknown:
        parser.error(f"no such language: {', '.join(sorted(unknown))}; there are {', '.join(LANGUAGES)}")
    return names


async def _measure(options: argparse.Namespace, results: list[Result]) -> None:
    if options.expressions:
        results += definitions.measure_expressions()
    if options.definitions:
        for language in options.languages:
            results += definitions.measure_compilation(language)
            results += definitions.measure_publishing_core(language)
            async with running_services() as (services, client):
                results += await definitions.measure_publishing(services, client, language)
    for name in options.workloads:
        for language in options.languages:
            await _measure_workload(options, name, language, results)


async def _measure_workload(options: argparse.Namespace, name: str, language: Language, results: list[Result]) -> None:
    if name == "W6":
        results.append(await workloads.measure_first(language))
        return
    async with AsyncExitStack() as stack:
        services, client = await stack.enter_async_context(running_services())
        if options.profile:
            stack.enter_context(profiles.recorded(services.pids, options.profile, f"{name}-{language.name}"))
        measure = WORKLOADS[name]
        if name == "W12":
            measure = partial(endless.measure_endless, rounds=options.rounds)
        elif name == "W13":
            measure = partial(delegates.measure_delegates, waiting=options.waiting)
        async for result in measure(services, client, language):
            results.append(result)


if __name__ == "__main__":
    sys.exit(main())
