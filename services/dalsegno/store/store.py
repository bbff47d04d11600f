"""The port: what the engine writes and what everybody reads, whatever holds it.

Three keep it: SQLite and PostgreSQL (sql.py) and this process's memory (memory.py). One exam holds them to the same
behaviour. All calls block: the engine makes them in the conductor's own thread, api in a pool of threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dalsegno.store.filters import EVERYTHING, Filter
from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.records import (
    AttemptRow,
    Claimed,
    ClockRow,
    DefinitionKind,
    DefinitionRow,
    Deletion,
    DescriptionRow,
    DueMessage,
    EnvironmentRow,
    ExecutionRow,
    HeldAttempt,
    JournalChange,
    NewMessage,
    NewProgress,
    Page,
    ReadyAttempt,
    RequestRow,
    Saved,
    SessionRow,
    Standing,
    StoredDocument,
    StoredMember,
    TaskResult,
    TaskRow,
    ThingKind,
)
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.events import AnyEvent
from dalsegno.workflow.identity import AttemptKey


class StoreConflict(Exception):
    """Something was written by somebody else first: the transaction must be made again from what is true now."""


class StoreLocked(Exception):
    """Another engine has this SQLite file."""


class StoreUnreachable(Exception):
    """The database is away: its server does not answer, its folder is not there, its disk is full. Says why."""


class StoreDamaged(StoreUnreachable):
    """The file is no database, or is broken: waiting does not help."""


class StoreOutdated(Exception):
    """The tables are not those of this version: run `python -m dalsegno.store upgrade`."""


class StoreNewer(StoreOutdated):
    """The tables are of a later version than this one: there is no way back."""


class Queries(Protocol):
    """The read side: one moment of the store. Lists page by token; see pages.py for sizes.

    `full` lists have their values, others have None in their place. Lists raise InvalidPageToken.
    """

    def execution(self, execution_id: str) -> ExecutionRow | None:
        """Return one execution with its values."""
        ...

    def executions(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[ExecutionRow]:
        """Executions of workflows (not those that carry a standalone action), the newest first."""
        ...

    def count_executions(self, chosen: Filter = EVERYTHING) -> dict[str, int]:
        """Return how many executions of workflows are in each state, those states that any are in."""
        ...

    def execution_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return the ids of all executions behind this one, in their order, those that carry standalone actions
        included."""
        ...

    def executions_of(self, execution_ids: Collection[str], full: bool = True) -> dict[str, ExecutionRow]:
        """Return those of these that exist, with their values if asked for: one query for many callers."""
        ...

    def executions_with_ready(self, execution_ids: Collection[str]) -> frozenset[str]:
        """Return those of these that have READY attempts."""
        ...

    def standings(self, execution_ids: Collection[str]) -> dict[str, Standing]:
        """Return where each of these that exists has come to."""
        ...

    def children(self, execution_id: str, task: int = 0, limit: int = 1000) -> list[ExecutionRow]:
        """Return the executions that tasks (0: any) of this one started, oldest first, without values."""
        ...

    def descendants(self, execution_id: str) -> list[str]:
        """Return the ids of its children, their children and so on; parents before children."""
        ...

    def paused_descendants(self, root_id: str) -> list[ExecutionRow]:
        """Return the executions below a root execution that are PAUSED or PAUSING, oldest first, at most 1,000."""
        ...

    def task_counts(self, execution_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """Return how many task executions of each execution are in each state, superseded ones left out."""
        ...

    def tasks(
        self, execution_id: str, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[TaskRow]:
        """Return the task executions of an execution by number."""
        ...

    def task(self, execution_id: str, number: int) -> TaskRow | None:
        """Return one task execution with what it published."""
        ...

    def tasks_across(self, execution_ids: Collection[str], chosen: Filter, limit: int) -> list[TaskRow]:
        """Task executions of these executions, with values: the greatest ids first, each one's tasks by number. So many
        at most, and no more than a page has bytes, but for the first."""
        ...

    def tasks_of(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], TaskRow]:
        """Return those of these task executions, by execution and number, that exist; without values."""
        ...

    def leading_attempts(self, execution_id: str, numbers: Collection[int]) -> dict[int, AttemptRow]:
        """Return of each of these tasks the attempt of its present round for the first item of it, without values."""
        ...

    def task_result(self, execution_id: str, number: int, bytes_max: int = PAGE_BYTES_MAX) -> TaskResult:
        """Return a task's result, unless it has more bytes than that (S13)."""
        ...

    def attempts(
        self,
        execution_id: str,
        task: int = 0,
        chosen: Filter = EVERYTHING,
        size: int = 0,
        token: str = "",
        full: bool = False,
    ) -> Page[AttemptRow]:
        """Return the attempts of an execution, or of one task (0: all), by task, item and attempt.

        With an empty execution id: those of standalone actions, the newest first.
        """
        ...

    def attempt(self, execution_id: str, key: AttemptKey) -> AttemptRow | None:
        """Return one attempt with its values."""
        ...

    def attempts_of(self, places: Collection[tuple[str, AttemptKey]]) -> list[AttemptRow]:
        """Return those of these attempts, by execution and key, that exist, with their values."""
        ...

    def attempt_count(self, execution_id: str, chosen: Filter) -> int:
        """Return how many attempts of an execution the filter chooses."""
        ...

    def telling_attempts(self, execution_ids: Collection[str], limit: int = 100) -> dict[str, list[AttemptRow]]:
        """Return of each of these executions the attempts that have not ended and have said how far they have come,
        without values: the first so many by task, item and attempt."""
        ...

    def aliased_attempts(self, alias: str, namespace: str) -> list[AttemptRow]:
        """Return the first two of the attempts with this alias, without values: those not ended, then the newest."""
        ...

    def journal(self, execution_id: str, after: int = 0, limit: int = 1000) -> list[JournalChange]:
        """Return the changes after this sequence number, in order; at least one if there is any, fewer when they are
        large."""
        ...

    def definitions(
        self,
        kind: DefinitionKind,
        chosen: Filter = EVERYTHING,
        size: int = 0,
        token: str = "",
        full: bool = False,
        all_versions: bool = False,
    ) -> Page[DefinitionRow]:
        """Workflows or ad-hoc actions that are not deleted, by namespace, name and version."""
        ...

    def definition(self, definition_id: str) -> DefinitionRow | None:
        """Return one version, deleted or not, with its text."""
        ...

    def find_definition(
        self, kind: DefinitionKind, name: str, namespace: str, version: int = 0, full: bool = True
    ) -> DefinitionRow | None:
        """Return the newest version (or this one) that is not deleted, in exactly this namespace; `full`: with its
        text."""
        ...

    def environment(self, namespace: str, name: str) -> EnvironmentRow | None:
        """Return one environment with its values."""
        ...

    def environments(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[EnvironmentRow]:
        """Environments by namespace and name."""
        ...

    def actions(self) -> dict[str, str]:
        """Return the descriptions of actions (JSON text) by name."""
        ...

    def descriptions(self, names: Collection[str]) -> list[DescriptionRow]:
        """Return all descriptions that executors have given of these actions, the newest first."""
        ...

    def sessions(self) -> list[SessionRow]:
        """Return the sessions that have not ended."""
        ...

    def held_counts(self) -> dict[str, int]:
        """Return how many RUNNING attempts that are not delegated each session has, those that have any."""
        ...

    def setting(self, key: str) -> str | None:
        """Return one setting."""
        ...


class Transaction(Protocol):
    """One write transaction. What it writes is there for all when the `with` ends, or, on an exception, for nobody."""

    @property
    def queries(self) -> Queries:
        """The read side within this transaction: sees what it has written."""
        ...

    def now_s(self) -> float:
        """Return what the store's clock shows: somebody may set it at any time (see engine/clock.py)."""
        ...

    def clock_row(self, *, locks: bool = False) -> ClockRow:
        """Return what makes the time that engines count of it; `locks`: nobody else alters it until this one has
        ended."""
        ...

    def shift_clock(self, shift_s: float) -> None:
        """Have all engines add so much to the store's time, from now on."""
        ...

    def note_time(self, at_s: float) -> None:
        """Keep that engines have counted up to this time; never goes back."""
        ...

    def claim(self, execution_ids: Collection[str]) -> dict[str, Claimed]:
        """Return the revision and the deaths of each of these that exists; nobody else changes them until this
        transaction has ended."""
        ...

    def set_deaths(self, execution_id: str, deaths: int) -> None:
        """Write how many engines died in a step of an execution; nothing when it is gone."""
        ...

    def changes_after(self, execution_id: str, revision: int) -> list[AnyChange]:
        """Return the journal after this revision; from 0 it begins with ExecutionCreated and replay() loads the
        execution."""
        ...

    def save_all(self, batch: Sequence[Saved]) -> None:
        """Store executions as they are after their changes: rows, journal and large texts. Each once in a batch.

        Raises StoreConflict when one is not at the revision from which its changes start, or exists already.
        """
        ...

    def delete_execution(self, execution_id: str) -> None:
        """Remove one execution with everything of it. Its descendants stay."""
        ...

    def add_messages(self, messages: Sequence[NewMessage]) -> None:
        """Store events that executions are to be told of."""
        ...

    def take_messages(self, message_ids: Collection[str]) -> dict[str, AnyEvent]:
        """Remove these and give the events of those that were still there, in the order asked for."""
        ...

    def due_messages(self, now_s: float, limit: int) -> list[DueMessage]:
        """Messages whose time has come, by time and id."""
        ...

    def next_due_s(self) -> float | None:
        """Return when the next message is due; None: there is none."""
        ...

    def save_progress(self, progress: Sequence[NewProgress]) -> None:
        """Keep how far attempts have come, those that have not ended and are at the delivery that said so."""
        ...

    def ready_attempts(self, limit: int) -> list[ReadyAttempt]:
        """READY attempts of executions that are not quiet (O4, O14), the oldest first."""
        ...

    def held_attempts(self, session_ids: Collection[str]) -> list[HeldAttempt]:
        """Return what these sessions have: RUNNING attempts that are not delegated."""
        ...

    def abandoned_attempts(self, limit: int) -> list[HeldAttempt]:
        """RUNNING attempts, not delegated, whose session has ended or is not known: nobody will answer for them."""
        ...

    def save_session(self, session: SessionRow) -> None:
        """Store a session, new or known."""
        ...

    def renew_sessions(self, session_ids: Collection[str], heard_s: float, lease_until_s: float) -> None:
        """Extend the leases of those that have not ended, and were heard now; never shortens one."""
        ...

    def expired_sessions(self, now_s: float) -> list[SessionRow]:
        """Sessions that have not ended and whose lease has."""
        ...

    def session(self, session_id: str) -> SessionRow | None:
        """Return one session, ended or not."""
        ...

    def sessions_of(self, executor_id: str) -> list[SessionRow]:
        """Return the sessions of an executor that have not ended."""
        ...

    def end_sessions(self, session_ids: Collection[str]) -> None:
        """Mark sessions as ended."""
        ...

    def prune_sessions(self, before_s: float) -> int:
        """Remove ended sessions whose lease was over before this time. How many."""
        ...

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        """Return a request that has been answered."""
        ...

    def save_request(self, namespace: str, request_id: str, row: RequestRow, at_s: float) -> None:
        """Remember a request and its answer. Raises StoreConflict when it is there."""
        ...

    def forget_requests(self, namespace: str, request_ids: Collection[str]) -> None:
        """Forget these requests."""
        ...

    def prune_requests(self, before_s: float) -> int:
        """Forget the requests answered, and what was deleted, before this time. How many requests."""
        ...

    def save_deletions(self, deletions: Sequence[Deletion]) -> None:
        """Remember what is deleted."""
        ...

    def deletions(self, kind: ThingKind, name: str) -> list[Deletion]:
        """Return what had this name, in any namespace, and was deleted: the first deleted first."""
        ...

    def save_document(self, document: StoredDocument, members: Sequence[StoredMember]) -> list[DefinitionRow]:
        """Store a document and the next version of each of its members; their rows, without text, in that order."""
        ...

    def delete_definitions(self, kind: DefinitionKind, name: str, namespace: str, version: int = 0) -> int:
        """Mark one version (0: all) as deleted; executions that run it keep it. How many were."""
        ...

    def put_environment(
        self,
        namespace: str,
        name: str,
        value: str,
        at_s: float,
        *,
        description: str = "",
        actor: str = "",
        comment: str = "",
    ) -> EnvironmentRow:
        """Create an environment, or replace it whole."""
        ...

    def delete_environment(self, namespace: str, name: str) -> bool:
        """Delete an environment. Whether it was there."""
        ...

    def save_descriptions(self, descriptions: Sequence[DescriptionRow]) -> None:
        """Store descriptions of actions, unless they are there."""
        ...

    def save_actions(self, descriptions: Mapping[str, str]) -> None:
        """Store or replace descriptions of actions: name to JSON text."""
        ...

    def settle(self, key: str, value: str) -> str:
        """Store a setting unless it is there; the value that holds. So several engines agree on one."""
        ...


class Store(Protocol):
    """Where executions are kept. What reads and writes raises StoreUnreachable while the store is away."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Return one write transaction: committed when the `with` ends, rolled back on an exception."""
        ...

    def read(self) -> AbstractContextManager[Queries]:
        """Return one moment of the store, to be read only. From any thread."""
        ...

    def upgrade(self) -> None:
        """Bring the tables to this version. Safe when several processes do it at once. Raises StoreNewer."""
        ...

    def check_version(self) -> None:
        """Raises StoreOutdated unless the tables are those of this version."""
        ...

    def hold_engine_lock(self) -> None:
        """Keep other engines from this store until it is closed, where it serves one only. Raises StoreLocked."""
        ...

    def is_available(self) -> bool:
        """Return whether it answers: tells a lost database from a poisoned batch."""
        ...

    def close(self) -> None:
        """Let everything go. Nobody may be reading or writing."""
        ...
