"""The exam for what is not an execution: messages, sessions, requests, definitions, environments, settings."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec
import pytest
from tests.store.scenes import LARGE, add_task, create, save, start

from dalsegno.store.filters import ATTEMPT_FIELDS, parse_filter
from dalsegno.store.inspection import check_execution
from dalsegno.store.records import (
    ClockRow,
    DefinitionPlace,
    Deletion,
    DescriptionRow,
    DueMessage,
    NewMessage,
    NewProgress,
    Progress,
    RequestRow,
    Resource,
    SessionRow,
    StoredDocument,
    StoredMember,
)
from dalsegno.store.store import Store, StoreConflict
from dalsegno.workflow.changes import AttemptMoved, Timer
from dalsegno.workflow.events import PauseRequested, TaskDone, TaskOutcome, TimerFired
from dalsegno.workflow.states import AttemptState
from dalsegno.workflow.value import Value


def _timer(name: str, due_s: float, execution_id: str = "e1") -> NewMessage:
    return NewMessage(name, execution_id, TimerFired(task=1, timer=Timer.RETRY, due_s=due_s), due_s)


def test_messages_come_due_by_time_then_id(store: Store) -> None:
    """Due messages are given in the order of their times, then of their ids, bounded."""
    with store.write() as transaction:
        transaction.add_messages([_timer("m3", 5.0), _timer("m2", 7.0), _timer("m1", 7.0), _timer("m4", 9.5)])
        assert transaction.due_messages(4.9, 10) == []
        due = transaction.due_messages(9.0, 10)
        assert due == [DueMessage("m3", "e1", 5.0), DueMessage("m1", "e1", 7.0), DueMessage("m2", "e1", 7.0)]
        assert transaction.due_messages(9.0, 2) == due[:2]


def test_message_is_taken_once_over_two_transactions(store: Store) -> None:
    """What one transaction took another finds gone; what was rolled back is there again
    (dalsegno/README.md#durability)."""
    done = TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=2, result=LARGE, at_s=3.0)
    with store.write() as transaction:
        transaction.add_messages([_timer("m1", 1.0), NewMessage("m2", "e1", done, 2.0)])
    with pytest.raises(RuntimeError), store.write() as transaction:  # noqa: PT012 -- both are one
        assert list(transaction.take_messages(["m1"])) == ["m1"]
        raise RuntimeError("roll back")
    with store.write() as transaction:
        taken = transaction.take_messages(["m2", "m9", "m1"])
        assert list(taken) == ["m2", "m1"]
        assert taken == {"m2": done, "m1": TimerFired(task=1, timer=Timer.RETRY, due_s=1.0)}
    with store.write() as transaction:
        assert transaction.take_messages(["m1", "m2"]) == {}
        assert transaction.due_messages(99.0, 10) == []


def test_messages_go_with_their_execution(store: Store) -> None:
    """Deleting an execution deletes the messages to it and no others."""
    save(store, create("e1"))
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m1", "e1", PauseRequested(), 1.0), _timer("m2", 1.0, "e2")])
        transaction.delete_execution("e1")
        assert [each.id for each in transaction.due_messages(9.0, 10)] == ["m2"]


