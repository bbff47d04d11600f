"""What to do with executions in whose steps engines died: each is stepped alone, and after three deaths it is ended.

Alone means a batch with nothing else in it, so that when an engine dies again no other execution is blamed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dalsegno.engine.batch import DEATHS_MAX
from dalsegno.engine.work import Told, Work
from dalsegno.workflow.events import Poisoned

Needs = Sequence[tuple[Work, Collection[str]]]
"""Works, each with the executions that it is about."""

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """Works that have a batch of their own."""

    works: Sequence[Work]
    alone: frozenset[str] = NOBODY
    """The executions with deaths that they are about: nothing else is in the batch. Empty: they are about none."""
    avoided: frozenset[str] = NOBODY
    """Executions with deaths, of which nothing is handed out in the batch."""
    ends: tuple[Told, ...] = ()
    """What ends executions first, each in a transaction of its own; what they are told after that is superseded."""

    def may_hand_out(self, execution_id: str) -> bool:
        """Whether attempts of this execution may be handed out in the batch."""
        return execution_id in self.alone if self.alone else execution_id not in self.avoided


WHOLE = Part(())
"""A batch about whatever it meets."""


class Separation(Exception):
    """A batch was about executions with deaths and about others: nothing is done, and each part has its own."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(f"{len(parts)} parts")
        self.parts = parts


def check_alone(
    needs: Needs, picked: Collection[str], deaths: Mapping[str, int], has_ended: Callable[[str], bool], part: Part
) -> None:
    """Raise Separation when a batch is about executions with deaths that do not have it for themselves.

    `picked`: the executions of which something is handed out; `deaths`: of all claimed ones that have any.
    """
    concerned = set(picked).union(*(ids for _, ids in needs)) - part.alone
    counts = {each: count for each, count in deaths.items() if each in concerned}
    if counts:
        fatal = [each for each, count in counts.items() if count >= DEATHS_MAX and not has_ended(each)]
        ends = {each: _end(each, counts[each]) for each in fatal}
        raise Separation(_separated(needs, picked, frozenset(counts), ends))


def _separated(needs: Needs, picked: Collection[str], careful: frozenset[str], ends: dict[str, Told]) -> list[Part]:
    """The parts of a batch: first what is only handed out, then the works, in their order. `ends` is used up."""
    needed = {execution_id for _, ids in needs for execution_id in ids}
    parts = [_careful_part((), frozenset((each,)), ends) for each in sorted(careful.intersection(picked) - needed)]
    calm: list[Work] = []
    for work, ids in needs:
        alone = careful.intersection(ids)
        if not alone:
            calm.append(work)
            continue
        if calm:
            parts.append(Part(calm, avoided=careful))
            calm = []
        parts.append(_careful_part((work,), alone, ends))
    return [*parts, Part(calm, avoided=careful)]


def _careful_part(works: Sequence[Work], alone: frozenset[str], ends: dict[str, Told]) -> Part:
    return Part(works, alone, ends=tuple(ends.pop(each) for each in sorted(alone.intersection(ends))))


def _end(execution_id: str, deaths: int) -> Told:
    """The work that ends an execution with the reason, evaluating nothing of it."""
    reason = f"the engine died {deaths} times in a row while it stepped this execution; it is not tried again"
    return Told(execution_id, Poisoned(reason=reason))
