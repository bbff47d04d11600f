"""What arrives last is merged into what is there: against the plain way, lists of what was published."""

from __future__ import annotations

from dataclasses import dataclass, field

import immutables
from hypothesis import given, settings
from hypothesis import strategies as st

from dalsegno.workflow.contexts import layers
from dalsegno.workflow.value import Value

START = {"x": {"a": 0}, "y": 0}


def at_start(name: str) -> object:
    """What a variable was before anything was published."""
    return START[name]


@dataclass
class Listed:
    """A context the plain way: every publish it is made of, in order."""

    publishes: list[tuple[int, str, object]] = field(default_factory=list)

    def value(self, name: str) -> object:
        """Everything that was published, merged into the start in order."""
        value = START.get(name)
        for _, published, given_value in self.publishes:
            if published == name:
                value = layers.deep_merge(value, given_value) if value is not None else given_value
        return value


VALUES = st.one_of(
    st.integers(0, 3),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.sampled_from("cd"), st.integers(0, 3)), max_size=2),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 9), st.sampled_from("xyz"), VALUES),
        st.tuples(st.just("merge"), st.integers(0, 9), st.integers(0, 9)),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_contexts_are_lists_of_publishes_merged_in_order_of_arrival(steps: list[tuple[object, ...]]) -> None:
    """However branches part and meet: a context is its publishes in order, those of a later arrival appended when new.

    A value from before a fork therefore never covers a newer one, whoever arrives last (orquesta/README.md#contexts).
    """
    made: list[tuple[layers.Layers, Listed]] = [(immutables.Map(), Listed())]
    for number, step in enumerate(steps, start=1):
        left, plain_left = made[int(str(step[1])) % len(made)]
        if step[0] == "publish":
            _, _, name, value = step
            context = layers.publish(left, number, {str(name): Value(data=value)}, at_start)
            plain = Listed([*plain_left.publishes, (number, str(name), value)])
        else:
            right, plain_right = made[int(str(step[2])) % len(made)]
            context = layers.merge(left, right)
            known = {publish[0] for publish in plain_left.publishes}
            plain = Listed(plain_left.publishes + [each for each in plain_right.publishes if each[0] not in known])
        made.append((context, plain))
        for name in "xyz":
            cell = context.get(name)
            if cell is not None:
                assert cell.value == plain.value(name)


def test_branches_that_published_nothing_share_their_context() -> None:
    """Merging what is the same costs nothing and gives the very same context."""
    context = layers.publish(immutables.Map(), 1, {"x": Value(data=1)}, at_start)
    assert layers.merge(context, context) is context
    assert layers.merge(context, immutables.Map()) is context
