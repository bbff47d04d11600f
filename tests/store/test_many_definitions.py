"""One document with very many definitions: stored in few statements, so that an engine does little else for long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dalsegno.store.opening import open_store
from dalsegno.store.records import DefinitionKind, StoredDocument, StoredMember
from dalsegno.store.store import Store
from dalsegno.workflow.identity import derived_id

MANY = 1_000


def members(seed: str) -> list[StoredMember]:
    kinds: tuple[DefinitionKind, ...] = ("workflow", "action")
    return [
        StoredMember(derived_id(0, f"{seed}{kind}{number}"), kind, f"n{number}", tags=("a", "b", "a"))
        for number in range(MANY)
        for kind in kinds
    ]


@pytest.mark.long("thousands of definitions")
def test_each_of_many_definitions_has_its_next_version(store: Store) -> None:
    """Two documents with the same 1,000 workflows and 1,000 actions of the same names: versions 1 and 2 of each."""
    with store.write() as transaction:
        transaction.save_document(StoredDocument("one", "mistral", "", 1.0), members("one"))
        transaction.save_document(StoredDocument("elsewhere", "mistral", "x", 1.0), members("elsewhere")[:3])
    with store.write() as transaction:
        rows = transaction.save_document(StoredDocument("two", "mistral", "", 2.0), members("two"))
        assert {row.version for row in rows} == {2}
    with store.read() as queries:
        for kind in ("workflow", "action"):
            newest = queries.find_definition(kind, "n999", "")
            first = queries.find_definition(kind, "n999", "", 1)
            assert newest is not None
            assert first is not None
            assert (newest.version, newest.text, first.text) == (2, "two", "one")
            assert newest.tags == '["a", "b", "a"]'
            assert queries.find_definition(kind, "n999", "", full=False) == replace(newest, text=None)


def test_many_definitions_take_few_statements(empty_sqlite: str) -> None:
    """2,000 definitions with 4,000 tags are less than 20 statements."""
    store = open_store(empty_sqlite)
    store.upgrade()
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", note)
    try:
        with store.write() as transaction:
            transaction.save_document(StoredDocument("one", "mistral", "", 1.0), members("one"))
    finally:
        sa.event.remove(Engine, "before_cursor_execute", note)
        store.close()
    assert 3 < len(statements) < 20
