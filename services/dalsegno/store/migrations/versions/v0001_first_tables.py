"""The first tables.

Written out once and never changed: tables.py goes on, a migration stays what it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create everything. There is no way back: restore a backup."""
    _create_actions()
    _create_attempts()
    _create_definition_tags()
    _create_definitions()
    _create_documents()
    _create_environments()
    _create_executions()
    _create_journal()
    _create_labels()
    _create_messages()
    _create_requests()
    _create_sessions()
    _create_settings()
    _create_tasks()
    _create_texts()


def _create_actions() -> None:
    op.create_table(
        "actions",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("task", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("child_id", TEXT, nullable=False),
        sa.Column("safe", sa.Boolean(), nullable=False),
        sa.Column("adhoc", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=True),
        sa.Column("input", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("result", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("executor_id", TEXT, nullable=False),
        sa.Column("delegated", sa.Boolean(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=True),
        sa.Column("ended_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("execution_id", "task", "item", "attempt"),
    )
    op.create_index(
        "attempts_held",
        "attempts",
        ["session_id"],
        unique=False,
        sqlite_where=sa.text("state = 'RUNNING' AND session_id <> ''"),
        postgresql_where=sa.text("state = 'RUNNING' AND session_id <> ''"),
    )
    op.create_index(
        "attempts_ready",
        "attempts",
        ["created_s"],
        unique=False,
        sqlite_where=sa.text("state = 'READY'"),
        postgresql_where=sa.text("state = 'READY'"),
    )


def _create_definition_tags() -> None:
    op.create_table(
        "definition_tags",
        sa.Column("definition_id", TEXT, nullable=False),
        sa.Column("tag", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("definition_id", "tag"),
    )


def _create_definitions() -> None:
    op.create_table(
        "definitions",
        sa.Column("definition_id", TEXT, nullable=False),
        sa.Column("document_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("input", TEXT, nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("definition_id"),
    )
    op.create_index("definitions_by_name", "definitions", ["kind", "namespace", "name", "version"], unique=True)


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_environments() -> None:
    op.create_table(
        "environments",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("updated_s", sa.Double(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name"),
    )


def _create_executions() -> None:
    op.create_table(
        "executions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition_id", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("input", TEXT, nullable=False),
        sa.Column("params", TEXT, nullable=False),
        sa.Column("labels", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("root_id", TEXT, nullable=False),
        sa.Column("parent_id", TEXT, nullable=False),
        sa.Column("parent_task", sa.Integer(), nullable=False),
        sa.Column("parent_item", sa.Integer(), nullable=False),
        sa.Column("parent_attempt", sa.Integer(), nullable=False),
        sa.Column("deadline_s", sa.Double(), nullable=True),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("info", TEXT, nullable=False),
        sa.Column("output", TEXT, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("active_count", sa.Integer(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=True),
        sa.Column("ended_s", sa.Double(), nullable=True),
        sa.Column("moved_s", sa.Double(), nullable=False),
        sa.Column("updated_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("executions_by_age", "executions", ["created_s", "id"], unique=False)
    op.create_index(
        "executions_by_parent",
        "executions",
        ["parent_id", "parent_task"],
        unique=False,
        sqlite_where=sa.text("parent_id != ''"),
        postgresql_where=sa.text("parent_id != ''"),
    )
    op.create_index(
        "executions_by_root",
        "executions",
        ["root_id"],
        unique=False,
        sqlite_where=sa.text("parent_id != ''"),
        postgresql_where=sa.text("parent_id != ''"),
    )


def _create_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("last", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("entries", TEXT, nullable=False),
        sa.Column("changes", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "last"),
    )


def _create_labels() -> None:
    op.create_table(
        "labels",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "key"),
    )
    op.create_index("labels_by_value", "labels", ["key", "value"], unique=False)


def _create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("due_s", sa.Double(), nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("texts", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("messages_by_execution", "messages", ["execution_id"], unique=False)
    op.create_index("messages_due", "messages", ["due_s", "id"], unique=False)


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("body_hash", TEXT, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "request_id"),
    )
    op.create_index("requests_by_age", "requests", ["created_s"], unique=False)


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("executor_id", TEXT, nullable=False),
        sa.Column("engine_id", TEXT, nullable=False),
        sa.Column("lease_until_s", sa.Double(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("labels", TEXT, nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_index("sessions_by_executor", "sessions", ["executor_id"], unique=False)


def _create_settings() -> None:
    op.create_table(
        "settings",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("info", TEXT, nullable=False),
        sa.Column("timer", TEXT, nullable=False),
        sa.Column("due_s", sa.Double(), nullable=True),
        sa.Column("timeout_due_s", sa.Double(), nullable=True),
        sa.Column("verdict", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("item_count", sa.Integer(), nullable=True),
        sa.Column("added_count", sa.Integer(), nullable=False),
        sa.Column("ended_count", sa.Integer(), nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("cancelled_count", sa.Integer(), nullable=False),
        sa.Column("published", TEXT, nullable=False),
        sa.Column("source_count", sa.Integer(), nullable=False),
        sa.Column("next", TEXT, nullable=False),
        sa.Column("routed", sa.Boolean(), nullable=False),
        sa.Column("handled", sa.Boolean(), nullable=False),
        sa.Column("result_dropped", sa.Boolean(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=True),
        sa.Column("ended_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("execution_id", "number"),
    )


def _create_texts() -> None:
    op.create_table(
        "texts",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "digest"),
    )
