"""Whose turn it is: in which order works are done, and how many a batch takes."""

from __future__ import annotations

from collections.abc import Collection

from dalsegno.engine.batches.work import Work

WINDOW_LEAST = 64


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
