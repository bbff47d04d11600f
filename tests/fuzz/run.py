"""`python -m tests.fuzz.run`: what scripts/fuzz runs. It sends inputs until there were enough, or the time is over, and
prints what came of them.

--inputs N        so many, a number with or without commas; --minutes M: so long
--seed S          other inputs; without it those of the day
--wire-only, --here-only   only one of the two halves
--only w123       one input again, printed before it is sent: w over the wire, h in a process of its own
--coverage        print which share of the lines of api, gateway and engine has run
Ctrl-C ends it early, with what came of it until then.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from tests.fuzz.inputs import ROUND, Input, draw_here, draw_wire, read_input
from tests.fuzz.reading import AT_ONCE, READS, Reader, examine
from tests.fuzz.sending import WITHIN_S, Sender, TooSlow
from tests.fuzz.stand import MEMORY_MIB, Stand, open_stand
from tests.hostile.run import seed_of_the_day

PASSING = 0.6
"""The share of the inputs that pass the first check."""
CHUNK = 500
"""After so many over the wire the services are looked at, and the canary sings."""
AT_A_TIME = 24
CANARY_S = 20.0
FOUND = Path(__file__).with_name("found")


@dataclass(frozen=True)
class Length:
    """How long a run is."""

    inputs: int
    seconds: float
    wire: bool = True
    here: bool = True


@dataclass
class Report:
    """What has come of a run."""

    seed: int
    sent: Counter[str] = field(default_factory=Counter)
    """How many inputs there were, by kind."""
    passing: Counter[str] = field(default_factory=Counter)
    """How many of them passed the first check."""
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    """What took too long among others and not alone: the machine was busy."""
    memory_mib: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    canary_s: float = 0.0
    took_s: float = 0.0
    is_stopped: bool = False
    """Whether somebody wants it to end now, and to tell what it has found."""

    @property
    def share(self) -> float:
        """The share of the inputs that passed the first check."""
        return self.passing.total() / max(1, self.sent.total())

    def __str__(self) -> str:
        kinds = [f"{kind} {count:,} ({self.passing[kind] / count:.0%})" for kind, count in self.sent.items()]
        memory = ", ".join(f"{name} {used}" for name, used in self.memory_mib.items())
        codes = ", ".join(f"{name} {count:,}" for name, count in sorted(self.answers.items()))
        return (
            f"{self.sent.total():,} inputs of seed {self.seed} in {self.took_s:.0f} s; {self.share:.1%} passed the"
            f" first check: {', '.join(kinds)}\nthe slowest call took {self.slowest_s:.2f} s, the slowest canary"
            f" {self.canary_s:.2f} s; most memory in MiB: {memory}\nanswers: {codes}\n{len(self.slow)} took over"
            f" {WITHIN_S:g} s among others and not alone; {len(self.faults)} faults"
        )


class WireRun:
    """The half of a run that goes over the wire."""

    def __init__(self, stand: Stand, report: Report, length: Length, again: Sequence[Input] = ()) -> None:
        """`again`: inputs that are sent before all others."""
        self._again = again
        self._stand = stand
        self._report = report
        self._length = length

    async def run(self, ends_s: float) -> None:
        """Send until there were enough."""
        connector = aiohttp.TCPConnector(limit=AT_A_TIME)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
            sender = Sender(self._stand, client)
            await self._send_again(sender)
            number = 0
            while goes_on(self._report, self._length, ends_s):
                if number % ROUND == 0:
                    await self._stand.set_up(number // ROUND)
                await self._send_chunk(sender, number)
                number += CHUNK
            self._report.answers += sender.answers
            self._report.slowest_s = sender.slowest_s

    async def _send_again(self, sender: Sender) -> None:
        """Send one after the other what was found before."""
        for index, sent in enumerate(self._again):
            if index == 0:
                await self._stand.set_up(0)
            try:
                wrong = await sender.send(sent, f"again{index}")
            except TooSlow as slow:
                wrong = str(slow)
            told = "\n".join(filter(None, (wrong, *self._stand.faults())))
            if told:
                self._report.faults.append(_told(f"found before, {index}", sent, told))

    async def _send_chunk(self, sender: Sender, first: int) -> None:
        room, tokens = asyncio.Semaphore(AT_A_TIME), tuple(self._stand.tokens)
        slow: list[tuple[str, Input]] = []

        async def send(number: int) -> None:
            async with room:
                sent = draw_wire(self._report.seed, number, tokens)
                self._report.sent[sent.kind] += sent.count
                self._report.passing[sent.kind] += sent.passing
                try:
                    wrong = await sender.send(sent, f"w{number}")
                except TooSlow:
                    slow.append((f"w{number}", sent))
                    return
                if wrong:
                    self._report.faults.append(_told(f"w{number}", sent, wrong))

        await asyncio.gather(*(send(number) for number in range(first, first + CHUNK)))
        for name, sent in slow:
            await self._send_alone(sender, name, sent)
        self._report.faults += [f"after w{first} to w{first + CHUNK}: {each}" for each in self._stand.faults()]
        await self._hear(first)

    async def _send_alone(self, sender: Sender, name: str, sent: Input) -> None:
        """Send again, alone, what took too long: on a machine that is busy with other work that says little."""
        self._report.slow.append(name)
        try:
            wrong = await sender.send(sent, name)
        except TooSlow as slow:
            wrong = f"{slow}, twice"
        if wrong:
            self._report.faults.append(_told(name, sent, wrong))

    async def _hear(self, first: int) -> None:
        try:
            async with asyncio.timeout(CANARY_S):
                took_s = await self._stand.sing()
        except Exception as error:
            self._report.faults.append(f"after w{first} to w{first + CHUNK} no canary: {error!r}")
            return
        self._report.canary_s = max(self._report.canary_s, took_s)


def goes_on(report: Report, length: Length, ends_s: float) -> bool:
    """Return whether more is to be sent."""
    return not report.is_stopped and time.monotonic() < ends_s and report.sent.total() < length.inputs


def _told(name: str, sent: Input, wrong: str) -> str:
    return f"{name}: {wrong}\n{sent.shown()}\n{sent.written()[:6_000]}"


def kept() -> list[Input]:
    """Return the inputs that were found before: each has shown a fault, which is repaired."""
    return [read_input(line) for file in sorted(FOUND.glob("*.jsonl")) for line in file.read_text().splitlines()]


async def run(folder: Path, seed: int, length: Length, *, with_coverage: bool = False) -> Report:
    """Run both halves beside each other, and what was found before. Services and their store are in the folder."""
    report, began_s, again = Report(seed), time.monotonic(), kept()
    with suppress(RuntimeError, ValueError):  # not in a thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, setattr, report, "is_stopped", True)
    for sent in again:
        if sent.kind in READS:
            examine(sent)
    ends_s = began_s + length.seconds
    tasks = []
    if length.here:
        tasks.append(_examine(report, seed, length, ends_s, str(folder / "coverage") if with_coverage else ""))
    if length.wire:
        wire = [sent for sent in again if sent.kind not in READS]
        tasks.append(_send(folder, report, length, ends_s, wire, with_coverage=with_coverage))
    await asyncio.gather(*tasks)
    report.took_s = time.monotonic() - began_s
    return report


async def _send(
    folder: Path, report: Report, length: Length, ends_s: float, again: Sequence[Input], *, with_coverage: bool
) -> None:
    async with open_stand(folder, with_coverage=with_coverage) as stand:
        await WireRun(stand, report, length, again).run(ends_s)
        report.memory_mib |= stand.memory_mib


async def _examine(report: Report, seed: int, length: Length, ends_s: float, coverage_file: str) -> None:
    reader, number = Reader(seed, with_coverage=coverage_file), 0
    try:
        while goes_on(report, length, ends_s):
            told = await asyncio.to_thread(reader.ask, number, AT_ONCE)
            for kind, (count, passing) in told.kinds.items():
                report.sent[kind] += count
                report.passing[kind] += passing
            for wrong, why in told.faults:  # with processor times, not those of a clock
                report.faults.append(_told(f"h{wrong}", draw_here(seed, wrong), why))
            report.memory_mib["reading"] = told.memory_mib
            number = told.next
    except AssertionError as error:
        report.faults.append(str(error))
    finally:
        await asyncio.to_thread(reader.close)


async def send_again(folder: Path, sent: Input, round_number: int = 0) -> str:
    """Send one input to services of its own. Return what is wrong."""
    async with open_stand(folder) as stand, aiohttp.ClientSession(auto_decompress=False) as client:
        await stand.set_up(round_number)
        try:
            wrong = await Sender(stand, client).send(sent, "again")
        except TooSlow as slow:
            wrong = str(slow)
        return "\n".join(filter(None, (wrong, *stand.faults())))


def _again(name: str, seed: int) -> str:
    number = int(name[1:])
    sent = draw_here(seed, number) if name[0] == "h" else draw_wire(seed, number)
    print(sent.shown(), sent.written(), sep="\n")
    if name[0] == "h":
        examine(sent)
        return ""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return asyncio.run(send_again(Path(folder), sent, number // ROUND))


def main() -> int:
    """Run, print, and return the exit code: 1 for any fault, or if too few inputs pass the first check."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=lambda text: int(text.replace(",", "")), default=10**12)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=seed_of_the_day())
    parser.add_argument("--only", default="")
    parser.add_argument("--wire-only", action="store_true")
    parser.add_argument("--here-only", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    given = parser.parse_args()
    if given.only:
        wrong = _again(given.only, given.seed)
        print(wrong or "nothing is wrong")
        return 1 if wrong else 0
    minutes = given.minutes if given.minutes is not None else (2.0 if given.inputs == 10**12 else 10**6)
    length = Length(given.inputs, minutes * 60, wire=not given.here_only, here=not given.wire_only)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = asyncio.run(run(Path(folder), given.seed, length, with_coverage=given.coverage))
        print(*report.faults[:50], report, sep="\n\n")
        if given.coverage:
            show_coverage(Path(folder))
    print(f"allowed: {MEMORY_MIB} MiB for each process; {PASSING:.0%} or more pass the first check")
    return 1 if report.faults or report.share < PASSING else 0


def show_coverage(folder: Path) -> None:
    """Print which share of the lines of each package has run."""
    tool = [sys.executable, "-m", "coverage"]
    data = f"--data-file={folder / 'coverage'}"
    subprocess.run([*tool, "combine", "--quiet", data, str(folder)], check=False)
    for package in ("api", "gateway", "engine", "rpc", "access"):
        told = subprocess.run(
            [*tool, "report", data, f"--include=*/dalsegno/{package}/*", "--format=total", "--fail-under=0"],
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"coverage of {package}: {told.stdout.strip()} % {told.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
