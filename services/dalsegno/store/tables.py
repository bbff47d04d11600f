"""The tables. JSON is TEXT, so it is returned exactly as it was given, with its keys in order.

Every change here needs a migration; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Double, Index, Integer, LargeBinary, Table
from sqlalchemy.dialects import postgresql

METADATA = sa.MetaData()

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that is sorted by code point. This is faster than the order of a language, and the same in all stores."""


def _text(name: str, **options: object) -> Column[str]:
    return Column(name, TEXT, nullable=False, **options)  # type: ignore[arg-type]


def _number(name: str, **options: object) -> Column[int]:
    return Column(name, Integer, nullable=False, **options)  # type: ignore[arg-type]


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _time(name: str, **options: object) -> Column[float]:
    return Column(name, Double, nullable=False, **options)  # type: ignore[arg-type]


EXECUTIONS = Table(
    "executions",
    METADATA,
    _text("id", primary_key=True),
    _text("namespace"),
    _text("workflow"),
    _number("version"),
    _text("definition_id"),
    _text("language"),
    _text("input"),
    _text("params"),
    _text("labels"),
    _text("description"),
    _text("root_id"),
    _text("parent_id"),
    _number("parent_task"),
    _number("parent_item"),
    _number("parent_attempt"),
    Column("deadline_s", Double),
    _time("created_s"),
    _text("actor"),
    _text("comment"),
    _text("forked_from", server_default=""),
    _number("forked_from_sequence", server_default="0"),
    _text("forked_from_checkpoint", server_default=""),
    _text("state"),
    _text("info"),
    Column("output", TEXT),
    Column("errors", TEXT),
    _number("revision"),
    _number("active_count"),
    _flag("waits_for_delegates"),
    Column("started_s", Double),
    Column("ended_s", Double),
    _time("moved_s"),
    _time("updated_s"),
    _text("paused_at", server_default=""),
    _number("paused_at_sequence", server_default="0"),
    _text("not_reached", server_default=""),
    _text("stop_at", server_default="[]"),
    _text("reverting_to", server_default=""),
    _number("reverting_to_sequence", server_default="0"),
    Column("goes_on_s", Double),
    # The sequence number of the first change of its journal.
    _number("first_sequence", server_default="1"),
    _number("deaths"),
)
Index("executions_by_age", EXECUTIONS.c.created_s, EXECUTIONS.c.id)
Index(
    "executions_by_parent",
    EXECUTIONS.c.parent_id,
    EXECUTIONS.c.parent_task,
    sqlite_where=EXECUTIONS.c.parent_id != "",
    postgresql_where=EXECUTIONS.c.parent_id != "",
)
Index(
    "executions_by_root",
    EXECUTIONS.c.root_id,
    sqlite_where=EXECUTIONS.c.parent_id != "",
    postgresql_where=EXECUTIONS.c.parent_id != "",
)
Index(
    "executions_by_origin",
    EXECUTIONS.c.forked_from,
    EXECUTIONS.c.created_s,
    EXECUTIONS.c.id,
    sqlite_where=EXECUTIONS.c.forked_from != "",
    postgresql_where=EXECUTIONS.c.forked_from != "",
)

