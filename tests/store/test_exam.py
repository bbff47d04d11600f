"""The exam for executions: SQLite, PostgreSQL and the in-memory twin answer every question alike."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace
from tests.store.scenes import (
    LARGE,
    Scene,
    add_task,
    create,
    finish_task,
    hand_out,
    live_through_everything,
    save,
    save_each,
    start,
)

from dalsegno.store.filters import EVERYTHING, Filter, Term
from dalsegno.store.inspection import check, check_execution
from dalsegno.store.records import Claimed, HeldAttempt, JournalEntry, ReadyAttempt, Saved, SessionRow, Standing
from dalsegno.store.rows import attempt_row, checkpoint_row, execution_row, task_row
from dalsegno.store.store import Store, StoreConflict
from dalsegno.store.texts import resolve
from dalsegno.workflow.changes import AttemptAdded, AttemptMoved, AttemptsBegun, ExecutionMoved, Link, TaskMoved
from dalsegno.workflow.codec import Texts, encode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.journal import replay
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value


def test_rows_are_what_the_replayed_journal_gives(store: Store) -> None:
    """After each step of an execution with every kind of change, its rows equal those of its replayed journal."""
    for step in live_through_everything("e1"):
        save_each(store, [step])
        with store.write() as transaction:
            changes = transaction.changes_after("e1", 0)
        replayed = replay(changes)
        texts = Texts()
        encode_changes(changes, texts)
        with store.read() as queries:
            assert queries.execution("e1") == resolve(execution_row(replayed, step.entries[-1].at_s), texts)
            tasks = queries.tasks("e1", full=True).rows
            attempts = queries.attempts("e1", full=True).rows
            entries = queries.checkpoints("e1").rows
        assert tasks == [resolve(task_row("e1", task), texts) for task in replayed.tasks.values()]
        expected = [resolve(attempt_row("e1", attempt), texts) for _, attempt in sorted(replayed.attempts.items())]
        assert attempts == expected
        newest_first = reversed(replayed.entries.values())
        assert entries == [resolve(checkpoint_row("e1", entry), texts) for entry in newest_first]
    assert list(check(store)) == []


def test_replay_gives_the_execution_that_was_stored(store: Store) -> None:
    """What the journal gives is the aggregate itself: a copy caught up from any revision is equal to it."""
    steps = []
    for step in live_through_everything("e1"):
        save_each(store, [step])
        steps.append(step)
    original = steps[-1].execution
    with store.write() as transaction:
        loaded = replay(transaction.changes_after("e1", 0))
        for revision in range(1, loaded.revision):
            early = replay(transaction.changes_after("e1", 0)[:revision])
            for change in transaction.changes_after("e1", revision):
                assert not isinstance(change, Consolidated)
                early.apply(change)
            assert (early.revision, early.tasks, early.attempts) == (loaded.revision, loaded.tasks, loaded.attempts)
        assert transaction.changes_after("e1", loaded.revision) == []
    assert loaded.tasks == original.tasks
    assert loaded.attempts == original.attempts
    assert (loaded.state, loaded.output, loaded.globals) == (original.state, original.output, original.globals)


def test_large_values_are_kept_once_and_read_in_full(store: Store) -> None:
    """A value over 1 KiB comes back as it was wherever it stands; lists without values do not carry it."""
    save_each(store, live_through_everything("e1"))
    with store.read() as queries:
        execution, task = queries.execution("e1"), queries.task("e1", 1)
        attempt = queries.attempt("e1", (1, 0, 1))
        assert execution is not None
        assert (execution.input, execution.output) == (LARGE.text, LARGE.text)
        assert attempt is not None
        assert attempt.result == LARGE.text
        assert task is not None
        assert task.published == f'{{"big":{LARGE.text},"small":[1,{{"z":1,"a":2}}]}}'
        assert [row.input for row in queries.executions().rows] == [None]
        assert [row.result for row in queries.attempts("e1").rows] == [None] * 4


def test_rolled_back_leaves_nothing(store: Store) -> None:
    """A transaction that ends with an exception has stored nothing of anything."""
    scene = add_task(start("e1", labels={"a": "b"}), 1)
    with pytest.raises(RuntimeError, match="stop"), store.write() as transaction:  # noqa: PT012 -- both are one
        transaction.save_all([scene.saved()])
        transaction.save_actions({"pack.go": "{}"})
        transaction.settle("key", "value")
        raise RuntimeError("stop")
    with store.read() as queries:
        assert queries.execution("e1") is None
        assert (queries.tasks("e1").rows, queries.attempts("e1").rows, queries.journal("e1")) == ([], [], [])
        assert queries.actions() == {}
        assert queries.setting("key") is None
    with store.write() as transaction:
        assert transaction.ready_attempts(10, ["std.echo"]) == []


def test_transaction_sees_its_own_writes_and_readers_do_not(store: Store) -> None:
    """Within a transaction its queries see what it wrote; a reader only what was committed before."""
    with store.write() as transaction:
        transaction.save_all([start("e1").saved()])
        assert transaction.queries.standings(["e1", "nobody"]) == {"e1": Standing(2, False)}
        with store.read() as queries:
            assert queries.execution("e1") is None
    with store.read() as queries:
        assert queries.standings(["e1"]) == {"e1": Standing(2, False)}
        save(store, start("e2"))
        assert queries.standings(["e1", "e2"]) == {"e1": Standing(2, False)}


def test_claim_gives_revisions_of_those_that_exist(store: Store) -> None:
    """A claim answers with the revision of each execution that is there and leaves out the others
    (dalsegno/README.md#durability)."""
    save(store, start("e1"), create("e2"))
    with store.write() as transaction:
        assert transaction.claim(["e2", "e3", "e1"]) == {"e1": Claimed(2, 0), "e2": Claimed(1, 0)}
        assert transaction.claim([]) == {}


def test_deaths_are_told_by_the_claim_and_set_back_by_what_is_stored(store: Store) -> None:
    """Deaths belong to the row and not to the journal: a claim and the row tell them, `check` finds nothing wrong with
    them, and storing a step of the execution sets them back, unless they are to stay. One that is gone is no fault."""
    first, second = start("e1"), start("e2")
    save(store, first, second)
    with store.write() as transaction:
        transaction.set_deaths("e1", 2)
        transaction.set_deaths("e2", 1)
        transaction.set_deaths("gone", 1)
        assert transaction.claim(["e1", "e2", "gone"]) == {"e1": Claimed(2, 2), "e2": Claimed(2, 1)}
    with store.read() as queries:
        assert [row.deaths for row in queries.executions_of(["e1", "e2"]).values()] == [2, 1]
    assert list(check(store)) == []
    save(store, first.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0)))
    with store.write() as transaction:
        second.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0))
        transaction.save_all([replace(second.saved(), deaths=1)])
    with store.write() as transaction:
        assert transaction.claim(["e1", "e2"]) == {"e1": Claimed(3, 0), "e2": Claimed(3, 1)}
        transaction.set_deaths("e2", 0)
        assert transaction.claim(["e2"]) == {"e2": Claimed(3, 0)}
    assert list(check(store)) == []


