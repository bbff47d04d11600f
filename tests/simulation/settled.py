"""What must be true when everything has come to rest: read from rows and journals, and from what executors and people
have written down themselves."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from tests.simulation.engine_life import EngineLife
from tests.simulation.executor_script import Key, Record, ScriptedExecutor
from tests.simulation.people import People

from dalsegno.store.filters import ATTEMPT_FIELDS, parse_filter
from dalsegno.store.inspection import check_execution
from dalsegno.store.records import ExecutionRow, JournalChange
from dalsegno.store.store import Queries, Store
from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.codec import Texts, encode_changes
from dalsegno.workflow.identity import AttemptKey, parse_attempt_id
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_EXECUTION

READY = parse_filter("state=READY", ATTEMPT_FIELDS)


def left_by_keepers(store: Store, limit: int = 10) -> list[str]:
    """Return up to `limit` messages of each keeper, whenever they are due, and the executions with READY attempts.

    Those of an execution whose way back has failed wait for a resume or a cancel, as those of a paused one do.
    """
    found: list[str] = []
    with store.write() as transaction:
        for keeper in sorted(transaction.keepers().keeping):
            found += [f"message {each} of {keeper}" for each in transaction.due_messages(math.inf, limit, keeper)]
            executions = transaction.queries.execution_ids()
            ready = transaction.queries.first_attempts(executions, READY, 1)
            rows = transaction.queries.executions_of(sorted(ready), full=False)
            found += [f"READY attempts of {each.id}" for each in rows.values() if each.state != "REVERT_ERROR"]
    return found


def kept_by_ended(store: Store) -> set[str]:
    """Return the executions of which ended sessions have attempts, and which no message tells so."""
    with store.write() as transaction:
        sessions = {each.session_id for each in transaction.queries.sessions()}
        ended = [each for each, count in transaction.queries.held_counts().items() if count and each not in sessions]
        if not ended:
            return set()
        keepers = sorted(transaction.keepers().keeping)
        told = {each.execution_id for keeper in keepers for each in transaction.due_messages(math.inf, 1000, keeper)}
        return {each.execution_id for each in transaction.held_attempts(ended)} - told


class Settled:
    """A store in which nothing happens any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._journals: dict[str, list[JournalChange]] = {}

    def rows(self) -> list[ExecutionRow]:
        """Return all executions."""
        with self._store.read() as queries:
            return list(queries.executions_of(queries.execution_ids(), full=False).values())

    def _journal(self, execution_id: str) -> list[JournalChange]:
        """Return all changes of an execution, as they were when somebody first asked."""
        if execution_id in self._journals:
            return self._journals[execution_id]
        found = self._journals[execution_id] = []
        with self._store.read() as queries:
            while page := queries.journal(execution_id, found[-1].sequence if found else 0):
                found += page
        return found

    def is_quiet(self) -> bool:
        """Return whether every execution has ended, and no message and no READY attempt waits, whoever keeps it."""
        with self._store.read() as queries:
            if not all(resting for _, resting in queries.standings(queries.execution_ids()).values()):
                return False
        return not left_by_keepers(self._store, 1) and all(row.state in COMPLETED_EXECUTION for row in self.rows())

    def has_ended_others(self, numbers: Collection[int]) -> bool:
        """Return whether all engines but those with these numbers have been ended."""
        with self._store.read() as queries:
            return all(row.ended or row.number in numbers for row in queries.engines().values())

    def sessions(self) -> set[str]:
        """Return the sessions of executors that there are."""
        with self._store.read() as queries:
            return {each.session_id for each in queries.sessions()}

    def what_is_left(self) -> str:
        """Return what is not at rest."""
        found = [
            f"{row.workflow} {row.state} {row.info} {row.id}"
            for row in self.rows()
            if row.state not in COMPLETED_EXECUTION or row.active_count
        ]
        with self._store.read() as queries:
            for row in self.rows():
                for attempt in queries.attempts(row.id, size=1000).rows:
                    if attempt.state not in COMPLETED_ATTEMPT:
                        found.append(
                            f"{attempt.action} {attempt.state} {attempt.key} delivery {attempt.delivery}"
                            f" delegated {attempt.delegated} session {attempt.session_id} engine {attempt.engine}"
                        )
        return "; ".join(found + left_by_keepers(self._store))

    def journals(self) -> bytes:
        """Return all journals as they are stored, one after the other."""
        texts: list[str] = []
        for row in sorted(self.rows(), key=lambda row: row.id):
            journal = self._journal(row.id)
            aside = Texts()
            texts.append(f"{row.id} {[(each.sequence, each.at_s, each.event) for each in journal]}")
            texts.append(encode_changes([each.change for each in journal], aside))
        return "\n".join(texts).encode()

    # What is wrong.

    def faults(self, record: Record, people: People) -> Iterator[str]:
        """Yield what is wrong with executions."""
        rows = self.rows()
        with self._store.read() as queries:
            known: Any = _JournalsKnown(queries, self._journal)
            for row in rows:
                yield from check_execution(known, row.id)
        roots = {row.id for row in rows if not row.parent_id and row.workflow}
        wanted = set(people.started.values()) - people.deleted
        there = {row.id for row in rows}
        yield from (
            f"execution {each} was started, and is not there" for each in sorted(wanted - there - people.to_delete)
        )
        yield from (f"execution {each} was started by nobody" for each in sorted(roots - wanted - people.deleted))
        for each, count in Counter(people.begun.values()).items():
            if count > 1 and each not in people.deleted:
                yield f"{count} requests have started execution {each}"
        yield from _doubled_children(rows)
        for name, count in record.begun.items():
            if count > 1 and parse_attempt_id(name)[0] not in people.deleted:
                yield f"action execution {name}, which is not safe to run again, was begun {count} times"
        received, accepted = _by_execution(record.received), _by_execution(record.accepted)
        for row in rows:
            if row.id in people.deleted:
                continue  # it was started anew after it was deleted
            yield from self._faults_of(row, record, received[row.id], accepted[row.id])

    def _faults_of(
        self, row: ExecutionRow, record: Record, received: Sequence[Received], accepted: Sequence[Received]
    ) -> Iterator[str]:
        """Yield what is wrong with the deliveries and outcomes of an execution."""
        journal = self._journal(row.id)
        if row.first_sequence > 1:
            return  # what was before is gone
        handed: dict[tuple[Any, int], str] = {}
        ended: Counter[Any] = Counter()
        heard: set[Any] = set()
        last: dict[Any, int] = {}
        for each in journal:
            change = each.change
            if not isinstance(change, AttemptMoved):
                continue
            if change.delivery and change.session_id:
                handed[change.key, change.delivery] = change.session_id
                last[change.key] = change.delivery
            ended[change.key] += change.state in COMPLETED_ATTEMPT
            if change.delegated or change.state in COMPLETED_ATTEMPT:
                heard.add(change.key)
        for key, (name, delivery) in received:
            session_id = record.received[name, delivery]
            if handed.get((key, delivery)) != session_id:
                yield f"delivery {delivery} of {name} was sent to session {session_id}, and was not stored so"
        yield from (f"attempt {key} of {row.id} ended {count} times" for key, count in ended.items() if count > 1)
        for key, (name, delivery) in accepted:
            if key not in heard:
                yield f"the outcome of delivery {delivery} of {name} was accepted, and was not stored"
            elif last.get(key, delivery) > delivery:
                yield f"the outcome of delivery {delivery} of {name} was accepted, and it had a newer delivery"

    def faults_of_engines(self, lives: Sequence[EngineLife], executors: Sequence[ScriptedExecutor]) -> Iterator[str]:
        """Yield what is left in engines and sessions that should not be."""
        known = {executor.session_id for executor in executors}
        yield from (f"session {each} is left" for each in sorted(self.sessions() - known))
        for life in lives:
            conductor: Any = life.conductor
            if conductor._slices or conductor._deferred or conductor._doubtful:
                yield f"{life.name}: works are left"
            timers: Any = life.engine._timers
            now_s = life.engine._clock.now_s()
            # What waits for its time may have been deleted with its execution: it is forgotten when its time has come.
            if left := timers._known.difference(each for due_s, each, _ in timers._heap if due_s > now_s):
                yield f"{life.name}: {len(left)} timers are left"
            conductor._dispatcher.begin()  # what has arrived since its last batch
        for executor in executors:
            for link in executor.links:
                stream = link.life.executors._streams.get(executor.session_id)
                if stream is None:
                    yield f"{executor.name}: its stream to {link.life.name} is not there"
                elif stream.credit != link.credit:
                    yield f"{executor.name} gave {link.life.name} a credit of {link.credit}; it has {stream.credit}"


class _JournalsKnown:
    """Answers as a store does, with journals that are read once."""

    def __init__(self, queries: Queries, journal_of: Callable[[str], list[JournalChange]]) -> None:
        self._queries, self._journal_of = queries, journal_of

    def __getattr__(self, name: str) -> object:
        return getattr(self._queries, name)

    def journal(self, execution_id: str, after: int) -> list[JournalChange]:
        """Return the changes after this one."""
        return [change for change in self._journal_of(execution_id) if change.sequence > after]


Received = tuple[AttemptKey, Key]
"""An attempt, and what an executor calls its delivery."""


def _by_execution(keys: Iterable[Key]) -> defaultdict[str, list[Received]]:
    found: defaultdict[str, list[Received]] = defaultdict(list)
    for key in keys:
        execution_id, attempt = parse_attempt_id(key[0])
        found[execution_id].append((attempt, key))
    return found


def _doubled_children(rows: Iterable[ExecutionRow]) -> Iterator[str]:
    children = Counter(
        (row.parent_id, row.parent_task, row.parent_item, row.parent_attempt) for row in rows if row.parent_id
    )
    yield from (f"attempt {place} has {count} sub-workflows" for place, count in children.items() if count > 1)