def test_sessions_are_renewed_and_end(store: Store) -> None:
    """A lease is only ever extended, and only of a session that has not ended; ended ones are pruned."""
    one = SessionRow(
        *("s1", "executor-1", "engine-1", 10.0),
        labels={"zone": "a", "ü": "1"},
        slots=4,
        peer="ipv4:127.0.0.1:9",
        actions={"b.go": "0123456789abcdef"},
    )
    two = SessionRow("s2", "executor-1", "engine-1", 20.0)
    with store.write() as transaction:
        transaction.save_session(one)
        transaction.save_session(two)
        transaction.renew_sessions(["s1", "s2", "nobody"], 5.0, 15.0)
        assert transaction.sessions_of("executor-1") == [replace(one, heard_s=5.0, lease_until_s=15.0), two]
        assert transaction.sessions_of("executor-2") == []
        transaction.end_sessions(["s1"])
        transaction.renew_sessions(["s1"], 6.0, 99.0)
        assert transaction.sessions_of("executor-1") == transaction.queries.sessions() == [two]
        assert transaction.session("s1") == replace(one, heard_s=5.0, lease_until_s=15.0, ended=True)
        assert transaction.session("nobody") is None
        assert transaction.prune_sessions(15.0) == 0
        assert transaction.prune_sessions(15.1) == 1
        transaction.save_session(replace(two, engine_id="engine-2", slots=2))
        assert [(each.engine_id, each.slots) for each in transaction.queries.sessions()] == [("engine-2", 2)]


def test_the_clock_has_one_row_for_all(store: Store) -> None:
    """What engines add to the store's time, and the newest noted time, which never goes back; no commit, no change."""
    with store.write() as transaction:
        assert transaction.clock_row() == transaction.clock_row(locks=True) == ClockRow(0.0, 0.0)
        assert abs(transaction.now_s() - time.time()) < 60
        transaction.shift_clock(-7200.5)
        transaction.note_time(5.25)
        transaction.note_time(4.0)
    with pytest.raises(RuntimeError), store.write() as transaction:  # noqa: PT012 -- both are one
        transaction.shift_clock(1.0)
        transaction.note_time(9.0)
        raise RuntimeError("roll back")
    with store.write() as transaction:
        assert transaction.clock_row() == ClockRow(-7200.5, 5.25)


def test_requests_are_remembered_per_namespace(store: Store) -> None:
    """An answered request is found again by namespace and id, cannot be stored twice, and is forgotten when old."""
    with store.write() as transaction:
        transaction.save_request("", "r1", RequestRow("hash", b"\x00\xff"), 5.0)
        transaction.save_request("n", "r1", RequestRow("other", b""), 6.0)
        assert transaction.find_request("", "r1") == RequestRow("hash", b"\x00\xff")
        assert transaction.find_request("n", "r1") == RequestRow("other", b"")
        assert transaction.find_request("", "r2") is None
    with pytest.raises(StoreConflict), store.write() as transaction:
        transaction.save_request("", "r1", RequestRow("hash", b"again"), 7.0)
    with store.write() as transaction:
        assert transaction.prune_requests(6.0) == 1
        assert transaction.find_request("", "r1") is None
        assert transaction.find_request("n", "r1") is not None


def test_what_was_deleted_is_remembered(store: Store) -> None:
    """Deletions are found by kind and name, the first one first, and go when they are old; requests say what of."""
    first = Deletion(Resource("execution", "e1", "", "5.0"), 7.0)
    second = Deletion(Resource("execution", "e1", "ü", "8.25"), 9.0)
    other = Deletion(Resource("environment", "e1", "", "5.0"), 8.0)
    with store.write() as transaction:
        transaction.save_deletions([second, other, first])
        transaction.save_deletions([])
        assert transaction.deletions("execution", "e1") == [first, second]
        assert transaction.deletions("environment", "e1") == [other]
        assert transaction.deletions("execution", "e2") == []
        row = RequestRow("hash", b"", (first.resource, second.resource))
        for request_id in ("r1", "r2", "r3"):
            transaction.save_request("n", request_id, row, 5.0)
        assert transaction.find_request("n", "r1") == row
        transaction.forget_requests("n", ["r1", "r3", "r9"])
        transaction.forget_requests("n", [])
        transaction.forget_requests("", ["r2"])
        assert [transaction.find_request("n", each) for each in ("r1", "r2", "r3")] == [None, row, None]
    with store.write() as transaction:
        assert transaction.prune_requests(8.5) == 1
        assert transaction.deletions("execution", "e1") == [second]
        assert transaction.deletions("environment", "e1") == []


