"""The port: what the engine writes and all services read.

It has three implementations: SQLite and PostgreSQL (sql.py), and the memory of this process (memory.py). The same tests
apply to all of them. All calls block: the engine makes them in the conductor's own thread, api in a pool of threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dalsegno.store.discards import Removal
from dalsegno.store.filters import EVERYTHING, Filter
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.records import (
    AttemptRow,
    Begun,
    CheckpointRow,
    Claimed,
    ClockRow,
    DefinitionKind,
    DefinitionPlace,
    DefinitionRow,
    Deletion,
    DescriptionRow,
    DueMessage,
    EngineRow,
    EnvironmentRow,
    ExecutionRow,
    HeldAttempt,
    JournalChange,
    Keepers,
    NewMessage,
    NewProgress,
    Page,
    ReadyAttempt,
    RequestRow,
    ResourceKind,
    Saved,
    SessionRow,
    Standing,
    StoredDocument,
    StoredMember,
    TaskResult,
    TaskRow,
)
from dalsegno.store.stalls import Stall
from dalsegno.store.token_rows import TokenChanges, TokenQueries
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import AnyEvent
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.identity import AttemptKey


class StoreConflict(Exception):
    """Another engine wrote the same first. The transaction must be repeated from the current state."""


class StoreLocked(Exception):
    """Another engine uses this SQLite file."""


class StoreUnreachable(Exception):
    """The database is not available: its server does not answer, its folder does not exist, or its disk is full. Says
    why."""


class StoreDamaged(StoreUnreachable):
    """The file is no database, or is damaged. Waiting does not help."""


class StoreOutdated(Exception):
    """The tables are not those of this version: run `python -m dalsegno.store upgrade`."""


class StoreNewer(StoreOutdated):
    """The tables are of a later version than this one, which cannot use them. They cannot be downgraded."""


class Queries(TokenQueries, Protocol):
    """The read side: one moment of the store. Lists have pages with tokens; see pages.py for sizes.

    `full` lists have values; in others they are None. Lists raise InvalidPageToken.
    """

    def execution(self, execution_id: str) -> ExecutionRow | None:
        """Return one execution with its values."""
        ...

    def executions(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[ExecutionRow]:
        """List executions of workflows (not those that carry a standalone action), the newest first."""
        ...

    def count_executions(self, chosen: Filter = EVERYTHING) -> dict[str, int]:
        """Return the number of executions of workflows in each state, without the states that none is in."""
        ...

    def execution_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return the ids of all executions after this one, in order, including those that carry standalone actions."""
        ...

    def executions_of(
        self, execution_ids: Collection[str], full: bool = True, discarded: bool = False
    ) -> dict[str, ExecutionRow]:
        """Return those of these executions that exist, with their values if `full`: one query for many callers.
        `discarded`: also those that are at rest, discarded, and not removed yet."""
        ...

    def standings(self, execution_ids: Collection[str]) -> dict[str, Standing]:
        """Return the standing of each of these executions that exists."""
        ...

    def children(self, execution_id: str, task: int = 0, limit: int = 1000) -> list[ExecutionRow]:
        """Return the executions that tasks of this one started (`task` 0: all tasks), the oldest first, without
        values."""
        ...

    def forks(self, execution_id: str, limit: int) -> tuple[list[str], int]:
        """Return the ids of the executions that were forked from this one, the newest first, at most `limit`; and how
        many there are."""
        ...

    def descendants(self, execution_id: str) -> list[str]:
        """Return the ids of its children, their children and so on. Parents come before children."""
        ...

    def paused_descendants(self, root_id: str) -> list[ExecutionRow]:
        """Return the executions below a root execution that are PAUSED or PAUSING, the oldest first, at most 1,000."""
        ...

    def task_counts(self, execution_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """Return the number of task executions in each state for each execution, without superseded ones."""
        ...

    def tasks(
        self, execution_id: str, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[TaskRow]:
        """List the task executions of an execution by number."""
        ...

    def task(self, execution_id: str, number: int) -> TaskRow | None:
        """Return one task execution with its published values."""
        ...

    def tasks_across(self, execution_ids: Collection[str], chosen: Filter, limit: int) -> list[TaskRow]:
        """Return task executions of these executions, with values: the greatest execution ids first, then by number.

        Return at most `limit`, and no more than a page has bytes, except for the first.
        """
        ...

    def tasks_of(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], TaskRow]:
        """Return those of these task executions, by execution and number, that exist, without values."""
        ...

    def leading_attempts(self, execution_id: str, numbers: Collection[int]) -> dict[int, AttemptRow]:
        """Return, for each of these tasks, the attempt of its present round for its first item, without values."""
        ...

    def task_result(self, execution_id: str, number: int, bytes_max: int = PAGE_BYTES_MAX) -> TaskResult:
        """Return a task's result, unless it has more than `bytes_max` bytes (S13)."""
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
        """List the attempts of an execution, or of one task (`task` 0: all), by task, item and attempt.

        With an empty execution id, list those of standalone actions, the newest first.
        """
        ...

    def attempt(self, execution_id: str, key: AttemptKey) -> AttemptRow | None:
        """Return one attempt with its values."""
        ...

    def attempts_of(self, places: Collection[tuple[str, AttemptKey]]) -> list[AttemptRow]:
        """Return those of these attempts, by execution and key, that exist, with their values."""
        ...

    def first_attempts(self, execution_ids: Collection[str], chosen: Filter, size: int) -> dict[str, list[AttemptRow]]:
        """Return up to `size` attempts of each of these executions that has any, by task, item and attempt, without
        values: on a distant database a query for each execution would take long."""
        ...

    def attempt_count(self, execution_id: str, chosen: Filter) -> int:
        """Return the number of attempts of an execution that the filter selects."""
        ...

    def attempts_with_progress(self, execution_ids: Collection[str], limit: int = 100) -> dict[str, list[AttemptRow]]:
        """Return, for each of these executions, the attempts that have not ended and have reported progress, without
        values.

        Return the first `limit` by task, item and attempt.
        """
        ...

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        """Return when the third party of an attempt was heard last; 0.0: never."""
        ...

    def aliased_attempts(self, alias: str, namespace: str) -> list[AttemptRow]:
        """Return the first two attempts with this alias, without values: those that have not ended come first, then the
        newest."""
        ...

    def checkpoints(self, execution_id: str, size: int = 0, token: str = "") -> Page[CheckpointRow]:
        """List the entries of checkpoints of an execution with their data, the newest first."""
        ...

    def checkpoint_name(self, execution_id: str, sequence: int) -> str:
        """Return the name of the checkpoint of an entry; empty if there is no such entry."""
        ...

    def open_tasks(self, execution_id: str) -> list[tuple[str, Phase]]:
        """Return the names of the task executions that have not ended or whose transitions are not evaluated, with how
        far each has come, in order and without repetition."""
        ...

    def tasks_ended_after(self, execution_id: str, sequence: int) -> list[int]:
        """Return the revisions after this one at which task executions ended last, in order, without those that are
        REVERTED."""
        ...

    def journal(self, execution_id: str, after: int = 0, limit: int = 1000) -> list[JournalChange]:
        """Return the changes after this sequence number, in order. Return at least one if there is any, fewer when they
        are large."""
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
        """List workflows or ad-hoc actions that are not deleted, by namespace, name and version."""
        ...

    def definition(self, definition_id: str) -> DefinitionRow | None:
        """Return one version with its text, even if it is deleted."""
        ...

    def find_definition(
        self, kind: DefinitionKind, name: str, namespace: str, version: int = 0, full: bool = True
    ) -> DefinitionRow | None:
        """Return the newest version (or this one) that is not deleted, in exactly this namespace. `full`: with its
        text."""
        ...

    def environment(self, namespace: str, name: str) -> EnvironmentRow | None:
        """Return one environment with its values."""
        ...

    def environments(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[EnvironmentRow]:
        """List environments by namespace and name."""
        ...

    def actions(self) -> dict[str, str]:
        """Return the descriptions of actions (JSON text) by name."""
        ...

    def descriptions(self, names: Collection[str]) -> list[DescriptionRow]:
        """Return all descriptions that executors have sent of these actions, the newest first."""
        ...

    def sessions(self) -> list[SessionRow]:
        """Return the sessions that have not ended."""
        ...

    def engines(self) -> dict[int, EngineRow]:
        """Return the engines by number, those that have ended too."""
        ...

    def held_counts(self) -> dict[str, int]:
        """Return the number of RUNNING attempts that are not delegated for each session that has any."""
        ...

    def setting(self, key: str) -> str | None:
        """Return one setting."""
        ...


class Transaction(TokenChanges, Protocol):
    """One write transaction. It takes effect when the `with` ends; on an exception nothing of it does."""

    @property
    def queries(self) -> Queries:
        """The read side within this transaction. It sees what the transaction has written."""
        ...

    def now_s(self) -> float:
        """Return the time of the store's clock, which somebody may set at any time (see engine/clock.py)."""
        ...

    def clock_row(self, *, locks: bool = False) -> ClockRow:
        """Return what engines need to count the time. `locks`: nobody else changes it until this transaction ends."""
        ...

    def shift_clock(self, shift_s: float) -> None:
        """Add to the time that all engines count, from now on."""
        ...

    def note_time(self, at_s: float) -> None:
        """Store the time up to which engines have counted. It never goes back. Do nothing if another engine stores its
        own in a transaction that is still open."""
        ...

    def claim(self, execution_ids: Collection[str]) -> dict[str, Claimed]:
        """Lock these executions until this transaction ends. Return what is known of those that exist and are not
        discarded."""
        ...

    def claim_for(self, engine: int, execution_ids: Collection[str], places: Sequence[DefinitionPlace] = ()) -> Begun:
        """Keep anybody from ending the engine until this transaction ends, then claim these executions, and look which
        definitions are found at these places, all in one round trip."""
        ...

    def set_deaths(self, execution_id: str, deaths: int) -> None:
        """Store how many engines died in steps of an execution, if it exists."""
        ...

    def changes_after(
        self, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        """Return the changes after this revision. From 0 they are the whole journal, and replay() loads the execution.

        `until`: the sequence number of the last one to return.
        """
        ...

    def written_changes(self, after: Mapping[str, int], texts_max: int) -> dict[str, WrittenChanges]:
        """Return the changes of these executions after these revisions, each of which is the end of a journal row or
        lies before the journal. Leave out executions when the large values of all take more than `texts_max`
        characters."""
        ...

    def save_all(self, batch: Sequence[Saved], busy: Collection[str] = (), keeper: int = 0) -> dict[str, Removal]:
        """Store executions after their changes: rows, journal and large texts. Each occurs once in a batch.

        Removes the first slice of what they have discarded, unless former discards are still being removed. Returns
        what it has removed, by the ids of those that have discarded anything. `busy`: executions that are not to be
        removed now. `keeper`: the number of the engine that hands out what is READY now; 0: any may.

        Raises StoreConflict when one is not at the revision before its changes, or exists already.
        """
        ...

    def remove_discarded(self, execution_id: str, busy: Collection[str] = ()) -> Removal:
        """Remove the next slice of what a claimed execution has discarded."""
        ...

    def hidden_below(self, execution_id: str) -> list[str]:
        """Return the ids of the executions below a claimed one that are discarded and not yet removed, so that no query
        shows them. Children come before parents."""
        ...

    def delete_execution(self, execution_id: str) -> None:
        """Delete one execution with everything that belongs to it. Its descendants stay."""
        ...

    def add_messages(self, messages: Sequence[NewMessage], keeper: int = 0) -> None:
        """Store events to deliver to executions. `keeper`: the number of the engine that delivers them; 0: any may."""
        ...

    def take_messages(self, message_ids: Collection[str]) -> dict[str, AnyEvent]:
        """Remove these messages. Return the events of those that still existed, in the order of the ids."""
        ...

    def due_messages(self, now_s: float, limit: int, keeper: int = 0) -> list[DueMessage]:
        """Return messages of this keeper whose time has come, by time and id."""
        ...

    def adopt_messages(
        self, keeper: int, former: Collection[int], now_s: float, limit: int, notice_lease_s: float = 0.0
    ) -> list[DueMessage]:
        """Make this engine the keeper of messages of others (`former`) whose time has come, and of their notices whose
        time comes in `notice_lease_s`. Return them, by time and id.

        Leave out what another transaction has locked: it waits for nobody. So each is adopted by one engine.
        """
        ...

    def save_progress(self, progress: Sequence[NewProgress]) -> None:
        """Store the progress of attempts that have not ended and still have the same delivery."""
        ...

    def save_heartbeat(self, execution_id: str, key: AttemptKey, at_s: float) -> None:
        """Store when the third party of an attempt was heard."""
        ...

    def ready_attempts(self, limit: int, actions: Collection[str], keeper: int = 0) -> list[ReadyAttempt]:
        """Return READY attempts of this keeper that run one of these actions, of executions that are not quiet (O4,
        O14), the oldest first."""
        ...

    def adopt_attempts(
        self,
        keeper: int,
        former: Collection[int],
        actions: Collection[str],
        before_s: float,
        limit: int,
        unmet: Collection[str] = (),
    ) -> list[ReadyAttempt]:
        """Make this engine the keeper of READY attempts of others (`former`) that run one of these actions, were made
        before this time, and are of executions that are not quiet. Return them. `unmet`: targets of those to leave out.

        Leave out executions that another transaction has locked: it waits for nobody. So each is adopted by one engine.
        The transaction keeps the executions locked, and must claim no others afterwards.
        """
        ...

    def held_attempts(self, session_ids: Collection[str]) -> list[HeldAttempt]:
        """Return the attempts of these sessions: RUNNING and not delegated."""
        ...

    def abandoned_attempts(self, limit: int) -> list[HeldAttempt]:
        """Return RUNNING attempts that are not delegated and whose session has ended or is unknown. Nobody reports on
        them."""
        ...

    def keepers(self) -> Keepers:
        """Return which engines keep something, and which have not ended."""
        ...

    def prune_engines(self) -> int:
        """Delete the rows of ended engines that no executor has anything of. Return how many."""
        ...

    def save_session(self, session: SessionRow) -> None:
        """Store a session, new or known."""
        ...

    def renew_sessions(self, session_ids: Collection[str], heard_s: float, lease_until_s: float) -> None:
        """Extend the leases of those that have not ended, which were heard now. Never shortens a lease, and leaves
        what another transaction has locked: it waits for nobody."""
        ...

    def session(self, session_id: str) -> SessionRow | None:
        """Return one session, even if it has ended."""
        ...

    def sessions_of(self, executor_id: str) -> list[SessionRow]:
        """Return the sessions of an executor that have not ended."""
        ...

    def end_sessions(self, session_ids: Collection[str]) -> None:
        """Mark sessions as ended."""
        ...

    def prune_sessions(self, before_s: float) -> int:
        """Delete ended sessions whose lease was over before this time. Return how many."""
        ...

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        """Return a request that has been answered."""
        ...

    def save_request(self, namespace: str, request_id: str, row: RequestRow, at_s: float) -> None:
        """Store a request and its answer. If it exists, the transaction fails with StoreConflict, at its end at the
        latest."""
        ...

    def forget_requests(self, namespace: str, request_ids: Collection[str]) -> None:
        """Delete these requests."""
        ...

    def prune_requests(self, before_s: float) -> int:
        """Delete the requests and the deletions before this time. Return how many requests."""
        ...

    def save_deletions(self, deletions: Sequence[Deletion]) -> None:
        """Store what was deleted."""
        ...

    def deletions(self, kind: ResourceKind, name: str) -> list[Deletion]:
        """Return what had this name, in any namespace, and was deleted, in the order of deletion."""
        ...

    def save_document(self, document: StoredDocument, members: Sequence[StoredMember]) -> list[DefinitionRow]:
        """Store a document and the next version of each of its members. Return their rows, without text, in that
        order."""
        ...

    def delete_definitions(self, kind: DefinitionKind, name: str, namespace: str, version: int = 0) -> int:
        """Mark one version (0: all) as deleted. Executions that run it keep it. Return how many were marked."""
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
        """Create or replace an environment."""
        ...

    def delete_environment(self, namespace: str, name: str) -> bool:
        """Delete an environment. Return whether it existed."""
        ...

    def save_descriptions(self, descriptions: Sequence[DescriptionRow]) -> None:
        """Store descriptions of actions, unless they exist."""
        ...

    def save_actions(self, descriptions: Mapping[str, str]) -> None:
        """Store or replace descriptions of actions: name to JSON text."""
        ...

    def settle(self, key: str, value: str) -> str:
        """Store a setting unless it exists. Return its value, so that several engines agree on one."""
        ...

    def replace_setting(self, key: str, value: str) -> None:
        """Store a setting, whether it exists or not."""
        ...


class Store(Protocol):
    """The store. Methods that read or write raise StoreUnreachable while it is not available."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Begin a write transaction. It is committed when the `with` ends, and rolled back on an exception."""
        ...

    def read(self) -> AbstractContextManager[Queries]:
        """Read the store at one moment, from any thread."""
        ...

    def upgrade(self) -> bool:
        """Upgrade the tables to this version. Several processes may do so at the same time. Return False, and change
        nothing, when they are of a later version and this one can use them. Raises StoreNewer when it cannot."""
        ...

    def check_version(self) -> None:
        """Raise StoreOutdated unless this version can use the tables."""
        ...

    def hold_engine_lock(self) -> None:
        """Keep other engines from this store until it is closed, if it allows only one. Raises StoreLocked."""
        ...

    def register_engine(self, engine_id: str, process: str, *, is_alone: bool) -> int:
        """Add an engine, which is to write this store from now on. Return its number. `is_alone`: all others have
        ended."""
        ...

    def renew_engine(self, number: int, patience_s: float) -> bool:
        """Renew the row of an engine, in a transaction of its own, beside others. Return False when it was ended."""
        ...

    def end_engine(self, number: int) -> bool:
        """End an engine: nothing more of it is stored. Return False when it could not be ended now.

        A transaction that it has open is broken off, unless it has just been committed.
        """
        ...

    def is_available(self) -> bool:
        """Return whether it answers. This distinguishes an outage from a batch that always fails."""
        ...

    def stall(self) -> Stall:
        """Return for how long the write transaction waits for the database now, and for what. Called from any
        thread."""
        ...

    def close(self) -> None:
        """Close everything. Nobody may be reading or writing."""
        ...