def test_stale_copy_cannot_be_stored(store: Store) -> None:
    """Changes that start from another revision than the stored one are refused, and nothing of them is kept."""
    first = start("e1")
    save(store, first)
    stale = start("e1")
    stale.pending.clear()
    save(store, first.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0)))
    with pytest.raises(StoreConflict):
        save(store, stale.do(ExecutionMoved(state=ExecutionState.ERROR, at_s=102.0)))
    with pytest.raises(StoreConflict):
        save(store, start("e1"))
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert (row.state, row.revision, len(queries.journal("e1"))) == ("PAUSED", 3, 3)


def test_entries_must_count_the_changes(store: Store) -> None:
    """A batch whose entries do not account for every change is refused: the journal could not tell who made what."""
    scene = start("e1")
    saved = Saved(scene.execution, scene.pending, [JournalEntry("start_requested", 1.0, "", "", 1)])
    with pytest.raises(ValueError, match="count"), store.write() as transaction:
        transaction.save_all([saved])


def test_journal_tells_who_made_each_change(store: Store) -> None:
    """Several steps of one batch keep their event, time, actor and comment; pages begin after any change."""
    scene = start("e1")
    entries = [JournalEntry("start_requested", 1.0, "ada", "go", 1), JournalEntry("timer_fired", 2.5, "", "", 1)]
    with store.write() as transaction:
        transaction.save_all([Saved(scene.execution, scene.pending, entries)])
    scene.pending = []
    save(store, add_task(scene, 1))
    with store.read() as queries:
        journal = queries.journal("e1")
        assert [each.sequence for each in journal] == [1, 2, 3, 4, 5]
        assert [(each.event, each.at_s, each.actor, each.comment) for each in journal[:3]] == [
            ("start_requested", 1.0, "ada", "go"),
            ("timer_fired", 2.5, "", ""),
            ("start_requested", 100.0, "", ""),
        ]
        assert queries.journal("e1", after=3) == journal[3:]
        assert queries.journal("e1", after=1, limit=3) == journal[1:4]
        assert queries.journal("e1", after=5) == queries.journal("nobody") == []


