"""Whose turn it is: in which order works are done, and how many a batch takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from dalsegno.engine.batches.work import Work

WINDOW_LEAST = 64

FEW = 32
"""A batch that does fewer works in its time has works that take long, to step or to load."""

SCAN_MAX = 10_000
"""How many works of the queue `pick` looks at."""

SHARE = 4
"""How many works of one turn `pick` puts before the first ones of the queue."""


def next_window(window: int, most: int, done: int | None) -> int:
    """Return how many works the next batch takes. `window`: how many the last one might take. `done`: how many quick
    works it has done in its time, if there were more; None: it has done all, or some were slow.

    Each work that is taken costs a claim, and again in the batch after it when it is left. Works that slow ones stand
    before are taken all the same: their executions have their turns.
    """
    return min(most, 2 * window) if done is None else min(most, max(WINDOW_LEAST, 2 * done))


def take_turns(works: list[Work], behind: Collection[str]) -> None:
    """Order works by turns: the first of each execution, then the second of each, and so on. Starts of one workflow
    or action share their turns, too.

    So many works of one execution, or many starts, do not delay the others. `behind`: the turns of works that the last
    batch has left, mostly because they are slow; these come one turn later. The first work stays the first, so that
    slow works make progress.
    """
    turns = dict.fromkeys(behind, 0)

    def turn(work: Work) -> int:
        name = work.turn
        if not name:
            return 0
        count = turns[name] = turns.get(name, -1) + 1
        return count

    works[1:] = sorted(works[1:], key=turn)


def pick(queue: deque[Work], window: int, behind: Collection[str]) -> deque[Work]:
    """Take the works of the next batch out of a queue where works take long.

    Otherwise what stands behind thousands of such works waits for all of them. So half of the batch are the next works
    of turns of which the last batch has left nothing (`behind`); the other half are the first works of the queue. The
    works of each execution keep their order.
    """
    scanned = [queue.popleft() for _ in range(min(len(queue), SCAN_MAX))]
    counts: dict[str, int] = {}
    picked, others = deque(scanned[:1]), deque[Work]()
    for work in scanned[1:]:
        name = work.turn
        count = counts[name] = counts.get(name, 0) + 1
        goes_first = not name or (name not in behind and count <= SHARE)
        (picked if goes_first and len(picked) <= window // 2 else others).append(work)
    while others and len(picked) < window:
        picked.append(others.popleft())
    queue.extendleft(reversed(others))
    return picked
