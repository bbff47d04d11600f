"""Writes definitions, environments, actions and settings within a transaction over SQL. They are rare, so in
SQLAlchemy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dalsegno.store.records import (
    DefinitionKind,
    DefinitionRow,
    DescriptionRow,
    EnvironmentRow,
    StoredDocument,
    StoredMember,
)
from dalsegno.store.tables import ACTIONS, DEFINITIONS, DESCRIPTIONS, DOCUMENTS, ENVIRONMENTS, SETTINGS, TAGS
from dalsegno.store.unsent import Sender

_CHUNK = 400
"""How many names are looked up at once."""


class Library(Sender):
    """The part of SqlTransaction that is not about executions. store.Transaction documents each method."""

    def save_document(self, document: StoredDocument, members: Sequence[StoredMember]) -> list[DefinitionRow]:
        document_id = document_digest(document.text)
        self._upsert(DOCUMENTS, {"id": document_id, "text": document.text})
        newest = self._newest_versions(document.namespace, members)
        rows = [
            definition_row(document, member, document_id, newest.get((member.kind, member.name), 0) + 1)
            for member in members
        ]
        names = [column.name for column in DEFINITIONS.c]
        self._insert_all(DEFINITIONS, [{name: getattr(row, name) for name in names} for row in rows])
        tags = [(member.definition_id, tag) for member in members for tag in dict.fromkeys(member.tags)]
        self._insert_all(TAGS, [{"definition_id": definition_id, "tag": tag} for definition_id, tag in tags])
        return rows

    def _newest_versions(self, namespace: str, members: Sequence[StoredMember]) -> dict[tuple[str, str], int]:
        """Return the newest version of each existing member by kind and name, including deleted ones."""
        table = DEFINITIONS
        newest: dict[tuple[str, str], int] = {}
        for kind in sorted({member.kind for member in members}):
            names = [member.name for member in members if member.kind == kind]
            for start in range(0, len(names), _CHUNK):
                found = self._connection.execute(
                    sa.select(table.c.name, sa.func.max(table.c.version))
                    .where(table.c.kind == kind, table.c.namespace == namespace)
                    .where(table.c.name.in_(names[start : start + _CHUNK]))
                    .group_by(table.c.name)
                )
                newest.update(((kind, name), version) for name, version in found)
        return newest

    def _insert_all(self, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
        if rows:
            self._connection.execute(sa.insert(table), rows)

    def delete_definitions(self, kind: DefinitionKind, name: str, namespace: str, version: int = 0) -> int:
        table = DEFINITIONS
        conditions = [table.c.kind == kind, table.c.name == name, table.c.namespace == namespace, ~table.c.deleted]
        if version:
            conditions.append(table.c.version == version)
        return self._connection.execute(sa.update(table).where(*conditions).values(deleted=True)).rowcount

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
        table = ENVIRONMENTS
        found = self._connection.execute(
            sa.select(table.c.revision, table.c.created_s)
            .where(table.c.namespace == namespace, table.c.name == name)
            .with_for_update()
        ).first()
        revision, created_s = (found[0] + 1, found[1]) if found is not None else (1, at_s)
        row = EnvironmentRow(namespace, name, description, value, revision, created_s, at_s, actor, comment)
        self._upsert(table, {column.name: getattr(row, column.name) for column in table.c})
        return row

    def delete_environment(self, namespace: str, name: str) -> bool:
        table = ENVIRONMENTS
        statement = sa.delete(table).where(table.c.namespace == namespace, table.c.name == name)
        return self._connection.execute(statement).rowcount > 0

    def save_descriptions(self, descriptions: Sequence[DescriptionRow]) -> None:
        for row in sorted(descriptions, key=lambda each: each.digest):
            values = {"digest": row.digest, "name": row.name, "description": row.description}
            self._upsert(DESCRIPTIONS, {**values, "described_s": row.described_s}, keep=True)

    def save_actions(self, descriptions: Mapping[str, str]) -> None:
        for name in sorted(descriptions):  # always in the same order, so that two engines never wait for each other
            self._upsert(ACTIONS, {"name": name, "description": descriptions[name]})

    def settle(self, key: str, value: str) -> str:
        self._upsert(SETTINGS, {"key": key, "value": value}, keep=True)
        return str(self._connection.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.key == key)).scalar_one())

    def replace_setting(self, key: str, value: str) -> None:
        self._upsert(SETTINGS, {"key": key, "value": value})

    def _upsert(self, table: sa.Table, values: Mapping[str, object], keep: bool = False) -> None:
        """Insert a row. If the primary key exists, replace the row, or with `keep` leave it."""
        kind = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = kind.insert(table).values(values)
        keys = [column.name for column in table.primary_key]
        others = {name: statement.excluded[name] for name in values if name not in keys}
        if keep:
            self._connection.execute(statement.on_conflict_do_nothing(index_elements=keys))
        else:
            self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others))


def document_digest(text: str) -> str:
    """Return the id of a document. Equal texts have the same id, and are stored once."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def definition_row(document: StoredDocument, member: StoredMember, document_id: str, version: int) -> DefinitionRow:
    """Return the row of a member, without the text."""
    return DefinitionRow(
        definition_id=member.definition_id,
        document_id=document_id,
        kind=member.kind,
        namespace=document.namespace,
        name=member.name,
        version=version,
        language=document.language,
        tags=json.dumps(list(member.tags), ensure_ascii=False),
        description=member.description,
        input=member.input,
        created_s=document.created_s,
        actor=document.actor,
        comment=document.comment,
        deleted=False,
        text=None,
    )
