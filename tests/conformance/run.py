"""Runs recorded cases outside of pytest too: `python -m tests.conformance.run`, from the root of the checkout.

Prints each failing case with what was expected and what came, then the closing line
`mistral cases: A agree, D listed differences, F fail`, and so for each kind. The exit code is 0 when none fails.
Names of kinds as arguments (`mistral-cases orquesta-cases orquesta-operations`) run only those. `--listed` prints the
listed differences too. With `--services` the cases go through real services over gRPC instead of the core alone; what
cannot be played there is named, with the reason. When only the project's own cases are here, standard error says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import mistral, mistral_operations, orquesta, orquesta_operations, recorded
from tests.conformance.core_stage import CoreStage
from tests.conformance.recorded import Case
from tests.conformance.services_stage import Services
from tests.conformance.stage import Player, Stage
from tests.world import STANDARD

DEFINITIONS = Path(__file__).resolve().parents[2] / "services/dalsegno/definitions"
DIFFERENCES_MAX = 0.03
"""At most this part of all recorded cases may be listed differences."""

AT_ONCE = 16
"""So many cases go through the services at the same time."""

CASE_S = 120.0
"""A case that takes longer over the services has failed."""

WAIT_MAX_S = 30.0
"""A case that waits longer for its timers is not put through the services, which have no virtual time."""


@dataclass(frozen=True)
class Kind:
    """One kind of recorded cases and how they are run."""

    subject: str
    path: str
    language: str
    differences: Callable[[Stage, Case], Awaitable[list[str]]]
    player: Callable[[Case], Player]
    one_by_one: bool = False
    """Whether actions answer only when the runner lets time pass."""

    def load(self) -> list[Case]:
        """The recorded cases of this kind."""
        return recorded.load(self.path)

    def core_stage(self, case: Case) -> CoreStage:
        """A world of its own for the case."""
        any_action = self.language == "orquesta"
        return CoreStage(self.player(case), one_by_one=self.one_by_one, any_action=any_action)

    def actions(self, chosen: Iterable[Case]) -> set[str]:
        """What an executor must serve for these cases."""
        return set(STANDARD) if self.language == "mistral" else orquesta.actions_of(chosen)


def _script(case: Case) -> Player:
    return mistral.Script(case.get("action_results"))


def _orquesta_player(case: Case) -> Player:
    return orquesta.player


KINDS = {
    "mistral-cases": Kind("mistral cases", "mistral/cases.jsonl", "mistral", mistral.differences, _script),
    "mistral-operations": Kind(
        "mistral operations",
        "mistral/operations.jsonl",
        "mistral",
        mistral_operations.differences,
        _script,
        one_by_one=True,
    ),
    "orquesta-cases": Kind(
        "orquesta cases",
        "orquesta/cases.jsonl",
        "orquesta",
        orquesta.differences,
        _orquesta_player,
    ),
    "orquesta-operations": Kind(
        "orquesta operations",
        "orquesta/operations.jsonl",
        "orquesta",
        orquesta_operations.differences,
        _orquesta_player,
    ),
}


@dataclass
class Tally:
    """What became of the cases of one kind."""

    subject: str
    agree: int = 0
    listed: list[str] = field(default_factory=list)
    """What differs as the language's README says."""
    failures: list[str] = field(default_factory=list)
    unplayed: list[str] = field(default_factory=list)
    """What cannot be put through the services, and why."""
    findings: list[str] = field(default_factory=list)
    """What is wrong with the store after all of them."""

    @property
    def closing_line(self) -> str:
        """The line that everybody looks for."""
        fail = len(self.failures)
        unplayed = f", {len(self.unplayed)} not through the services" if self.unplayed else ""
        return f"{self.subject}: {self.agree} agree, {len(self.listed)} listed differences, {fail} fail{unplayed}"

    @property
    def count(self) -> int:
        """How many cases there were."""
        return self.agree + len(self.listed) + len(self.failures)

    @property
    def lists_few(self) -> bool:
        """Whether at most DIFFERENCES_MAX of the cases are listed differences. Only all cases together can tell."""
        return bool(recorded.absence()) or len(self.listed) <= DIFFERENCES_MAX * self.count

    def add(self, case: Case, told: Sequence[str], known: Collection[str]) -> None:
        """One case has been run; `told` is how it differs."""
        if not told:
            self.agree += 1
        else:
            differing = self.listed if case["id"] in known else self.failures
            differing.append(f"{case['id']}: " + "\n    ".join(told))


