"""Several engines: for which deliveries a Hello and an Inventory speak, and when an engine must stop."""

from __future__ import annotations

import pytest
from tests.unit.engine.test_conductor import Rig, Start
from tests.unit.engine.test_sessions import LEASE_S, Executors

from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.executors.inventories import TakeInventory
from dalsegno.engine.executors.sessions import Delivery, Greeting, KeepLeases, OpenSession
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.identity import parse_attempt_id


class Pair:
    """Two engines on one store. The rig's conductor is that of whichever engine the test says."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.rig.define()
        for name in ("one", "two"):
            self.rig.store.register_engine(name, "", is_alone=False)

    def hand_out(self, engine: int, count: int = 1) -> list[Delivery]:
        """Hand out an action of each of so many new executions by this engine."""
        self.rig.dispatcher._engine = engine
        self.rig.carry_out(*(Start(100 * engine + number) for number in range(count)))
        runs, self.rig.sent = self.rig.sent, []
        return [delivery_of(run) for run in runs]

    def greet(self, engine: int, *in_flight: Delivery, answers: bool = False) -> OpenSession:
        """Say Hello to this engine."""
        greeting = Greeting(
            *("x", "s", {"std.noop": "{}"}, 10, {}), in_flight=frozenset(in_flight), answers_inventory=answers
        )
        work = OpenSession(greeting, f"engine {engine}", LEASE_S, lambda work, error: None, engine)
        self.rig.carry_out(work)
        return work

    def tell(self, engine_id: str, *in_flight: Delivery) -> TakeInventory:
        """Answer what the executor has of an engine."""
        work = TakeInventory("s", "x", engine_id, frozenset(in_flight), lambda work: None)
        self.rig.carry_out(work)
        return work

    def sent_again(self) -> list[Delivery]:
        """What the second engine hands out once the losses are told, with the delivery before, in order."""
        self.rig.dispatcher._engine = 2
        self.rig.deliver()
        again = [(name, key, number - 1) for name, key, number in map(delivery_of, self.rig.sent)]
        self.rig.sent = []
        return sorted(again)


def delivery_of(run: wire.RunAction) -> Delivery:
    return *parse_attempt_id(run.action_execution_id), run.delivery


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.greet(1)
    return pair


@pytest.mark.parametrize("answers", [False, True])
def test_a_hello_leaves_what_another_engine_has_handed_out(pair: Pair, answers: bool) -> None:
    """An executor that says Hello to one engine may not yet have received what the other one sends: nothing of that is
    lost, whether the Hello lists it or not."""
    listed, _ = pair.hand_out(1, 2)
    opened = pair.greet(2, listed, answers=answers)
    assert (opened.superseded, opened.gone) == ([], {})
    assert pair.sent_again() == []


def test_a_hello_speaks_for_its_own_stream(pair: Pair) -> None:
    """What this engine sent and the Hello does not list was never received, and is sent again."""
    listed, unlisted = pair.hand_out(1, 2)
    pair.greet(1, listed, answers=True)
    assert pair.sent_again() == [unlisted]


def test_without_inventory_a_hello_speaks_for_engines_that_have_ended(pair: Pair) -> None:
    """An executor that knows only one engine at a time tells all in its Hello, as soon as its engine has ended."""
    listed, unlisted = pair.hand_out(1, 2)
    pair.rig.store.end_engine(1)
    assert pair.greet(2, listed).gone == {1: "one"}
    assert pair.sent_again() == [unlisted]


def test_with_inventory_it_is_asked_first(pair: Pair) -> None:
    """Its Hello loses nothing of an engine that has ended, because that may still be in its stream; its Inventory
    does, and what it lists goes on."""
    listed, unlisted = pair.hand_out(1, 2)
    pair.rig.store.end_engine(1)
    assert pair.greet(2, answers=True).gone == {1: "one"}
    assert pair.sent_again() == []
    assert pair.tell("one", listed).superseded == []
    assert pair.sent_again() == [unlisted]
    assert pair.tell("one", listed).superseded == []
    assert pair.sent_again() == []


def test_an_inventory_speaks_for_the_engine_that_has_ended_only(pair: Pair) -> None:
    """What another engine has sent meanwhile is no concern of it; neither is an engine that has not ended."""
    of_one = pair.hand_out(1)
    pair.hand_out(2)
    pair.tell("two", *of_one)
    assert pair.sent_again() == []
    pair.rig.store.end_engine(1)
    pair.tell("one")
    assert pair.sent_again() == of_one


def test_what_nobody_waits_for_is_named_after_an_inventory(pair: Pair) -> None:
    """The executor learns which of its deliveries no longer count; those that count are not among them."""
    (delivery,) = pair.hand_out(1)
    pair.rig.store.end_engine(1)
    older = (*delivery[:2], delivery[2] + 7)
    foreign = ("00000000-0000-7000-8000-000000000000", (1, 0, 1), 1)
    assert set(pair.tell("one", delivery, older, foreign).superseded) == {older, foreign}
    assert pair.sent_again() == []


def test_engines_look_for_executors_of_engines_that_have_ended(pair: Pair) -> None:
    """Each second an engine finds which of its executors have anything of an engine that has ended."""
    pair.hand_out(1)
    asked: list[tuple[str, dict[int, str]]] = []
    executors = Executors("s")
    executors.streams["s"] = "x"
    executors.engines_ended = lambda session_id, gone: asked.append((session_id, dict(gone)))  # type: ignore[method-assign]
    for ends in (False, True):
        if ends:
            pair.rig.store.end_engine(1)
        work = KeepLeases(executors, LEASE_S, lambda: True, is_shared=True, engine=2)
        pair.rig.carry_out(work)
        work.done()
        assert asked == ([("s", {1: "one"})] if ends else [])


def test_what_an_older_version_has_handed_out_belongs_to_every_hello(pair: Pair) -> None:
    """Its rows do not say by which engine."""
    listed, unlisted = pair.hand_out(0, 2)
    pair.greet(2, listed, answers=True)
    assert pair.sent_again() == [unlisted]


def test_an_engine_that_was_ended_stores_nothing_more(pair: Pair) -> None:
    """Its next batch finds it: nothing of it is stored, and it is as if the store were lost for good."""
    ended: list[bool] = []
    pair.rig.conductor._engine = 1
    pair.rig.conductor.on_ended = lambda: ended.append(True)
    pair.rig.carry_out(Start(1))
    pair.rig.store.end_engine(1)
    start = Start(2)
    with pytest.raises(StoreLost, match="another engine has ended this one") as lost:
        pair.rig.carry_out(start)
    with pair.rig.store.read() as queries:
        assert queries.execution(start.execution_id) is None
    pair.rig.conductor._end([start], [], lost.value)
    assert ended == [True]
