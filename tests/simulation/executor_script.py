"""Executors as the simulation plays them: they speak the protocol of streams, and know nothing of engines."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

from tests.simulation.engine_life import HEARTBEAT_S, EngineLife
from tests.simulation.links import Link, Network
from tests.simulation.slips import slip

from dalsegno.actions.registry import load_registry
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker.session import describe
from dalsegno.workflow.refusals import SupersededSession

SERVED = ("std.noop", "std.echo", "std.http", "core.ask")

_SCHEMES = (execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS, execution_pb2.SIGNATURE_SCHEME_GITHUB)

Key = tuple[str, int]
"""An action execution's id and the delivery."""


class Engines(Protocol):
    """Who can be reached."""

    def at(self, address: int) -> EngineLife | None:
        """Return the engine that listens there now."""
        ...

    @property
    def addresses(self) -> int:
        """How many addresses there are."""
        ...


@dataclass
class Record:
    """What has happened to all executors, for the check at the end."""

    begun: Counter[str] = field(default_factory=Counter)
    """How often each action that is not safe to run again was begun, by its id."""
    received: dict[Key, str] = field(default_factory=dict)
    """The deliveries that have arrived, with the session."""
    reported: dict[Key, wire.TaskDone] = field(default_factory=dict)
    """The last outcome of each delivery."""
    accepted: dict[Key, int] = field(default_factory=dict)
    """The outcomes, but RUNNING, that engines have acknowledged as ACCEPTED."""
    tokens: dict[Key, str] = field(default_factory=dict)
    """The task tokens."""
    signing: dict[Key, tuple[int, str]] = field(default_factory=dict)
    """How third parties sign their callbacks, and with which key."""