def listed(language: str) -> set[str]:
    """The case ids that the language's README names as differences."""
    text = (DEFINITIONS / language / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([^`\n]+)`", text.partition("## Differences")[2]))


def through_core(kind: Kind) -> Tally:
    """Put every case through the core; one that raises has failed too."""
    return asyncio.run(_through_core(kind, kind.load()))


async def _through_core(kind: Kind, chosen: Iterable[Case]) -> Tally:
    found, known = Tally(kind.subject), listed(kind.language)
    for case in chosen:
        stage = kind.core_stage(case)
        try:
            told = await kind.differences(stage, case)
            stage.world.check_journals()
        except Exception as error:
            told = [f"{type(error).__name__}: {error}"]
        found.add(case, told, known)
    return found


async def through_services(kind: Kind, chosen: Sequence[Case], folder: Path) -> Tally:
    """Put cases through real services in that folder, many at once."""
    found, known = Tally(kind.subject), listed(kind.language)
    turn, alone = asyncio.Semaphore(AT_ONCE), asyncio.Lock()

    async def play(number: int, case: Case) -> None:
        async with turn:
            if obstacle := await _obstacle(kind, case):
                found.unplayed.append(f"{case['id']}: {obstacle}")
                return
            if not _tells_namespace(case):
                found.add(case, await _differences(kind, services, f"case-{number}", case), known)
                return
        async with alone:
            found.add(case, await _differences(kind, services, "", case), known)

    async with Services(folder, kind.actions(chosen)) as services:
        await asyncio.gather(*(play(number, case) for number, case in enumerate(chosen)))
        if services.executor.errors:
            found.findings += map(str, services.executor.errors)
        found.findings += services.system.findings()
    return found


def _tells_namespace(case: Case) -> bool:
    """Whether the output tells the namespace: such a case needs that of the recording, the default one."""
    return "'namespace':" in str(case["expect"])


async def _obstacle(kind: Kind, case: Case) -> str:
    """Why the case cannot be played through the services; "" when it can."""
    if case.get("app_ctx"):
        return "an application gives it variables, of which the api knows none"
    waited_s = await _waiting_s(kind, case)
    return f"it waits for {waited_s:g} s" if waited_s > WAIT_MAX_S else ""


async def _waiting_s(kind: Kind, case: Case) -> float:
    """How long the case takes in virtual time."""
    stage = kind.core_stage(case)
    began_s = stage.now_s
    try:
        await kind.differences(stage, case)
    except Exception:
        return 0.0  # it shows over the services too
    return stage.now_s - began_s


async def _differences(kind: Kind, services: Services, namespace: str, case: Case) -> list[str]:
    stage = services.stage(namespace, kind.player(case), one_by_one=kind.one_by_one)
    try:
        async with asyncio.timeout(CASE_S):
            return await kind.differences(stage, case) + stage.errors
    except Exception as error:
        return [f"{type(error).__name__}: {error}", *stage.errors]


def evenly(found: Sequence[Case], count: int) -> list[Case]:
    """So many of these, from all over."""
    every = max(1.0, len(found) / count)
    return [found[int(place * every)] for place in range(min(len(found), count))]


def _run_services(kind: Kind) -> Tally:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # what services log
        found = asyncio.run(through_services(kind, kind.load(), Path(folder)))
    for unplayed in found.unplayed:
        print("not through the services:", unplayed)
    print(f"through the services, in {time.monotonic() - began_s:.0f} s:")
    return found


def main(arguments: Sequence[str] = ()) -> int:
    """Run what there is, or the kinds that are named."""
    if told := recorded.absence():
        print(told, file=sys.stderr)
    run = _run_services if "--services" in arguments else through_core
    failed = 0
    for name in [each for each in arguments if not each.startswith("--")] or KINDS:
        found = run(KINDS[name])
        failed += len(found.failures) + len(found.findings)
        listed = [f"(listed) {each}" for each in found.listed] if "--listed" in arguments else []
        print(*listed, *found.findings, *found.failures, found.closing_line, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