def test_journal_of_large_changes_comes_in_bounded_pages(store: Store) -> None:
    """A page of the journal ends before its large values exceed 8 MiB, and following the pages gives all changes."""
    scene = start("e1")
    save(store, scene)
    for number in range(1, 8):
        save(store, finish_task(add_task(scene, number), number, Value(data="x" * 2_000_000 + str(number))))
    with store.read() as queries:
        sequences: list[int] = []
        pages = 0
        while page := queries.journal("e1", after=sequences[-1] if sequences else 0):
            sequences += [each.sequence for each in page]
            pages += 1
    assert sequences == list(range(1, scene.execution.revision + 1))
    assert pages > 1


def test_a_row_of_the_journal_is_cut(store: Store) -> None:
    """One batch of one execution may be more than a page, by many changes and by one value that all of them have."""
    scene = start("e1")
    add_task(scene, 1)
    for number in range(2, 32):
        given = Value(data="x" * 1_000_000)
        scene.do(AttemptAdded(key=(1, 0, number), action="std.echo", input=given, state=AttemptState.READY))
    save(store, scene)
    sequences: list[int] = []
    sizes = []
    with store.read() as queries:
        while page := queries.journal("e1", after=sequences[-1] if sequences else 0):
            sequences += [each.sequence for each in page]
            sizes.append(sum(isinstance(each.change, AttemptAdded) for each in page))
        assert [each.sequence for each in queries.journal("e1", after=3, limit=2)] == [4, 5]
    assert sequences == list(range(1, scene.execution.revision + 1))
    assert sum(sizes) == 31
    assert max(sizes) <= 9


def test_ready_attempts_are_the_oldest_of_those_not_quiet(store: Store) -> None:
    """READY attempts come oldest first; none of an execution that pauses or cancels (O4, O14); bounded."""
    late, early = add_task(start("e1", at_s=200.0), 1), add_task(start("e2", at_s=100.0), 1, target="gpu")
    paused, gone = add_task(start("e3"), 1), add_task(start("e4"), 1)
    paused.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0))
    gone.do(ExecutionMoved(state=ExecutionState.CANCELLING, at_s=101.0))
    save(store, late, early, paused, gone)
    with store.write() as transaction:
        assert transaction.ready_attempts(10, ["std.echo"]) == [
            ReadyAttempt("e2", (1, 0, 1), "std.echo", "gpu"),
            ReadyAttempt("e1", (1, 0, 1), "std.echo", ""),
        ]
        assert len(transaction.ready_attempts(1, ["std.echo"])) == 1
    save(store, hand_out(early, 1))
    with store.write() as transaction:
        assert [each.execution_id for each in transaction.ready_attempts(10, ["std.echo"])] == ["e1"]


def test_held_attempts_are_those_a_session_must_answer_for(store: Store) -> None:
    """RUNNING attempts are held by the session of their current delivery until they end or become delegates."""
    scene = start("e1")
    for number in range(1, 5):
        add_task(scene, number, AttemptState.RUNNING)
    scene.do(AttemptMoved(key=(2, 0, 1), state=AttemptState.RUNNING, delegated=True))
    finish_task(scene, 3, Value(data=1))
    scene.do(AttemptMoved(key=(4, 0, 1), state=AttemptState.READY))
    save(store, hand_out(scene, 4, "session-2", 2))
    with store.write() as transaction:
        assert transaction.held_attempts(["session-1", "nobody"]) == [HeldAttempt("e1", (1, 0, 1), 1, "session-1")]
        assert transaction.held_attempts(["session-2"]) == [HeldAttempt("e1", (4, 0, 1), 2, "session-2")]
        assert transaction.held_attempts([]) == []
        assert transaction.queries.held_counts() == {"session-1": 1, "session-2": 1}