TASKS = Table(
    "tasks",
    METADATA,
    _text("execution_id", primary_key=True),
    _number("number", primary_key=True, autoincrement=False),
    _text("name"),
    _number("route"),
    _time("created_s"),
    _text("tags", server_default="[]"),
    _text("state"),
    _number("generation"),
    _text("info"),
    _text("timer"),
    Column("due_s", Double),
    Column("timeout_due_s", Double),
    _text("verdict"),
    _number("attempt"),
    _number("retries"),
    Column("item_count", Integer),
    _number("added_count"),
    _number("ended_count"),
    _number("failed_count"),
    _number("cancelled_count"),
    _text("published"),
    _number("source_count"),
    _text("next"),
    _flag("routed"),
    _flag("handled"),
    _flag("result_dropped"),
    _text("superseded_by"),
    _text("awaits", server_default="[]"),
    _number("awaits_count", server_default="0"),
    Column("started_s", Double),
    Column("ended_s", Double),
    # The revision at which it ended last; 0: it has not ended, or the row is older than this column.
    _number("ended_at", server_default="0"),
)

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    _text("execution_id", primary_key=True),
    _number("sequence", primary_key=True, autoincrement=False),
    _text("name"),
    _number("task"),
    _number("route"),
    Column("data", TEXT),
    _time("at_s"),
    _flag("undone"),
)
Index("checkpoints_by_name", CHECKPOINTS.c.execution_id, CHECKPOINTS.c.name)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    _text("execution_id", primary_key=True),
    _number("task", primary_key=True, autoincrement=False),
    _number("item", primary_key=True, autoincrement=False),
    _number("attempt", primary_key=True, autoincrement=False),
    _text("action"),
    _text("child_id"),
    _flag("safe"),
    _text("adhoc"),
    _text("target"),
    _text("digest", server_default=""),
    Column("timeout_s", Double),
    _text("input"),
    _text("comment"),
    _text("actor"),
    _time("created_s"),
    # The revision of the end that it reverts; 0: it belongs to a round of its task.
    _number("reverts", server_default="0"),
    # A fork has it from the execution that it came from; nobody has run it for the fork.
    Column("copied", Boolean, nullable=False, server_default=sa.false()),
    # It is a copy of a sub-workflow.
    Column("was_workflow", Boolean, nullable=False, server_default=sa.false()),
    _text("state"),
    Column("undone", Boolean, nullable=False, server_default=sa.false()),
    _flag("accepted"),
    Column("result", TEXT),
    _text("error"),
    _number("delivery"),
    _text("session_id"),
    _text("executor_id"),
    _flag("delegated"),
    Column("started_s", Double),
    Column("ended_s", Double),
    _text("alias"),
    Column("deadline_s", Double),
    # The number of the engine that handed it out last; 0: an older version did.
    _number("engine", server_default="0"),
    # The reports of progress are written apart.
    _text("progress", server_default=""),
    _time("heard_s", server_default="0"),
    # The number of the engine that wrote it last: while it is READY, this engine hands it out. 0: any engine may.
    _number("keeper", server_default="0"),
)
_READY = sa.text("state = 'READY'")
_HELD = sa.text("state = 'RUNNING' AND session_id <> ''")
Index(
    "attempts_kept",
    ATTEMPTS.c.keeper,
    ATTEMPTS.c.action,
    ATTEMPTS.c.created_s,
    sqlite_where=_READY,
    postgresql_where=_READY,
)
Index("attempts_held", ATTEMPTS.c.session_id, sqlite_where=_HELD, postgresql_where=_HELD)
_TELLING = sa.text("progress <> '' AND ended_s IS NULL")
Index("attempts_telling", ATTEMPTS.c.execution_id, sqlite_where=_TELLING, postgresql_where=_TELLING)
_ALIASED = sa.text("alias <> ''")
Index("attempts_by_alias", ATTEMPTS.c.alias, sqlite_where=_ALIASED, postgresql_where=_ALIASED)

LABELS = Table(
    "labels",
    METADATA,
    _text("execution_id", primary_key=True),
    _text("key", primary_key=True),
    _text("value"),
)
Index("labels_by_value", LABELS.c.key, LABELS.c.value)

JOURNAL = Table(
    "journal",
    METADATA,
    _text("execution_id", primary_key=True),
    # The sequence numbers of the row's first and last change.
    _number("last", primary_key=True, autoincrement=False),
    _number("first"),
    _text("entries"),
    _text("changes"),
)

TEXTS = Table(
    "texts",
    METADATA,
    _text("execution_id", primary_key=True),
    _text("digest", primary_key=True),
    _text("text"),
    # The newest journal row that refers to it, by its last sequence number.
    _number("last", server_default="2147483647"),
)
Index("texts_by_use", TEXTS.c.execution_id, TEXTS.c.last)

# What executions have discarded and what is not yet removed: ranges of numbers of tasks. It is empty nearly always.
DISCARDS = Table(
    "discards",
    METADATA,
    _text("execution_id", primary_key=True),
    _number("first", primary_key=True, autoincrement=False),
    _number("last"),
    _text("root_id"),
)
Index("discards_by_root", DISCARDS.c.root_id)

MESSAGES = Table(
    "messages",
    METADATA,
    _text("id", primary_key=True),
    _text("execution_id"),
    _time("due_s"),
    _text("event"),
    # The large texts of the event by digest, JSON text of an object; a message needs no other row.
    Column("texts", TEXT),
    # The number of the engine that delivers it. 0: any engine may.
    _number("keeper", server_default="0"),
)
Index("messages_kept", MESSAGES.c.keeper, MESSAGES.c.due_s, MESSAGES.c.id)
Index("messages_by_execution", MESSAGES.c.execution_id)

