"""The simulation of several engines on one store, with executors and people, everything from one seed.

Faults happen for a while. Then they stop, everybody does what they can, and everything must come to rest, with each
thing having happened once (settled.py).
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.simulation.demands import Demands
from tests.simulation.documents import COUNT, Given, documents_of, random_document
from tests.simulation.engine_life import WITH_DELIVERIES, EngineLife, EngineStore, Note, engine_substitutes
from tests.simulation.executor_script import Key, Record, ScriptedExecutor
from tests.simulation.faults import COUNT_MAX, LEAST, Fault, befall, faults_of
from tests.simulation.links import Network
from tests.simulation.ordered import OrderedStore
from tests.simulation.people import People
from tests.simulation.played_pool import PlayedPool
from tests.simulation.receivers import Receivers, follow
from tests.simulation.settled import Settled, kept_by_ended
from tests.simulation.stepped import Timeline, substituted

from dalsegno.engine.desk.library import stored_member
from dalsegno.store.records import ExecutionRow, StoredDocument
from dalsegno.store.store import Queries, Store
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_EXECUTION

EXECUTIONS = 20
"""How many executions a seed has at least."""
BEGIN_S = 1.0
"""When the first engines have started."""
WEATHER_S = 20.0
"""How long faults happen, in seconds of the simulation."""
SETTLED_WITHIN_S = 200.0
"""How long after that everything has come to rest."""
REVISION_MAX = 120
"""What has so many changes goes round for ever, and somebody ends it."""


@dataclass(frozen=True)
class Plan:
    """What happens in a seed. `executions`, `operations` and `faults` may be made fewer."""

    seed: int
    executions: int = 9
    """How many people start while faults happen. Others come of these, or are started when the faults are over: there
    are EXECUTIONS at least."""
    operations: int = 20
    documents: int = 5
    faults: tuple[int, ...] | None = None
    """The numbers of the faults that happen; None: all."""


@dataclass
class Outcome:
    """What has happened in a seed."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    happenings: int = 0
    executions: int = 0
    engines: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    journals: bytes = b""
    """All journals, to be compared."""