def _document(namespace: str = "", text: str = "version: '2.0'") -> StoredDocument:
    return StoredDocument(text, "mistral", namespace, 50.0, "ada", "first")


def test_definitions_have_versions(store: Store) -> None:
    """Each save of a name is its next version in that namespace; deleted versions count and stay readable by id."""
    flow = StoredMember("d1", "workflow", "pack.flow", ("nightly", "x,y"), "does it", '[{"name":"a"}]')
    act = StoredMember("d2", "action", "pack.flow")
    with store.write() as transaction:
        rows = transaction.save_document(_document(), [flow, act])
        assert [(row.name, row.kind, row.version, row.tags) for row in rows] == [
            ("pack.flow", "workflow", 1, '["nightly", "x,y"]'),
            ("pack.flow", "action", 1, "[]"),
        ]
        transaction.save_document(_document("other"), [replace(flow, definition_id="d3")])
        transaction.save_document(_document(text="again"), [replace(flow, definition_id="d4")])
    with store.read() as queries:
        found = queries.find_definition("workflow", "pack.flow", "")
        assert found is not None
        assert (found.definition_id, found.version, found.text, found.input) == ("d4", 2, "again", '[{"name":"a"}]')
        first = queries.find_definition("workflow", "pack.flow", "", version=1)
        assert first is not None
        assert (first.definition_id, first.text) == ("d1", "version: '2.0'")
        assert queries.find_definition("workflow", "pack.flow", "nowhere") is None
        assert queries.definition("d9") is None
    with store.write() as transaction:
        assert transaction.delete_definitions("workflow", "pack.flow", "", version=2) == 1
        assert transaction.queries.find_definition("workflow", "pack.flow", "") == first
        assert transaction.delete_definitions("workflow", "pack.flow", "") == 1
        assert transaction.delete_definitions("workflow", "pack.flow", "") == 0
        assert transaction.queries.find_definition("workflow", "pack.flow", "") is None
        kept = transaction.queries.definition("d1")
        assert kept is not None
        assert (kept.deleted, kept.text) == (True, "version: '2.0'")
        rows = transaction.save_document(_document(), [replace(flow, definition_id="d5")])
        assert rows[0].version == 3


def test_an_engine_finds_definitions_with_its_claim(store: Store) -> None:
    """For each place the newest version that is not deleted, or the one that is asked for, in exactly that namespace;
    an engine that has ended is told so."""
    flow = StoredMember("d1", "workflow", "flow")
    places = [
        DefinitionPlace("workflow", "flow", ""),
        DefinitionPlace("workflow", "flow", "", 1),
        DefinitionPlace("action", "flow", ""),
        DefinitionPlace("workflow", "flow", "other"),
        DefinitionPlace("workflow", "flow", "", 3),
    ]
    engine = store.register_engine("engine", "", is_alone=False)
    with store.write() as transaction:
        transaction.save_document(_document(), [flow])
        transaction.save_document(_document(), [replace(flow, definition_id="d2")])
        transaction.save_document(_document("other"), [replace(flow, definition_id="d3")])
    with store.write() as transaction:
        assert transaction.claim_for(engine, ["e1"], places) == (0.0, {}, ["d2", "d1", None, "d3", None])
        transaction.delete_definitions("workflow", "flow", "", version=2)
    assert store.end_engine(engine)
    with store.write() as transaction:
        assert transaction.claim_for(engine, [], places[:1]) == (None, {}, ["d1"])


def test_environments_are_put_whole(store: Store) -> None:
    """Putting an environment again raises its revision and keeps when it was created; deleting it forgets both."""
    with store.write() as transaction:
        first = transaction.put_environment("", "prod", '{"b":1,"a":2}', 5.0, description="d", actor="ada")
        assert transaction.queries.environment("", "prod") == first
        second = transaction.put_environment("", "prod", "{}", 6.0, comment="emptied")
        assert (second.revision, second.created_s, second.updated_s) == (2, 5.0, 6.0)
        assert transaction.queries.environment("", "prod") == second
        assert transaction.queries.environment("n", "prod") is None
        assert transaction.delete_environment("", "prod") is True
        assert transaction.delete_environment("", "prod") is False
        assert transaction.put_environment("", "prod", "{}", 7.0).revision == 1