SESSIONS = Table(
    "sessions",
    METADATA,
    _text("session_id", primary_key=True),
    _text("executor_id"),
    _text("engine_id"),
    _time("lease_until_s"),
    _flag("ended"),
    _text("labels"),
    _number("slots"),
    _text("peer", server_default=""),
    # The digests of the descriptions of the actions that it serves, JSON text of an object.
    _text("actions", server_default="{}"),
    _time("connected_s", server_default="0"),
    _time("heard_s", server_default="0"),
    _text("principal", server_default=""),
)
Index("sessions_by_executor", SESSIONS.c.executor_id)

# The engines. No number is used twice.
ENGINES = Table(
    "engines",
    METADATA,
    _number("number", primary_key=True, autoincrement=False),
    _text("id"),
    _text("process"),
    _number("beats"),
    _time("patience_s"),
    _flag("ended"),
)

REQUESTS = Table(
    "requests",
    METADATA,
    _text("namespace", primary_key=True),
    _text("request_id", primary_key=True),
    _text("body_hash"),
    Column("answer", LargeBinary, nullable=False),
    _time("created_s"),
    # What the answer is about, JSON text of a list of lists: the keys of the table of deletions.
    _text("about", server_default="[]"),
)
Index("requests_by_age", REQUESTS.c.created_s)

DELETIONS = Table(
    "deletions",
    METADATA,
    _text("kind", primary_key=True),
    _text("name", primary_key=True),
    _text("namespace", primary_key=True),
    # Distinguishes it from others that had the name before or have it now.
    _text("life", primary_key=True),
    _time("deleted_s"),
)
Index("deletions_by_age", DELETIONS.c.deleted_s)

DOCUMENTS = Table("documents", METADATA, _text("id", primary_key=True), _text("text"))

DEFINITIONS = Table(
    "definitions",
    METADATA,
    _text("definition_id", primary_key=True),
    _text("document_id"),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    _number("version"),
    _text("language"),
    _text("tags"),
    _text("description"),
    _text("input"),
    _time("created_s"),
    _text("actor"),
    _text("comment"),
    _flag("deleted"),
)
Index(
    "definitions_by_name",
    DEFINITIONS.c.kind,
    DEFINITIONS.c.namespace,
    DEFINITIONS.c.name,
    DEFINITIONS.c.version,
    unique=True,
)

TAGS = Table(
    "definition_tags",
    METADATA,
    _text("definition_id", primary_key=True),
    _text("tag", primary_key=True),
)

ENVIRONMENTS = Table(
    "environments",
    METADATA,
    _text("namespace", primary_key=True),
    _text("name", primary_key=True),
    _text("description"),
    _text("value"),
    _number("revision"),
    _time("created_s"),
    _time("updated_s"),
    _text("actor"),
    _text("comment"),
)

# The newest description of each action with which somebody serves it, if anybody does.
ACTIONS = Table("actions", METADATA, _text("name", primary_key=True), _text("description"))

# Every description that any executor has sent.
DESCRIPTIONS = Table(
    "descriptions",
    METADATA,
    _text("digest", primary_key=True),
    _text("name"),
    _text("description"),
    _time("described_s"),
)
Index("descriptions_by_name", DESCRIPTIONS.c.name)

# The tokens of callers. Rows are never deleted.
TOKENS = Table(
    "tokens",
    METADATA,
    # The first 16 hex digits of the hash.
    _text("token_id", primary_key=True),
    _text("sha256"),
    _text("name"),
    # JSON text of a list: see access/grants.py.
    _text("grants"),
    _time("created_s"),
    Column("expires_s", Double),
    Column("revoked_s", Double),
    _text("actor"),
    _text("comment"),
)

# One row, of id 1.
CLOCK = Table(
    "clock",
    METADATA,
    _number("id", primary_key=True, autoincrement=False),
    # What engines add to the store's time.
    _time("shift_s"),
    # The newest counted time that was stored.
    _time("latest_s"),
)

SETTINGS = Table("settings", METADATA, _text("key", primary_key=True), _text("value"))
