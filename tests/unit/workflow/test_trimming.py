"""Contexts that are trimmed and stored behave as those with their whole history (decision 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalsegno.workflow.codec import Texts, reference
from dalsegno.workflow.contexts import context, layers
from dalsegno.workflow.contexts.portable import AnyContext, Portable, from_portable, to_portable
from dalsegno.workflow.contexts.trimming import rebased, trimmed
from dalsegno.workflow.value import Value

STARTS: list[dict[str, object]] = [
    {"x": {"a": 0, "b": {"c": 0}}, "y": 0},
    {"x": {"a": {"c": 9}, "d": 7}, "z": {"b": 8}},
    {"x": 1, "y": {"a": {"d": 2}}},
]

NO_START: dict[str, object] = {}

LEAVES = st.dictionaries(st.sampled_from("cd"), st.integers(0, 3), max_size=2)
VALUES = st.one_of(
    st.integers(0, 3),
    st.dictionaries(st.sampled_from("ab"), st.one_of(st.integers(0, 3), LEAVES), max_size=2),
)
PUBLISH = st.tuples(st.just("publish"), st.integers(0, 9), st.sampled_from("xyz"), VALUES)
STEPS = st.lists(
    st.one_of(
        PUBLISH,
        PUBLISH,
        st.tuples(st.just("fork"), st.integers(0, 9)),
        st.tuples(st.just("join"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.just(("trim",)),
        st.just(("store",)),
    ),
    max_size=40,
)


class Branches:
    """Open branches, each with its context, and the context of all that have ended."""

    def __init__(self, merges: str) -> None:
        self.is_layered = merges == "last arrived"
        self.start: Mapping[str, object] = STARTS[0]
        self.open: list[AnyContext] = [immutables.Map()]
        self.base: AnyContext | None = None

    def publish(self, seen: Any, number: int, name: str, value: object) -> AnyContext:
        if self.is_layered:
            return layers.publish(seen, number, {name: Value(data=value)}, self.start.__getitem__)
        return context.publish(seen, {name: Value(data=value)})

    def merge(self, left: Any, right: Any) -> AnyContext:
        return layers.merge(left, right) if self.is_layered else context.merge(left, right)

    def step(self, number: int, step: tuple[Any, ...], *, trims: bool) -> None:
        kind, *places = step
        at = [place % len(self.open) for place in places[:2] if isinstance(place, int)] if self.open else []
        if kind == "publish" and at:
            self.open[at[0]] = self.publish(self.open[at[0]], number, places[1], places[2])
        elif kind == "fork" and at:
            self.open.append(self.open[at[0]])
        elif kind == "join" and at and at[0] != at[1]:
            joined = self.merge(self.open[at[0]], self.open[at[1]])
            self.open = [one for place, one in enumerate(self.open) if place not in at] + [joined]
        elif kind == "end" and len(self.open) > 1:
            ended = self.open.pop(at[0])
            self.base = ended if self.base is None else self.merge(self.base, ended)
        elif trims and kind == "trim":
            self.open, self.base = trimmed(self.open, self.base)
        elif trims and kind == "store":
            *self.open, base = stored([*self.open, immutables.Map() if self.base is None else self.base])
            self.base = None if self.base is None else base

    def seen(self) -> list[dict[str, object]]:
        """All values, as they are and as they will be when the branches meet, in both orders."""
        found = [*self.open, *([] if self.base is None else [self.base])]
        for order in (self.open, self.open[::-1]):
            last: AnyContext = immutables.Map() if self.base is None else self.base
            for each in order:
                last = self.merge(last, each)
            found.append(last)
        found += [self.merge(left, right) for left in self.open for right in self.open]
        return [{name: cell.value for name, cell in each.items()} for each in found]


def stored(contexts: list[AnyContext]) -> list[AnyContext]:
    """The contexts, written as JSON and read back."""
    aside = Texts()
    text = msgspec.json.encode(to_portable(contexts), enc_hook=lambda value: reference(value, aside))
    return from_portable(msgspec.json.decode(text, type=Portable, dec_hook=lambda _, written: Value(text=written)))


@pytest.mark.parametrize("merges", ["last arrived", "most published"])
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_trimmed_contexts_give_the_same_values_in_all_that_follows(merges: str, steps: list[tuple[Any, ...]]) -> None:
    """Whatever is published, parts and meets, and whenever they are trimmed or stored."""
    whole, short = Branches(merges), Branches(merges)
    for number, step in enumerate(steps, start=1):
        whole.step(number, step, trims=False)
        short.step(number, step, trims=True)
        assert short.seen() == whole.seen()


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, starts=st.lists(st.sampled_from(STARTS), min_size=1, max_size=3), data=st.data())
def test_the_values_at_the_start_may_change_later(
    steps: list[tuple[Any, ...]], starts: list[dict[str, object]], data: st.DataObject
) -> None:
    """An edit of the workflow's variables gives the same as if they had been so from the start."""
    places = data.draw(st.lists(st.integers(0, len(steps)), min_size=len(starts), max_size=len(starts)))
    short = Branches("last arrived")
    for number in range(len(steps) + 1):
        for start, place in zip(starts, places, strict=True):
            if place == number:
                short.start = start
                *short.open, base = rebased(
                    [*short.open, immutables.Map() if short.base is None else short.base], start.__getitem__
                )
                short.base = None if short.base is None else base
        if number < len(steps):
            short.step(number + 1, steps[number], trims=True)
        whole = Branches("last arrived")
        whole.start = short.start
        for each, step in enumerate(steps[: number + 1], start=1):
            whole.step(each, step, trims=False)
        assert short.seen() == whole.seen()