def test_actions_and_settings(store: Store) -> None:
    """Descriptions of actions are replaced by name; a setting is what the first one said."""
    with store.write() as transaction:
        transaction.save_actions({"b.go": "1", "a.go": "2"})
        transaction.save_actions({"b.go": "3"})
        assert list(transaction.queries.actions().items()) == [("a.go", "2"), ("b.go", "3")]
        assert transaction.settle("token_key", "mine") == "mine"
        assert transaction.settle("token_key", "yours") == "mine"
        assert transaction.queries.setting("token_key") == "mine"
        assert transaction.queries.setting("other") is None


def test_descriptions_are_kept_as_they_were_given_first(store: Store) -> None:
    """All of an action by age, the newest first; one that comes again keeps its time, and its text."""
    first, second = DescriptionRow("d1", "b.go", "1", 1.0), DescriptionRow("d2", "b.go", "2", 2.0)
    other = DescriptionRow("d3", "a.go", "3", 3.0)
    with store.write() as transaction:
        transaction.save_descriptions([first, second])
        transaction.save_descriptions([replace(first, described_s=9.0), other])
        queries = transaction.queries
        assert queries.descriptions(["b.go"]) == [second, first]
        assert queries.descriptions({"a.go", "b.go", "c.go"}) == [other, second, first]
        assert queries.descriptions([]) == queries.descriptions(["c.go"]) == []


def test_store_has_a_clock(store: Store) -> None:
    """The store's time is in seconds since 1970 and does not stand still."""
    with store.write() as transaction:
        first = transaction.now_s()
        assert first > 1_700_000_000
        while transaction.now_s() <= first:
            pass
    assert store.is_available()


def test_attempts_are_found_by_alias(store: Store) -> None:
    """Those of the namespace that have not ended come first, then the newest; two at most, without values."""
    with store.read() as queries:
        assert queries.aliased_attempts("order-17", "") == []
    for number, (execution_id, namespace) in enumerate([("e1", ""), ("e2", ""), ("e3", ""), ("e4", "shop")]):
        scene = add_task(start(execution_id, namespace=namespace, at_s=100.0 + number), 1, AttemptState.RUNNING)
        scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.RUNNING, delegated=True, alias="order-17"))
        if execution_id != "e1":
            scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.SUCCESS, result=LARGE, at_s=200.0))
        save(store, scene)
    save(store, add_task(start("e5"), 1))

    with store.read() as queries:
        found = queries.aliased_attempts("order-17", "")
        assert [(each.execution_id, each.state, each.alias) for each in found] == [
            ("e1", "RUNNING", "order-17"),
            ("e3", "SUCCESS", "order-17"),
        ]
        assert [each.result for each in found] == [None, None]
        assert [each.execution_id for each in queries.aliased_attempts("order-17", "shop")] == ["e4"]
        assert queries.aliased_attempts("order-18", "") == []
        assert queries.aliased_attempts("", "") == []


def test_the_first_attempts_of_several_executions_are_read_together(store: Store) -> None:
    """Those that a filter chooses, in the order of their keys, without values; none of what is discarded."""
    running, ready = AttemptState.RUNNING, AttemptState.READY
    one, two, three = (start(f"e{number}") for number in (1, 2, 3))
    for number, state in enumerate((running, ready, ready, ready), 1):
        add_task(one, number, state)
    add_task(two, 1, ready)
    add_task(three, 1, running)
    save(store, one, two, three)
    chosen = parse_filter("state=READY", ATTEMPT_FIELDS)
    with store.write() as transaction:
        queries = transaction.queries
        found = queries.first_attempts(["e1", "e2", "e3", "gone"], chosen, 2)
        assert {each: [row.key for row in rows] for each, rows in found.items()} == {
            "e1": [(2, 0, 1), (3, 0, 1)],
            "e2": [(1, 0, 1)],
        }
        assert found["e1"] == list(queries.attempts("e1", chosen=chosen, size=2).rows)
        assert queries.first_attempts([], chosen, 2) == {}


