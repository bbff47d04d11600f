"""Runs seeds of the simulation of several engines, tells of each, and makes a failing one smaller.

python -m tests.simulation.run                      the fixed seeds, and those of the day, as CI does
python -m tests.simulation.run --seed 17            one seed again, as it failed
python -m tests.simulation.run --seeds 0:2000       many, with their sum
python -m tests.simulation.run --minutes 20         seeds from today's on, for so long
python -m tests.simulation.run --seeds 0:2000 --processes 2
python -m tests.simulation.run --mutation NAME      with a planted fault: how many seeds find it
python -m tests.simulation.run --seeds 0:50 --coverage
"""

from __future__ import annotations

import argparse
import datetime
import gc
import hashlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context

from tests.simulation.cluster import Outcome, Plan, simulate
from tests.simulation.covered import Covered
from tests.simulation.documents import COUNT, documents_of, random_document
from tests.simulation.faults import COUNT_MAX, faults_of
from tests.simulation.on_disk import on_disk
from tests.simulation.planted import names, planted_run

from dalsegno.workflow.changes import Change
from dalsegno.workflow.consolidated import Consolidated

_KINDS: tuple[type, ...] = (*Change.__subclasses__(), Consolidated)
CHANGES = frozenset(kind.__name__ for kind in _KINDS)
"""All kinds of changes of the core."""
FIXED = 1800
"""How many seeds run each time."""
OF_THE_DAY = 200
AT_ONCE = 50
"""How many seeds are given to each of several processes at once, and after how many of them a new one takes its place:
these collect no garbage, which would take a fifth of their time."""


def seeds_of(day: datetime.date) -> range:
    """Return the seeds of a day."""
    return range(1_000_000 + day.toordinal() * OF_THE_DAY, 1_000_000 + (day.toordinal() + 1) * OF_THE_DAY)


@dataclass
class Sum:
    """What many seeds have reached."""

    seeds: int = 0
    seconds: float = 0.0
    happenings: int = 0
    events: int = 0
    executions: int = 0
    engines: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Add one seed."""
        self.seeds += 1
        self.seconds += seconds
        self.happenings += outcome.happenings
        self.events += outcome.events.total()
        self.executions += outcome.executions
        self.engines += outcome.engines
        self.faults += outcome.faults
        self.changes += outcome.changes
        if outcome.wrong:
            self.failed.append(outcome.seed)

    def told(self) -> Iterator[str]:
        """Yield the sum, line by line."""
        count = max(1, self.seeds)
        yield f"{self.seeds} seeds, {self.seconds:.0f} s of processor time ({self.seconds / count:.3f} s each)"
        yield f"  {self.happenings:,} happenings, {self.events:,} stored events, {self.executions:,} executions"
        faults = self.faults.total()
        yield f"  {self.engines:,} lives of engines, {faults:,} faults ({faults / count:.1f} a seed):"
        yield from (f"    {number:6,} {kind}" for kind, number in sorted(self.faults.items()))
        reached = CHANGES & set(self.changes)
        yield f"  {len(reached)} of {len(CHANGES)} kinds of changes ({100 * len(reached) / len(CHANGES):.0f} %)"
        if missing := sorted(CHANGES - reached):
            yield f"    not reached: {', '.join(missing)}"
        yield f"  {len(self.failed)} failed: {self.failed}" if self.failed else "  none failed"


def line_of(outcome: Outcome, seconds: float) -> str:
    """Return one line on a seed."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(outcome.faults.items()))
    digest = hashlib.sha256(outcome.journals).hexdigest()[:12]
    return (
        f"seed {outcome.seed}: {outcome.events.total()} events, {outcome.executions} executions,"
        f" {outcome.engines} engines, {outcome.faults.total()} faults ({kinds}), {seconds:.2f} s, journals {digest}"
    )


def _measured(plan: Plan) -> tuple[Outcome, float]:
    """Run a seed, and return what has happened with the processor time."""
    began = time.process_time()
    outcome = simulate(plan)
    return outcome, time.process_time() - began


def run_many(seeds: Iterable[int], tell: Callable[[str], None], plan: Plan | None = None, processes: int = 1) -> Sum:
    """Run seeds, in so many processes, and tell of each one that fails how to see it again."""
    total = Sum()
    gc.set_threshold(500_000, 50, 100)  # what a seed leaves is garbage: the fewer collections, the less is read twice
    for outcome, seconds in _outcomes((replace(plan or Plan(0), seed=seed) for seed in seeds), processes):
        total.add(outcome, seconds)
        tell(line_of(outcome, seconds))
        if outcome.wrong:
            tell(told_wrong(outcome))
    return total


def _outcomes(plans: Iterator[Plan], processes: int) -> Iterator[tuple[Outcome, float]]:
    """Run plans, and yield what comes of them in their order."""
    if processes == 1:
        yield from map(_measured, plans)
        return
    with get_context("fork").Pool(processes, initializer=gc.disable, maxtasksperchild=AT_ONCE) as pool:
        while some := list(islice(plans, AT_ONCE * processes)):
            yield from pool.imap(_measured, some)


