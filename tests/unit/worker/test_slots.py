"""Slots are divided among engines as credit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dalsegno.worker.slots import PORTION, RESERVED_S, Slots

ENGINES = ("a", "b", "c")
MOVES = st.lists(
    st.tuples(st.sampled_from(["connect", "disconnect", "take", "free", "extend"]), st.sampled_from(ENGINES)),
    max_size=60,
)


@given(total=st.integers(1, 9), moves=MOVES)
def test_credit_and_runs_together_are_never_more_than_the_slots(total: int, moves: list[tuple[str, str]]) -> None:
    """The credit of engines and the running actions are never more than the slots."""
    slots = Slots(total, ENGINES, 0)
    granted: dict[str, int] = {}
    running = dict.fromkeys(ENGINES, 0)
    for at_s, (move, engine) in enumerate(moves):
        if move == "connect" and engine not in granted:
            granted[engine] = slots.connect(engine, at_s)
        elif move == "disconnect" and engine in granted:
            slots.disconnect(engine, at_s)
            del granted[engine]
        elif move == "take" and granted.get(engine):
            slots.take(engine)
            granted[engine] -= 1
            running[engine] += 1
        elif move == "free" and running[engine]:
            slots.free(engine)
            running[engine] -= 1
        elif move == "extend" and engine in granted:
            granted[engine] += slots.extend(engine, at_s)
        assert slots.running == sum(running.values())
        assert sum(granted.values()) + sum(running.values()) <= total


def test_the_share_of_an_engine_that_is_away_is_kept_for_a_while() -> None:
    """An engine that restarts has its share again; one that stays away loses it to the others."""
    slots = Slots(10, ("a", "b"), 0)

    assert slots.connect("a", 0) == 5
    assert slots.extend("a", RESERVED_S - 1, at_once=True) == 0
    assert slots.extend("a", RESERVED_S + 1, at_once=True) == 5


def test_a_returning_engine_gets_its_share_as_others_use_theirs_up() -> None:
    """Given credit is not taken back, but none is added until the shares are equal."""
    slots = Slots(4, ("a", "b"), 0)
    assert slots.connect("a", RESERVED_S + 1) == 4
    assert slots.connect("b", RESERVED_S + 2) == 0
    assert slots.starved() == ["b"]

    slots.take("a")
    slots.free("a")

    assert slots.extend("a", RESERVED_S + 2) == 0
    assert slots.extend("b", RESERVED_S + 2) == 1


def test_credit_is_not_given_back_one_by_one() -> None:
    """While an engine has much credit, freed credit waits: a message for each would double the messages."""
    slots = Slots(100, ("a",), 0)
    slots.connect("a", 0)
    given_back = []
    for _ in range(100):
        slots.take("a")
        slots.free("a")
        given_back.append(slots.extend("a", 0))

    assert sum(1 for more in given_back if more) <= 3
    assert sum(given_back) >= 66  # what the engine has left is never less than half of what it might have


def test_a_portion_of_credit_is_given_back_at_once() -> None:
    """An engine that still has much credit gets a portion back, and less than that not yet."""
    slots = Slots(1000, ("a",), 0)
    slots.connect("a", 0)
    for _ in range(PORTION):
        assert slots.extend("a", 0) == 0
        slots.take("a")
        slots.free("a")
    assert slots.extend("a", 0) == PORTION