def test_abandoned_attempts_are_those_of_no_living_session(store: Store) -> None:
    """What is RUNNING with a session that has ended, or that nobody knows, is found; a living session's is not."""
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    save(store, scene)
    held = [HeldAttempt("e1", (1, 0, 1), 1, "session-1")]
    with store.write() as transaction:
        assert transaction.abandoned_attempts(10) == held
        transaction.save_session(SessionRow("session-1", "executor", "engine", 1e12))
        assert transaction.abandoned_attempts(10) == []
        transaction.end_sessions(["session-1"])
        assert transaction.abandoned_attempts(10) == held
        assert transaction.abandoned_attempts(0) == []


def test_later_round_takes_acceptance_from_earlier_attempts(store: Store) -> None:
    """Once a task begins another round, the attempts of earlier rounds are not accepted, in rows as in memory (S16)."""
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    save(store, scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.ERROR, error="no")))
    with store.read() as queries:
        assert [row.accepted for row in queries.attempts("e1").rows] == [True]
    save(store, scene.do(AttemptsBegun(task=1, attempt=2, retries=1)))
    with store.read() as queries:
        assert [row.accepted for row in queries.attempts("e1").rows] == [False]
        assert check_execution(queries, "e1") == []


def test_task_result_is_put_together_when_asked(store: Store) -> None:
    """A task's result is its attempt's, with items the list over those that ended (S13); not kept, there is none."""
    save_each(store, live_through_everything("e1"))
    single = add_task(start("e2"), 1, AttemptState.RUNNING)
    save(store, single)
    with store.read() as queries:
        assert queries.task_result("e2", 1).text is None
        assert queries.task_result("e2", 9).text is None
    save(store, finish_task(single, 1, Value(data={"b": 1, "a": 2})))
    with store.read() as queries:
        assert queries.task_result("e2", 1).text == '{"b":1,"a":2}'
        assert queries.task_result("e1", 1).text is None
        assert queries.task_result("e1", 2).text == f"[{LARGE.text},null]"
        assert queries.task_result("e1", 2, bytes_max=100) == (None, True)


def test_leading_attempt_is_of_the_present_round(store: Store) -> None:
    """What a task runs now is told by the attempt of its present round for its first item."""
    save_each(store, live_through_everything("e1"))
    with store.read() as queries:
        found = queries.leading_attempts("e1", [1, 2, 7])
    assert {number: row.key for number, row in found.items()} == {1: (1, 0, 2), 2: (2, 0, 1)}


def test_tasks_of_many_executions_are_read_at_once(store: Store) -> None:
    """With their values, the greatest ids first, as many as are asked for, and as much as a page may hold."""
    for number in range(1, 4):
        scene = add_task(add_task(start(f"e{number}"), 1), 2, AttemptState.RUNNING)
        save(store, finish_task(scene, 2, LARGE))
    running = Filter((Term("state", "=", ("RUNNING",)),))
    with store.read() as queries:
        found = queries.tasks_across(["e1", "e3", "e9"], EVERYTHING, 10)
        assert [(row.execution_id, row.number) for row in found] == [("e3", 1), ("e3", 2), ("e1", 1), ("e1", 2)]
        assert json.loads(found[1].published or "")["got"] == LARGE.data
        assert found == queries.tasks("e3", full=True).rows + queries.tasks("e1", full=True).rows
        chosen = queries.tasks_across(["e1", "e2", "e3"], running, 2)
        assert [(row.execution_id, row.number) for row in chosen] == [("e3", 1), ("e2", 1)]
    huge = Value(data="x" * 2_000_000)
    for number in (4, 5, 6):
        save(store, finish_task(add_task(start(f"e{number}"), 1, AttemptState.RUNNING), 1, huge))
    with store.read() as queries:
        assert [row.execution_id for row in queries.tasks_across(["e4", "e5", "e6"], EVERYTHING, 10)] == ["e6"]


def test_task_counts_by_state(store: Store) -> None:
    """The tasks of several executions are counted by state at once; an execution without tasks has no counts."""
    save_each(store, live_through_everything("e1"))
    save(store, add_task(add_task(start("e2"), 1), 2), create("e3"))
    with store.read() as queries:
        assert queries.task_counts(["e1", "e2", "e3"]) == {
            "e1": {"ERROR": 1, "SUCCESS": 1},
            "e2": {"RUNNING": 2},
            "e3": {},
        }


def _family() -> list[Scene]:
    scenes = [create("root", at_s=1.0)]
    for number, (name, parent, task) in enumerate([("a", "root", 1), ("b", "root", 2), ("c", "a", 1), ("d", "c", 1)]):
        link = Link(parent, (task, 0, 1))
        scenes.append(create(name, at_s=10.0 - number, parent=link, root_id="root"))
    return scenes


