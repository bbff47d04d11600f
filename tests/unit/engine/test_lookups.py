"""Which definitions an engine finds while other engines define and delete."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dalsegno.engine.batches import outside
from dalsegno.engine.batches.cache import CompiledWorkflows
from dalsegno.engine.batches.outside import Lookups
from dalsegno.store.descriptions import digest_of, write_description
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import DefinitionPlace, DescriptionRow, SessionRow, StoredDocument, StoredMember
from dalsegno.store.snapshot import Snapshot
from dalsegno.workflow.model import ActionDescription, Parameter, Workflow


class Reader:
    """An engine that shares its store, looks up the workflow `flow`, and counts how often it reads the store for it."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self._store = store
        self._number = store.register_engine("engine", "", is_alone=False)
        self._lookups = Lookups(CompiledWorkflows(lambda row: Workflow(row.name, {})), (), lasting=False)
        find = Snapshot.find_definition

        def count(snapshot: Snapshot, *place: object, full: bool = True) -> object:
            self.reads += full
            return find(snapshot, *place, full=full)  # type: ignore[arg-type, misc]

        monkeypatch.setattr(Snapshot, "find_definition", count)

    def find(self, names: Sequence[str] = ("flow",)) -> list[int | None]:
        """Look these up in a batch, as a step does. Return their versions."""
        self._lookups.begin()
        with self._store.write() as transaction:
            begun = transaction.claim_for(self._number, [], self._lookups.places)
            self._lookups.confirm(begun.definition_ids)
            found = [self._lookups.workflow(name, "", transaction.queries) for name in names]
        return [None if each is None else each.version for each in found]


def _define(store: MemoryStore, number: int) -> None:
    member = StoredMember(f"definition-{number}", "workflow", "flow")
    with store.write() as transaction:
        transaction.save_document(StoredDocument(f"text {number}", "mistral", "", 100.0), [member])


def test_what_is_confirmed_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch confirms with its claim what the last one has found, also that nothing was found, and reads only what
    others have defined or deleted meanwhile."""
    store = MemoryStore()
    reader = Reader(store, monkeypatch)
    assert [reader.find(), reader.find(), reader.reads] == [[None], [None], 1]
    _define(store, 1)
    assert [reader.find(), reader.find(), reader.reads] == [[1], [1], 2]
    _define(store, 2)
    assert [reader.find(), reader.find(), reader.reads] == [[2], [2], 3]
    with store.write() as transaction:
        transaction.delete_definitions("workflow", "flow", "", 2)
    assert [reader.find(), reader.find(), reader.reads] == [[1], [1], 4]
    with store.write() as transaction:
        transaction.delete_definitions("workflow", "flow", "")
    assert [reader.find(), reader.find(), reader.reads] == [[None], [None], 5]


def test_a_batch_confirms_a_limited_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has found more than a batch confirms reads them all again."""
    monkeypatch.setattr(outside, "PLACES_MAX", 2)
    reader = Reader(MemoryStore(), monkeypatch)
    reader.find(("a", "b", "c"))
    reader.find(("a", "b", "c"))
    assert reader.reads == 6
    assert reader.find(("a",)) == [None]
    reader.find(("a",))
    assert reader.reads == 7


def test_nothing_counts_before_it_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a work looks up before the claim is read."""
    store = MemoryStore()
    lookups = Lookups(CompiledWorkflows(lambda row: Workflow(row.name, {})), (), lasting=False)
    with store.write() as transaction:
        assert lookups.definition("workflow", "flow", "", 0, transaction.queries) is None
    lookups.begin()
    _define(store, 1)
    with store.write() as transaction:
        found = lookups.definition("workflow", "flow", "", 0, transaction.queries)
    assert found is not None
    assert found[0].version == 1
    assert lookups.places == [DefinitionPlace("workflow", "flow", "")]
    lookups.confirm(["definition-1"])
    with store.write() as transaction:
        assert lookups.definition("workflow", "flow", "", 0, transaction.queries) == found


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit everything is forgotten and looked up again, and what is found stays right."""
    monkeypatch.setattr(outside, "DEFINITIONS_MAX", 2)
    store = MemoryStore()
    _define(store, 1)
    lookups = Lookups(CompiledWorkflows(lambda row: Workflow(row.name, {})), (), lasting=True)
    names = ("flow", "a", "b", "c")
    for _ in range(2):
        with store.read() as queries:
            found = [lookups.workflow(name, "", queries) for name in names]
            actions = [lookups.action(name, "", queries) for name in names]
            definitions = [lookups.definition("workflow", name, "", 0, queries) for name in names]
        assert [each is None for each in found] == [each is None for each in definitions] == [False, True, True, True]
        assert actions == [None] * 4
        sizes = [len(each) for each in (lookups._found_workflows, lookups._found_actions, lookups._definitions)]
        assert max(sizes) <= 2


def test_an_action_is_described_by_who_serves_it() -> None:
    """Of several descriptions those that an executor serves now count, the newest first; when nobody serves any, all
    do."""
    store = MemoryStore()
    lookups = Lookups(CompiledWorkflows(lambda row: Workflow(row.name, {})), (), lasting=False)
    texts = [write_description(ActionDescription("pack.a", (Parameter(name),))) for name in ("x", "y", "z")]
    rows = [DescriptionRow(digest_of(text), "pack.a", text, float(at_s)) for at_s, text in enumerate(texts)]
    with store.write() as transaction:
        transaction.save_descriptions(rows)

    def names() -> list[str]:
        lookups.forget()
        with store.read() as queries:
            found = lookups.action("pack.a", "", queries)
        assert isinstance(found, ActionDescription)
        return [each.parameters[0].name for each in (found, *found.others)]

    assert names() == ["z", "y", "x"]
    with store.write() as transaction:
        actions = {"pack.a": rows[1].digest}
        transaction.save_session(SessionRow("s", "e", "engine", 1e12, actions=actions))
    assert names() == ["y"]
    with store.write() as transaction:
        transaction.save_session(SessionRow("t", "f", "engine", 1e12, actions={"pack.a": rows[2].digest}))
    assert names() == ["z", "y"]
