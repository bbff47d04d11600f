"""The care for executions in whose steps engines died: each is stepped alone, and after three deaths it is ended.

Alone means that the batch contains nothing else. So when an engine dies again, no other execution gets the blame. The
last try waits until the engine has run for a while. So a person or a system that kills engines repeatedly does not
cause the third death of an unrelated execution.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dalsegno.engine.batches.batch import DEATHS_MAX, Batch
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.workflow.events import Poisoned

CALM_S = 5.0
"""How long an engine runs before it tries for the last time what has killed others."""

Needs = Sequence[tuple[Work, Collection[str]]]
"""Works, each with the ids of the executions that it claims."""

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """Works that have a batch of their own."""

    works: Sequence[Work]
    alone: frozenset[str] = NOBODY
    """The executions with deaths that the works are about; the batch contains nothing else. Empty: there are none."""
    avoided: frozenset[str] = NOBODY
    """Executions with deaths of which the batch hands out nothing."""
    waits: bool = False
    """Whether the works wait until the engine has run for a while."""
    ends: tuple[DeliverEvent, ...] = ()
    """The events that end executions first, each in a transaction of its own. Later events to these are superseded."""

    def may_hand_out(self, execution_id: str) -> bool:
        """Return whether the batch may hand out attempts of this execution."""
        return (not self.alone or execution_id in self.alone) and execution_id not in self.avoided


WHOLE = Part(())
"""A batch without restrictions."""


class Separation(Exception):
    """A batch was about executions with deaths and about others. Nothing is done; each part gets a batch of its own."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(f"{len(parts)} parts")
        self.parts = parts


def check_alone(needs: Needs, picked: Collection[str], batch: Batch, part: Part, *, is_calm: bool) -> None:
    """Raise Separation unless each execution with deaths has the batch to itself.

    `picked`: the executions of which something is handed out; `is_calm`: whether the engine has run for a while.
    """
    concerned = set(picked).union(*(ids for _, ids in needs)) - part.alone
    careful = frozenset(each for each in batch.deaths if each in concerned)
    if careful:
        fatal = [each for each in careful if batch.deaths[each] >= DEATHS_MAX and not batch.has_ended(each)]
        ends = {each: _end(each, batch.deaths[each]) for each in fatal}
        waiting = frozenset(each for each in careful if batch.deaths[each] == DEATHS_MAX - 1 and not is_calm)
        raise Separation(_separate(needs, picked, careful, waiting, ends))


def _separate(
    needs: Needs,
    picked: Collection[str],
    careful: frozenset[str],
    waiting: frozenset[str],
    ends: dict[str, DeliverEvent],
) -> list[Part]:
    """Return the parts of a batch: first the hand-outs, then the works in their order. Empties `ends`."""
    met = waiting.union(*(ids for _, ids in needs))
    parts = [_part_of((), frozenset((each,)), waiting, ends) for each in sorted(careful.intersection(picked) - met)]
    calm: list[Work] = []
    for work, ids in needs:
        alone = careful.intersection(ids)
        if not alone:
            calm.append(work)
            continue
        if calm:
            parts.append(Part(calm, avoided=careful))
            calm = []
        if work.execution_id in waiting:
            parts.append(Part((work,), alone, waits=True))
        else:
            parts.append(_part_of((work,), alone, waiting, ends))
    return [*parts, Part(calm, avoided=careful)]


def _part_of(
    works: Sequence[Work], alone: frozenset[str], waiting: frozenset[str], ends: dict[str, DeliverEvent]
) -> Part:
    first = tuple(ends.pop(each) for each in sorted(alone.intersection(ends)))
    return Part(works, alone, avoided=alone & waiting, ends=first)


def _end(execution_id: str, deaths: int) -> DeliverEvent:
    """Return the work that ends an execution with the reason. It evaluates nothing."""
    reason = f"the engine died {deaths} times in a row while it stepped this execution; it is not tried again"
    return DeliverEvent(execution_id, Poisoned(reason=reason))