class Cluster:
    """One store, and everybody who uses it."""

    def __init__(
        self, plan: Plan, timeline: Timeline, chance: random.Random, store: Store, others: tuple[PlayedPool, Receivers]
    ) -> None:
        self._pool, self._receivers = others
        self._pool.on_done = self._wake
        self.plan = plan
        self.timeline = timeline
        self.store = store
        self.chance = chance
        self.counted: Counter[str] = Counter()
        self.record = Record()
        self.network = Network(timeline, random.Random(f"network {plan.seed}"))
        self.people = People(self.network, self, random.Random(f"people {plan.seed}"))
        self.people.record = self.record
        self._demands = Demands(self.people, random.Random(f"demands {plan.seed}"))
        self.lives: list[EngineLife] = []
        """All engines that there ever were."""
        self.faults = faults_of(plan.seed, chance.randint(12, COUNT_MAX), BEGIN_S, WEATHER_S)
        self.people.gives_deadlines = not any(each.kind == "clock step" for each in self.faults)
        self.is_calm = False
        self._listening: dict[int, EngineLife] = {}
        self._notes: dict[int, Note] = {}
        self._shares: dict[str, float] = {}
        self._ended: set[str] = set()
        """What somebody has ended since it went round for ever."""
        self._is_absent, self._slow_s, self._hangs_s = False, 0.0, (0.0, 0.0)
        self._addresses = chance.choice([2, 2, 3])
        self._given_up: set[int] = set()
        """Where no engine starts again."""
        self._revisions: dict[str, int] = {}
        """Of each execution, when somebody last looked whether it goes round for ever."""
        self._over: dict[str, int] = {}
        """At which revision each execution has ended, with no open action any more."""
        self.executors = [
            ScriptedExecutor(name, slots, self._known(), self.network, self, self.record, f"{name} {plan.seed}")
            for name, slots in (("executor 0", 4), ("executor 1", 2), ("executor 2", 3))
        ]
        for executor in self.executors:
            executor.duration_s = self._duration_s
            executor.delegated = self._delegated
        timeline.jump = lambda: 0.03 if self._is_slow("work") else 0.0

    # What others ask.

    @property
    def addresses(self) -> int:
        """How many addresses of engines there are."""
        return self._addresses

    def give_up(self, address: int) -> None:
        """Have no engine start there again, unless executors need it."""
        others = set(range(self._addresses)) - self._given_up - {address}
        if all(others.intersection(each.known) for each in self.executors):
            self._given_up.add(address)

    def address_of(self, life: EngineLife) -> int:
        """Return the address at which an engine listens."""
        return next(address for address, each in self._listening.items() if each is life)

    def _known(self) -> tuple[int, ...]:
        """Return the addresses that an executor knows: sometimes one only, which need not be that of the others."""
        known = range(self._addresses)
        return (self.chance.choice(known),) if self.chance.random() < 0.15 else tuple(known)

    def at(self, address: int) -> EngineLife | None:
        """Return the engine that listens there."""
        life = self._listening.get(address)
        return None if life is None or life.is_dead or life.is_stopping else life

    def alive(self) -> list[EngineLife]:
        """Return the engines that run."""
        return [life for life in self._listening.values() if not life.is_dead]

    def note(self, kind: str) -> None:
        """Count a fault that has happened."""
        self.counted[kind] += 1

    def set_database(self, *, is_absent: bool = False, slow_s: float = 0.0) -> None:
        """Have the database be away, or slow; with neither it is there."""
        self._is_absent, self._slow_s = is_absent, slow_s
        for life in self.alive():
            self._connect(life.store)

    def hang(self, duration_s: float) -> None:
        """Have commits hang for a while, as those of a primary whose standby is away."""
        self._hangs_s = self.timeline.now_s, self.timeline.now_s + duration_s
        for life in self.alive():
            life.store.hangs_s = self._hangs_s

    def set_share(self, name: str, share: float) -> None:
        """Set how often something is slow; negative: as usual. After the faults no message is slow."""
        if name == "messages" and not self.is_calm:
            self.network.slow_share = 0.03 if share < 0 else share
        self._shares[name] = share

    def _is_slow(self, name: str) -> bool:
        share = self._shares.get(name, -1.0)
        return self.chance.random() < (0.002 if share < 0 else share / 5)

    def _connect(self, store: EngineStore) -> None:
        store.is_absent, store.slow_s = self._is_absent, self._slow_s

    def _duration_s(self) -> float:
        return 0.2 if self.is_calm else self.chance.choice([0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 2.5])

    # Engines.

    def begin(self) -> None:
        """Everybody comes."""
        self._define()
        for address in range(self._addresses):
            self.timeline.later(0.05 * address, self._starting(address))
        self.timeline.later(2.0, self._tend)
        for executor in self.executors:
            executor.start()
        for _ in range(self.plan.executions):
            namespace, given = self.chance.choice(self._documents)
            self.timeline.later(BEGIN_S + self.chance.random() * 8.0, self._asking(namespace, given))
        for _ in range(self.plan.operations):
            self.timeline.later(BEGIN_S + 1.0 + self.chance.random() * (WEATHER_S - 2.0), self._operate)
        for fault in self.faults:
            if self.plan.faults is None or fault.number in self.plan.faults:
                self.timeline.later(fault.at_s, self._befalling(fault))

    def _befalling(self, fault: Fault) -> Callable[[], None]:
        return lambda: befall(fault, self) if not fault.is_reserve or self.counted.total() < LEAST else None

    def _asking(self, namespace: str, given: Given) -> Callable[[], None]:
        return lambda: self.people.start(namespace, given)

    def _numbers(self) -> list[int]:
        """Return the numbers of the documents of this seed, of both languages."""
        first, *others = self.chance.sample(range(COUNT), COUNT)
        language = random_document(first).language
        other = next(number for number in others if random_document(number).language != language)
        others.remove(other)
        return [first, other, *others][: self.plan.documents]

    def _define(self) -> None:
        """The workflows are there."""
        self._documents: list[tuple[str, Given]] = []
        with self.store.write() as transaction:
            for number in self._numbers():
                given = random_document(number)
                self._documents.append((f"d{number}", given))
                for text, document in zip(given.texts, documents_of(given), strict=True):
                    members = [stored_member(each, self.timeline.now_s) for each in document.members]
                    stored = StoredDocument(text, document.language, f"d{number}", self.timeline.now_s)
                    transaction.save_document(stored, members)

    def _starting(self, address: int) -> Callable[[], None]:
        return lambda: self._start(address)

    def _start(self, address: int) -> None:
        """An engine starts at an address, unless the database is away or hangs: then it tries again."""
        if self._is_absent or self.timeline.now_s < self._hangs_s[1]:
            self.timeline.later(1.0, self._starting(address))
            return
        note = self._notes.setdefault(address, Note())
        store = EngineStore(self.store, self.timeline)
        store.happened = lambda fault: self.note(_shown(fault))
        cache_bytes = self.chance.choice([1, 60_000, 1 << 30])
        life = EngineLife(store, self.timeline, note, cache_bytes, f"engine {len(self.lives)}")
        self._connect(store)
        life.on_death = lambda place: self._died(address, life, place)
        life.batch_delay_s = self._batch_delay_s
        life.is_compiling_slow = lambda: self._is_slow("definitions")
        self.lives.append(life)
        self._listening[address] = life
        life.start()
        life.spawn(follow(life, self.store, self.people.wrong))

    def _wake(self) -> None:
        for life in self.alive():
            life.wake()

    def _batch_delay_s(self) -> float:
        return self._slow_s / 2 + self.chance.choice([0.001, 0.01, 0.05, 0.2])

    def _died(self, address: int, life: EngineLife, place: str) -> None:
        """Its streams break, and another engine starts there after a while."""
        life.note.die_at = 0
        for executor in self.executors:
            for link in executor.links:
                if link.life is life:
                    link.cut()
        if self._listening.get(address) is life and address not in self._given_up:
            self.timeline.later(0.2 if self.is_calm else self.chance.uniform(0.1, 6.0), self._starting(address))

    # People.

    def _operate(self) -> None:
        """Somebody wants something of an execution, or something else."""
        draw = self.chance.random()
        if draw < 0.1:
            self.people.run_action()
            return
        with self.store.read() as queries:
            if draw < 0.35:
                self._demands.ask(queries, *self.chance.choice(self._documents))
                return
            ids = queries.execution_ids()
            if ids:
                self.people.control(queries, self.chance.choice(ids))

    def _delegated(self, key: Key) -> None:
        """A third party has something to do."""
        token = self.record.tokens[key]
        if self.chance.random() < 0.4:
            self.timeline.later(self.chance.uniform(0.1, 2.0), lambda: self.people.tell(key, token))
        if self.chance.random() < 0.8:
            self.timeline.later(self.chance.uniform(0.1, 5.0), lambda: self.people.complete(key, token))

    def _tend(self) -> None:
        """Somebody ends what goes round for ever, and looks whether what ended sessions have is on its way back."""
        for each in kept_by_ended(self.store):
            self.people.wrong.append(f"ended sessions have attempts of {each}, and no message tells it so")
        with self.store.read() as queries:
            for execution_id, (revision, _) in queries.standings(queries.execution_ids()).items():
                if revision > REVISION_MAX and execution_id not in self._ended:
                    self._ended.add(execution_id)
                    self.people.cancel(execution_id)
        self.timeline.later(2.0, self._tend)

    # The end.

    def calm(self) -> None:
        """Faults stop. Everybody does what they can."""
        self.is_calm = self.people.is_calm = self._pool.is_calm = self._receivers.is_calm = True
        self.set_database()
        self.hang(0.0)
        self._shares.clear()
        self.network.slow_share = 0.0
        for life in self.alive():
            life.store.faults.clear()
            life.note.die_at = 0
            life.dies_with_deliveries = False
            life.frozen_until_s = min(life.frozen_until_s, self.timeline.now_s)
            life.wake()
        for executor in self.executors:
            executor.is_calm = True
            executor.forgets_acks = 0.0
            executor.thaw()

    def _start_more(self) -> bool:
        """Have people start some of the executions that are missing, if any are: each may have sub-workflows. Return
        whether any are."""
        with self.store.read() as queries:
            missing = EXECUTIONS - len(queries.execution_ids()) if self.plan.executions else 0
        for _ in range(-(-missing // 3)):
            self.people.start(*min(self._documents, key=lambda each: sum(map(len, each[1].texts))))
        return missing > 0

    def settle(self) -> bool:
        """Let time pass until everything is at rest. Return whether it is."""
        until_s = self.timeline.now_s + SETTLED_WITHIN_S
        rounds, is_at_rest = 0, False
        while self.timeline.now_s < until_s:
            self.timeline.run(self.timeline.now_s + 1.0)
            rounds += 1
            was_at_rest, is_at_rest = is_at_rest, self.is_at_rest()
            if was_at_rest and is_at_rest and not self._start_more():  # nothing is on its way either
                return True
            self._help(rounds)
        return False

    def _help(self, rounds: int) -> None:
        """Delegates are completed; what is paused goes on; what goes round for ever is ended. What stands still though
        nobody has paused it stays as it is: an engine must carry it on."""
        if self.people.open:
            return
        with self.store.read() as queries:
            standings = queries.standings(queries.execution_ids())
            changed = [each for each, (revision, _) in standings.items() if self._over.get(each) != revision]
            for row in queries.executions_of(changed, full=False).values():
                is_active = row.state not in COMPLETED_EXECUTION or row.active_count
                if row.state == "PAUSED" and rounds < 6 and self.chance.random() < 0.8:
                    self.people.resume(row.id)
                elif row.state == "PAUSED" or (is_active and rounds > 10 and self._moves(row)):
                    self.people.cancel(row.id)
                self._revisions[row.id] = row.revision
                self._help_actions(queries, row)

    def _help_actions(self, queries: Queries, row: ExecutionRow) -> None:
        """Have the delegates of an execution completed: also of an ended one, for they may still be due to give a sign
        of life. Its paused actions are completed too: their executors may be gone. What waits for an executor of its
        own is cancelled: perhaps none is called so any more."""
        attempts = queries.attempts(row.id, size=1000).rows
        open_ones = [each for each in attempts if each.state not in COMPLETED_ATTEMPT]
        if not open_ones and row.state in COMPLETED_EXECUTION and not row.active_count:
            self._over[row.id] = row.revision
        for attempt in open_ones:
            name = attempt_id(row.id, attempt.key)
            if attempt.state == "READY" and attempt.target:
                self.people.cancel_action(name)
            elif (attempt.delegated or attempt.state == "PAUSED") and (name, attempt.delivery) in self.record.tokens:
                self.people.complete((name, attempt.delivery), self.record.tokens[name, attempt.delivery])

    def _moves(self, row: ExecutionRow) -> bool:
        """Return whether an execution has changed since somebody last looked."""
        return self._revisions.get(row.id, row.revision) != row.revision

    def is_at_rest(self) -> bool:
        """Return whether nothing is left to be done."""
        if self.people.open or not all(each.is_at_rest for each in self.executors):
            return False
        lives = self.alive()
        if len(lives) < self._addresses - len(self._given_up) or any(life.is_stopping or life.works for life in lives):
            return False
        settled = Settled(self.store)
        if settled.sessions() - {each.session_id for each in self.executors}:
            return False  # its lease is to end
        return settled.has_ended_others({life.engine.number for life in lives}) and settled.is_quiet()


def _shown(fault: str) -> str:
    if fault == WITH_DELIVERIES:
        return fault
    kind, _, moment = fault.partition(" ")
    words = {
        "die": f"die {moment} commit",
        "lose": f"commit lost {moment}",
        "conflict": "commit conflicts",
        "break": "commit breaks",
    }
    return words[kind]


def simulate(plan: Plan, store_of: Callable[[Timeline], Store] | None = None) -> Outcome:
    """Run one seed, and return what has happened and what was wrong."""
    chance = random.Random(f"seed {plan.seed}")
    timeline = Timeline()
    outcome = Outcome(plan.seed)
    others = PlayedPool(timeline, random.Random(f"pool {plan.seed}")), Receivers(random.Random(f"http {plan.seed}"))
    with substituted(timeline, random.Random(f"source {plan.seed}"), engine_substitutes(*others)):
        store: Store = OrderedStore(timeline.time) if store_of is None else store_of(timeline)
        cluster = Cluster(plan, timeline, chance, store, others)
        try:
            begin_s = timeline.now_s
            cluster.begin()
            timeline.run(begin_s + WEATHER_S)
            cluster.calm()
            is_settled = cluster.settle()
            settled = Settled(cluster.store)
            outcome.wrong += _check(cluster, settled, is_settled=is_settled)
            outcome.journals = settled.journals()
        except Exception as error:
            outcome.wrong.append("".join(traceback.format_exception(error)[-6:]))
        finally:
            for life in cluster.lives:
                life.bury()
    _count(outcome, cluster)
    return outcome


def _check(cluster: Cluster, settled: Settled, *, is_settled: bool) -> Iterable[str]:
    for life in cluster.lives:
        yield from (f"{life.name}: {failure}" for failure in life.failures)
        yield from (f"{life.name}: {error}" for error in life.loop.errors if not life.is_dead)
    if not is_settled:
        yield f"it does not come to rest: {settled.what_is_left()} {cluster.people.open} " + " ".join(
            f"{each.name}: {list(each.running)} {list(each.outbox)}" for each in cluster.executors
        )
        return
    yield from cluster.people.wrong
    yield from settled.faults(cluster.record, cluster.people)
    yield from settled.faults_of_engines(cluster.alive(), cluster.executors)


def _count(outcome: Outcome, cluster: Cluster) -> None:
    outcome.faults = cluster.counted
    outcome.happenings = cluster.timeline.count
    outcome.engines = len(cluster.lives)
    outcome.refusals = Counter(cluster.people.refusals)
    outcome.executions = len(Settled(cluster.store).rows())
    if isinstance(cluster.store, OrderedStore):
        outcome.changes, outcome.events = cluster.store.kinds, cluster.store.events