def test_what_is_shared_stays_shared() -> None:
    """Contexts that are one object stay one, and so do cells and writes."""
    first = layers.publish(immutables.Map(), 1, {"x": Value(data={"a": 1})}, NO_START.__getitem__)
    second = layers.publish(first, 2, {"y": Value(data=2)}, NO_START.__getitem__)
    for contexts in (trimmed([first, second, first], None)[0], stored([first, second, first])):
        one, two, three = contexts
        assert one is three
        assert one["x"] is two["x"]
    assert len(to_portable([first, second]).cells) == 2


def size(contexts: list[AnyContext]) -> int:
    """How many bytes the contexts take where they are stored."""
    return len(msgspec.json.encode(to_portable(contexts), enc_hook=lambda value: value.text))


@pytest.mark.parametrize("merges", ["last arrived", "most published"])
@pytest.mark.parametrize("waits", [False, True], ids=["alone", "beside a branch that waits"])
@pytest.mark.parametrize("width", [1, 3])
def test_a_loop_stays_bounded(merges: str, waits: bool, width: int) -> None:
    """However often it goes round, in one branch or in three that meet, and beside a branch that began before it."""
    here = Branches(merges)
    here.open = [here.publish(immutables.Map(), 1, "x", {"a": 0})] * (1 + waits)
    number, sizes = 1, []
    for turn in range(300):
        *_, loop = here.open
        branches = []
        for branch in range(width):
            number += 1
            value = {"a": turn % 10, "bcd"[branch]: {"e": turn % 10}} if branch != 1 else turn % 10
            branches.append(here.publish(loop, number, "xyx"[branch], value))
        if width > 1:
            branches.append(loop)
        joined = branches[0]
        for branch_context in branches[1:]:
            joined = here.merge(joined, branch_context)
        here.open[-1] = joined
        if turn % 3 == 2:
            here.open, _ = trimmed(here.open, None)
            sizes.append(size(here.open))
    assert max(sizes[-10:]) <= max(sizes[20:30]) + 20  # numbers have more digits
    if waits and merges == "last arrived":
        assert len(to_portable(here.open).writes) < 12


@pytest.mark.parametrize("merges", ["last arrived", "most published"])
def test_a_loop_with_new_keys_and_ends_stays_bounded(merges: str) -> None:
    """Leaves that are not there any more are not counted for ever, and what only ended branches wrote is one write."""
    here = Branches(merges)
    sizes = []
    for turn in range(300):
        here.open = [here.publish(here.open[0], 2 * turn + 1, "x", {f"k{turn % 7 + turn // 7 * 10:05}": 1})]
        if merges == "last arrived":  # its dicts are merged key by key
            here.open = [here.publish(here.open[0], 2 * turn + 2, "x", turn % 10)]
        ended = here.publish(here.open[0], 2000 + turn, "y", turn % 10)
        here.base = ended if here.base is None else here.merge(here.base, ended)
        here.open, here.base = trimmed(here.open, here.base)
        assert here.base is not None
        sizes.append(size([*here.open, here.base.delete("x")]))
    assert sizes[-1] <= sizes[50] + 20