def told_wrong(outcome: Outcome) -> str:
    """Return what is wrong in a seed, and the command that shows it again."""
    shown = "\n".join(f"  {each[:2000]}" for each in outcome.wrong[:10])
    return f"seed {outcome.seed} FAILED; again: python -m tests.simulation.run --seed {outcome.seed}\n{shown}"


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Return a smaller plan that still fails: fewer faults, executions and operations."""
    if plan.faults is None:
        numbers = [fault.number for fault in faults_of(plan.seed, COUNT_MAX, 0.0, 1.0)]
        plan = replace(plan, faults=tuple(numbers))
    for number in plan.faults or ():
        smaller = replace(plan, faults=tuple(each for each in plan.faults or () if each != number))
        plan = smaller if fails(smaller) else plan
    for name in ("operations", "executions"):
        count = getattr(plan, name)
        step = count // 2
        while step:
            smaller = replace(plan, **{name: max(0, getattr(plan, name) - step)})
            if smaller != plan and fails(smaller):
                plan = smaller
            else:
                step //= 2
    return plan


def command_of(plan: Plan) -> str:
    """Return the command that runs a plan."""
    command = f"python -m tests.simulation.run --seed {plan.seed}"
    if plan.faults is not None:
        command += f" --faults {','.join(map(str, plan.faults)) or 'none'}"
    return f"{command} --executions {plan.executions} --operations {plan.operations}"


def _for_minutes(minutes: float) -> Iterator[int]:
    until_s = time.monotonic() + 60 * minutes
    seed = seeds_of(datetime.datetime.now(datetime.UTC).date()).start
    while time.monotonic() < until_s:
        yield seed
        seed += 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="run this one, and make it smaller if it fails")
    parser.add_argument("--seeds", help="from:to, without the last one")
    parser.add_argument("--minutes", type=float, help="run seeds for so long")
    parser.add_argument("--faults", help="the numbers of the faults that happen, with commas; none")
    parser.add_argument("--executions", type=int, default=Plan(0).executions)
    parser.add_argument("--operations", type=int, default=Plan(0).operations)
    parser.add_argument("--mutation", choices=names(), help="plant this fault, in a copy of the services")
    parser.add_argument("--sqlite", action="store_true", help="on a SQLite file instead of the store in memory")
    parser.add_argument("--coverage", action="store_true", help="tell which lines of the engine were reached")
    parser.add_argument("--processes", type=int, default=1, help="in so many processes")
    parser.add_argument("--quiet", action="store_true", help="tell only of seeds that fail, and the sum")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace, seed: int) -> Plan:
    faults = arguments.faults
    chosen = None if faults is None else tuple(int(each) for each in faults.split(",") if each != "none")
    return Plan(seed, arguments.executions, arguments.operations, faults=chosen)


def _run_one(arguments: argparse.Namespace) -> int:
    plan = _plan(arguments, arguments.seed)
    began = time.process_time()
    with on_disk() if arguments.sqlite else nullcontext(None) as store_of:
        outcome = simulate(plan, store_of)
    print(line_of(outcome, time.process_time() - began))
    if not outcome.wrong:
        return 0
    print(told_wrong(outcome))
    if arguments.faults is None and not arguments.sqlite:
        small = shrink(plan, lambda each: bool(simulate(each).wrong))
        print(f"smaller: {command_of(small)}")
        print("\n".join(f"  {each[:2000]}" for each in simulate(small).wrong[:10]))
    return 1


def _prepare() -> None:
    """Read what all seeds share, and have the collector of garbage pass it over."""
    for number in range(COUNT):
        documents_of(random_document(number))
    gc.collect()
    gc.freeze()


def main() -> int:
    """Run what the arguments say. Return 1 if a seed fails."""
    logging.disable(logging.CRITICAL)
    arguments = _arguments()
    if arguments.mutation:
        return planted_run(arguments.mutation, arguments.seeds or "0:1000")
    if arguments.seed is not None:
        return _run_one(arguments)
    of_the_day = seeds_of(datetime.datetime.now(datetime.UTC).date())
    seeds: Iterable[int] = [*range(FIXED), *of_the_day]
    if arguments.seeds:
        first, _, last = arguments.seeds.partition(":")
        seeds = range(int(first), int(last))
    elif arguments.minutes:
        seeds = _for_minutes(arguments.minutes)
    else:
        print(f"seeds 0 to {FIXED - 1}, and of the day {of_the_day.start} to {of_the_day.stop - 1}", flush=True)

    def tell(line: str) -> None:
        if not arguments.quiet or "FAILED" in line:
            print(line, flush=True)

    _prepare()
    with Covered() if arguments.coverage else nullcontext() as covered:
        total = run_many(seeds, tell, _plan(arguments, 0), arguments.processes)
    print("\n".join(total.told()))
    if isinstance(covered, Covered):
        print("\n".join(covered.told()))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