def test_the_changes_of_several_executions_are_read_together(store: Store) -> None:
    """From where each is known, in order, with their large values as long as these are not too long together."""
    scenes = [add_task(start(f"e{number}"), 1, AttemptState.RUNNING) for number in (1, 2, 3, 4)]
    save(store, *scenes)
    known = scenes[1].execution.revision
    for scene, size in zip(scenes, (1, 1, 2_000, 9_000), strict=True):
        result = Value(data="\u00e4" * size)
        save(store, scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.SUCCESS, result=result, at_s=4.0)))
    after = {"e1": 0, "e2": known, "e3": 0, "e4": known, "gone": 0}
    with store.write() as transaction:
        found = transaction.written_changes(after, 5_000)
        assert found.keys() == {"e1", "e2", "e3"}
        for execution_id, written in found.items():
            assert written.decoded() == transaction.changes_after(execution_id, after[execution_id])
        assert transaction.written_changes(after, 20_000).keys() == {"e1", "e2", "e3", "e4"}


def test_a_heartbeat_is_kept_with_its_attempt(store: Store) -> None:
    """The newest counts, a later change of the attempt leaves it, the rows are right without it, and an attempt that is
    not there has none."""
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    save(store, scene)
    with store.write() as transaction:
        assert transaction.queries.heard_s("e1", (1, 0, 1)) == 0.0
        transaction.save_heartbeat("e1", (1, 0, 1), 3.5)
        transaction.save_heartbeat("e1", (1, 0, 1), 4.5)
        transaction.save_heartbeat("e2", (1, 0, 1), 4.5)
    save(store, scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.RUNNING, delegated=True, at_s=5.0)))
    with store.read() as queries:
        assert (queries.heard_s("e1", (1, 0, 1)), queries.heard_s("e2", (1, 0, 1))) == (4.5, 0.0)
        assert check_execution(queries, "e1") == []


def test_progress_is_kept_with_the_attempt_that_says_so(store: Store) -> None:
    """Written by itself it stays when the attempt changes, for the delivery that said it only, and only until its end;
    no journal tells it, and the rows are right without."""
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    other = add_task(start("e2"), 1, AttemptState.RUNNING)
    save(store, scene, other)
    told = Progress("half", 0.5, '{"a":1}', 3.0, delivery=1)
    with store.write() as transaction:
        assert transaction.queries.attempts_with_progress(["e1", "e2"]) == {}
        late = msgspec.structs.replace(told, delivery=2)
        transaction.save_progress([NewProgress("e1", (1, 0, 1), told), NewProgress("e2", (1, 0, 1), late)])
        transaction.save_progress([NewProgress("e3", (1, 0, 1), told)])
        found = transaction.queries.attempts_with_progress(["e1", "e2", "e3"])
        assert [(row.key, row.input) for row in found.pop("e1")] == [((1, 0, 1), None)]
        assert found == {}
    save(store, scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.SUCCESS, at_s=4.0)))
    with store.write() as transaction:
        transaction.save_progress([NewProgress("e1", (1, 0, 1), msgspec.structs.replace(told, text="late"))])
        queries = transaction.queries
        row = queries.attempt("e1", (1, 0, 1))
        assert row is not None
        assert msgspec.json.decode(row.progress, type=Progress) == told
        assert queries.attempts_with_progress(["e1"]) == {}
        assert check_execution(queries, "e1") == []