def test_children_and_descendants(store: Store) -> None:
    """Children are listed oldest first, of all tasks or one; descendants with parents before children."""
    save(store, *_family())
    with store.read() as queries:
        assert [row.id for row in queries.children("root")] == ["b", "a"]
        assert [row.id for row in queries.children("root", task=1)] == ["a"]
        assert queries.descendants("root") == ["a", "b", "c", "d"]
        assert queries.descendants("d") == queries.descendants("") == []
        assert queries.children("") == []
        child = queries.execution("c")
    assert child is not None
    assert (child.parent_id, child.parent_task, child.parent_attempt, child.root_id) == ("a", 1, 1, "root")


def test_paused_descendants(store: Store) -> None:
    """O7, decision 15: of all below a root those are found that are PAUSED or PAUSING, whichever their depth."""
    family = _family()
    paused = {"root": ExecutionState.PAUSED, "a": ExecutionState.PAUSING, "b": ExecutionState.PAUSED}
    for scene in family:
        scene.do(ExecutionMoved(state=ExecutionState.RUNNING))
        name = scene.execution.id
        if name != "c":
            scene.do(ExecutionMoved(state=paused.get(name, ExecutionState.PAUSING)))
    save(store, *family)
    with store.read() as queries:
        assert [row.id for row in queries.paused_descendants("root")] == ["a", "b", "d"]
        assert queries.paused_descendants("a") == queries.paused_descendants("") == []


def test_deleted_execution_leaves_nothing_behind(store: Store) -> None:
    """Deleting removes rows, journal, texts, labels and what was ready or held; others keep theirs."""
    for name in ("e1", "e2"):
        save_each(store, live_through_everything(name))
        save(store, add_task(start(f"{name}-open", labels={"team": "red"}), 1, AttemptState.RUNNING))
    with store.write() as transaction:
        transaction.delete_execution("e1")
        transaction.delete_execution("e1-open")
        transaction.delete_execution("nobody")
    with store.read() as queries:
        assert queries.execution("e1") is None
        assert (queries.tasks("e1").rows, queries.attempts("e1").rows, queries.journal("e1")) == ([], [], [])
        assert queries.execution_ids() == ["e2", "e2-open"]
    assert list(check(store)) == []
    with store.write() as transaction:
        assert [each.execution_id for each in transaction.held_attempts(["session-1"])] == ["e2-open"]
    save_each(store, live_through_everything("e1"))  # the id is free again, its labels and texts too


def test_order_of_keys_and_exact_numbers_survive(store: Store) -> None:
    """JSON comes back as it was given: keys in their order, integers beyond 64 bits, letters of any alphabet."""
    text = '{"z":123456789012345678901234567890,"a":"ß→😀","m":1.0}'
    scene = finish_task(add_task(start("e1"), 1, AttemptState.RUNNING), 1, Value(text=text))
    save(store, scene)
    with store.read() as queries:
        task = queries.task("e1", 1)
        assert queries.task_result("e1", 1).text == text
    assert task is not None
    assert task.published == f'{{"got":{text},"Name ü":1}}'


def test_words_with_nul_do_not_break_a_batch(store: Store) -> None:
    """A NUL in an error or a comment is kept in the journal and shown as a replacement in the row."""
    scene = add_task(start("e1"), 1, AttemptState.RUNNING)
    scene.do(TaskMoved(task=1, state=TaskState.ERROR, info="bad\0news"))
    save(store, scene)
    with store.read() as queries:
        task = queries.task("e1", 1)
        assert task is not None
        assert task.info == "bad\N{REPLACEMENT CHARACTER}news"
        assert json.dumps("bad\0news") in json.dumps(queries.journal("e1")[-1].change.info)  # type: ignore[union-attr]
        assert check_execution(queries, "e1") == []


def test_a_session_holds_what_it_has_not_ended(store: Store) -> None:
    """When one of its attempts ends, the session still holds the others; when the last one ends, it holds nothing."""
    scene = start("e1")
    for number in (1, 2):
        add_task(scene, number, AttemptState.RUNNING)
    save(store, scene)
    for number, left in ((1, [HeldAttempt("e1", (2, 0, 1), 1, "session-1")]), (2, [])):
        save(store, finish_task(scene, number, Value(data=1)))
        with store.write() as transaction:
            assert transaction.held_attempts(["session-1"]) == left
            assert transaction.queries.held_counts() == ({"session-1": 1} if left else {})