class ScriptedExecutor:
    """Runs actions, and keeps each outcome until it is acknowledged."""

    def __init__(
        self,
        name: str,
        slots: int,
        known: tuple[int, ...],
        network: Network,
        engines: Engines,
        record: Record,
        seed: str,
    ) -> None:
        """`known`: the addresses of the engines to which it connects."""
        self.name = name
        self._names = count(1)
        self.slots = slots
        self.known = known
        self.record = record
        self.is_calm = False
        """Whether everything succeeds now."""
        self.forgets_acks = 0.0
        """The share of acknowledgements that it does not see, so that it answers twice."""
        self._frozen_until_s = 0.0
        self._postponed: list[Callable[[], object]] = []
        """What has come while it stands still, in order."""
        self.is_away = False
        self.duration_s: Callable[[], float] = lambda: 0.01
        self.delegated: Callable[[Key], None] = lambda key: None
        """Called when an action was handed to a third party."""
        self._network = network
        self._engines = engines
        self._chance = random.Random(seed)
        self._links: dict[int, Link] = {}
        self._parted: dict[int, float] = {}
        """Until when engines cannot be reached, by address."""
        self._begin()

    def _begin(self) -> None:
        """A new process begins, and remembers nothing."""
        self.session_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        self.running: dict[Key, wire.RunAction] = {}
        self.outbox: dict[Key, wire.TaskDone] = {}
        self.progress: list[wire.TaskDone] = []
        self._ended_engines: set[str] = set()
        self._left: dict[str, int] = {}
        self.is_away = False

    def start(self) -> None:
        """Connect to all engines, and give signs of life."""
        for address in self.known:
            self._later(self._chance.random() * 0.1, partial(self._connect, address))
        self._beat(self.session_id)

    def _later(self, delay_s: float, happening: Callable[[], object]) -> None:
        """Have something happen in this process, unless it has ended by then. While it stands still, later."""
        session_id = self.session_id

        def happen() -> None:
            if session_id == self.session_id and not self.is_away:
                if self._is_frozen:
                    self._postponed.append(happen)
                else:
                    happening()

        self._network.timeline.later(delay_s, happen)

    def _beat(self, session_id: str) -> None:
        for link in self._links.values():
            if link.engine_id:
                link.send(wire.ConnectRequest(heartbeat=wire.Heartbeat()))
                self._repeat(link)
        self._later(0.8 * HEARTBEAT_S, lambda: self._beat(session_id))

    def _repeat(self, link: Link) -> None:
        """Answer once more what was answered, as one does that has not seen an acknowledgement."""
        if self.outbox and (self.forgets_acks or self.is_calm):
            done = self._chance.choice(list(self.outbox.values()))
            link.send(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[done])))

    # Streams.

    def _connect(self, address: int) -> None:
        if address in self._links:
            return
        life = self._engines.at(address)
        if life is None or self._parted.get(address, 0.0) > self._network.timeline.now_s:
            self._later(0.5 + self._chance.random() * 0.5, lambda: self._connect(address))
            return
        link = self._links[address] = Link(self._network, life, self, address)
        link.credit = self._share(address)
        hello = self._hello(link.credit)
        if not self.is_calm and self._chance.random() < 0.02:
            hello.slots, hello.credit, hello.session_id, hello.labels["="] = 0, -1, "none", ""
            hello.actions.append(hello.actions[0])
            hello.actions.add(name="=", answer_schema="none").parameters.add()
            hello.in_flight.add(action_execution_id="nothing")  # it is refused, and comes again
        link.send(wire.ConnectRequest(hello=hello))
        self._later(10.0, lambda: None if link.engine_id or link.is_cut else self._give_up(link))

    def _give_up(self, link: Link) -> None:
        link.leave()
        self.lost(link, None)

    def _share(self, address: int) -> int:
        """Return how much credit the engine may get: an equal share, without what runs."""
        share = -(-self.slots // len(self.known))
        return max(0, share - len(self.running))

    def _hello(self, credit: int) -> wire.Hello:
        return wire.Hello(
            executor_id=self.name,
            session_id=self.session_id,
            actions=_descriptions(),
            slots=self.slots,
            in_flight=self._in_flight(),
            credit=credit,
            answers_inventory=True,
        )

    def _in_flight(self) -> list[wire.DeliveryReference]:
        keys = [*self.running, *self.outbox]
        return [wire.DeliveryReference(action_execution_id=name, delivery=delivery) for name, delivery in keys]

    def take(self, link: Link, message: wire.ConnectResponse) -> None:
        """See links.Side."""
        session_id = self.session_id
        if self.is_away or self._links.get(link.address) is not link:
            return
        if self._is_frozen:  # the messages wait in their order
            self._postponed.append(lambda: self.take(link, message) if session_id == self.session_id else None)
            return
        match message.WhichOneof("message"):
            case "welcome":
                self._welcomed(link, message.welcome)
            case "run_action":
                for order in message.run_action.actions:
                    self._accept(link, order)
            case "ack":
                for ack in message.ack.acks:
                    self._acknowledge(ack)
            case "cancel_action":
                self._cancel(message.cancel_action)
            case "inventory":
                self._tell_inventory(link, message.inventory.engine_id)
            case "drain":
                link.send(wire.ConnectRequest(goodbye=wire.Goodbye(reason="the engine is stopping")))

    def _welcomed(self, link: Link, welcome: wire.Welcome) -> None:
        if welcome.engine_id in self._ended_engines:
            self._give_up(link)
            return
        link.engine_id = welcome.engine_id
        for each in welcome.superseded:
            self._forget((each.action_execution_id, each.delivery))
        if self.outbox:
            link.send(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=list(self.outbox.values()))))

    def _tell_inventory(self, link: Link, engine_id: str) -> None:
        """Leave an engine that has ended, then tell what there is: nothing more can arrive from there."""
        self._ended_engines.add(engine_id)
        for other in list(self._links.values()):
            if other.engine_id == engine_id:
                self._give_up(other)
        link.send(wire.ConnectRequest(inventory=wire.Inventory(engine_id=engine_id, in_flight=self._in_flight())))

    def lost(self, link: Link, error: BaseException | None) -> None:
        """See links.Side."""
        if self._links.get(link.address) is not link:
            return
        del self._links[link.address]
        if isinstance(error, SupersededSession):
            self.restart(0.5)
            return
        for each in self._links.values():  # the outcomes go another way
            if each.engine_id and self.outbox:
                each.send(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=list(self.outbox.values()))))
                break
        self._later(0.1 + self._chance.random() * 0.4, lambda: self._connect(link.address))

    # Actions.

    def _accept(self, link: Link, order: wire.RunAction) -> None:
        key = order.action_execution_id, order.delivery
        link.credit -= 1
        self.record.received.setdefault(key, self.session_id)
        self.record.tokens[key] = order.task_token
        if key in self.outbox:
            link.send(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[self.outbox[key]])))
            self._give(link.address)
            return
        running = max((delivery for name, delivery in self.running if name == key[0]), default=0)
        if running >= key[1]:
            self._give(link.address)
            return
        if running:
            self._forget((key[0], running))
        if not order.context.safe_to_rerun:
            self.record.begun[order.action_execution_id] += 1
        self.running[key] = order
        self._left[order.action_execution_id] = link.address
        self._later(self.duration_s(), lambda: self._finish(key))

    def _give(self, address: int) -> None:
        """A slot is free again."""
        link = self._links.get(address)
        if link is not None and link.engine_id and not link.is_cut:
            link.credit += 1
            link.send(wire.ConnectRequest(credit=wire.Credit(more=1)))

    def _finish(self, key: Key) -> None:
        """An action comes to its outcome, or reports how far it is."""
        order = self.running.get(key)
        if order is None:
            return
        others = [] if self.is_calm else ["failed", "cancelled", "delegated", "running"]
        outcome = self._chance.choice(["succeeded"] * 12 + others)
        if order.action == "core.ask":
            outcome = "delegated"
        if not self.is_calm and self._chance.random() < 0.04:
            self._babble(key)
        done = wire.TaskDone(action_execution_id=key[0], delivery=key[1])
        if outcome == "running":
            done.outcome = wire.TASK_OUTCOME_RUNNING
            done.progress.text = "half of it"
            self._send(done, key)
            self._later(self.duration_s(), lambda: self._finish(key))
            return
        del self.running[key]
        done.outcome = wire.TaskOutcome.Value(f"TASK_OUTCOME_{outcome.upper()}")
        if outcome == "succeeded":
            done.result = json.dumps(self._chance.choice([1, 2, None, {"b": key[1]}]))
            if not self.is_calm and self._chance.random() < 0.02:
                done.result, done.error, done.alias = (
                    "{",
                    "none",
                    "none",
                )  # refused: the attempt fails
        elif outcome == "delegated":
            self._delegate(done, order)
        else:
            done.error = "broken"
        self.outbox[key] = done
        self.record.reported[key] = done
        self._send(done, key)
        self._give(self._left.pop(key[0], 0))
        if outcome == "delegated":
            self.delegated(key)

    def _delegate(self, done: wire.TaskDone, order: wire.RunAction) -> None:
        if self._chance.random() < 0.3:
            done.completion_timeout.FromSeconds(self._chance.randint(2, 6))
        if self._chance.random() < 0.3:
            done.heartbeat_timeout.FromSeconds(self._chance.randint(1, 4))
        if self._chance.random() < 0.2:
            done.alias = f"order {done.action_execution_id}"
        if self._chance.random() < 0.3:
            done.signature = self._chance.choice(_SCHEMES)
            self.record.signing[done.action_execution_id, done.delivery] = done.signature, order.signing_key

    def _babble(self, key: Key) -> None:
        """Send a report about nobody, or one with slips: it may end an action before its outcome comes."""
        running = wire.TaskDone(action_execution_id=key[0], delivery=key[1], outcome=wire.TASK_OUTCOME_RUNNING)
        running.progress.fraction = 7.0
        running.completion_timeout.FromSeconds(-1)
        nobody = wire.TaskDone(action_execution_id="nothing", delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED)
        gone = wire.TaskDone(
            action_execution_id=f"{uuid.UUID(int=7, version=4)}.1.0.1", delivery=-1, outcome=wire.TASK_OUTCOME_FAILED
        )
        gone.progress.text = "none"
        gone.heartbeat_timeout.FromNanoseconds(1)
        slipped = wire.TaskDone(action_execution_id=key[0], delivery=key[1], outcome=wire.TASK_OUTCOME_RUNNING)
        for _ in range(2):
            slip(slipped, self._chance)
        self._send(self._chance.choice([running, nobody, gone, slipped]), key)

    def _send(self, done: wire.TaskDone, key: Key) -> None:
        """Send an outcome on the stream of its action, or on any other one."""
        own = self._links.get(self._left.get(key[0], -1))
        links = [each for each in self._links.values() if each.engine_id]
        if own is not None and own.engine_id:
            links = [own]
        for link in links[:1]:
            link.send(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[done])))

    def _acknowledge(self, ack: wire.Ack) -> None:
        key = ack.action_execution_id, ack.delivery
        if ack.outcome == wire.TASK_OUTCOME_RUNNING:
            return
        if ack.verdict == wire.ACK_VERDICT_ACCEPTED:
            self.record.accepted[key] = ack.outcome
        if self._chance.random() >= self.forgets_acks:
            self.outbox.pop(key, None)

    def _cancel(self, cancel: wire.CancelAction) -> None:
        """Stop an action, if it runs: it ends as cancelled."""
        key = cancel.action_execution_id, cancel.delivery
        if key in self.running and self._chance.random() < 0.9:
            del self.running[key]
            done = wire.TaskDone(action_execution_id=key[0], delivery=key[1], outcome=wire.TASK_OUTCOME_CANCELLED)
            done.error = cancel.reason
            self.outbox[key] = self.record.reported[key] = done
            self._send(done, key)
            self._give(self._left.pop(key[0], 0))

    def _forget(self, key: Key) -> None:
        if self.running.pop(key, None) is not None:
            self._give(self._left.pop(key[0], 0))
        self.outbox.pop(key, None)

    # What happens to it.

    @property
    def links(self) -> list[Link]:
        """Its streams."""
        return list(self._links.values())

    @property
    def is_at_rest(self) -> bool:
        """Whether it is there, has nothing to do or to report, and opens no stream: each has got its Welcome."""
        return not (self.running or self.outbox or self.is_away) and all(each.engine_id for each in self.links)

    @property
    def _is_frozen(self) -> bool:
        return self._frozen_until_s > self._network.timeline.now_s

    def part(self, link: Link, away_s: float) -> None:
        """A stream breaks, and cannot be opened again for a while."""
        self._parted[link.address] = self._network.timeline.now_s + away_s
        link.cut()

    def freeze(self, duration_s: float) -> None:
        """It stands still for a while."""
        timeline = self._network.timeline
        self._frozen_until_s = max(self._frozen_until_s, timeline.now_s + duration_s)
        timeline.at(self._frozen_until_s, lambda: None if self._is_frozen else self.thaw())

    def thaw(self) -> None:
        """It goes on, with what has come meanwhile."""
        self._frozen_until_s = 0.0
        postponed, self._postponed = self._postponed, []
        for happening in postponed:
            happening()

    def restart(self, after_s: float) -> None:
        """Its process dies, and a new one begins after a while, sometimes under another name, as a new pod has."""
        for link in list(self._links.values()):
            link.cut()
        self._links = {}
        self.is_away = True

        def begin() -> None:
            if self.is_away:
                if self._chance.random() < 0.3:
                    self.name = f"{self.name.partition(' again ')[0]} again {next(self._names)}"
                self._begin()
                self.start()

        self._network.timeline.later(after_s, begin)

    def say_goodbye(self, after_s: float) -> None:
        """It ends in order, gives back what it has, and begins again after a while."""
        for link in self._links.values():
            if link.engine_id:
                link.send(wire.ConnectRequest(goodbye=wire.Goodbye(release=True, reason="it is updated")))
        self.running = {}
        self._network.timeline.later(0.05, lambda: self.restart(after_s))


_described: list[wire.ConnectRequest] = []


def _descriptions() -> list[wire.ActionDescription]:
    if not _described:
        actions = [describe(each) for each in load_registry(()) if each.description.name in SERVED]
        _described.append(wire.ConnectRequest(hello=wire.Hello(actions=actions)))
    return list(_described[0].hello.actions)
