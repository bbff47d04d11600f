"""Lists: filters, pages and their tokens, alike in all stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.store.scenes import add_task, create, finish_task, live_through_everything, save, save_each, start

from dalsegno.store.filters import (
    ATTEMPT_FIELDS,
    DEFINITION_FIELDS,
    ENVIRONMENT_FIELDS,
    EXECUTION_FIELDS,
    STANDALONE_FIELDS,
    TASK_FIELDS,
    parse_filter,
)
from dalsegno.store.records import StoredDocument, StoredMember
from dalsegno.store.store import Queries, Store
from dalsegno.workflow.changes import AttemptMoved, ExecutionMoved, Link, TaskMoved
from dalsegno.workflow.refusals import InvalidPageToken, InvalidRequest
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

_NEW_YEAR_S = 1767225600.0  # 2026-01-01T00:00:00Z


def _follow(ask: Callable[[str], tuple[list[str], str]]) -> list[list[str]]:
    """The pages of a list, each as its ids."""
    pages, token = [], ""
    while True:
        ids, token = ask(token)
        pages.append(ids)
        if not token:
            return pages


def _id(number: int) -> str:
    return f"01890a5d-ac96-774b-bcce-b3020000000{number}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("state=RUNNING", [5, 2, 1]),
        ("state=ERROR,IDLE", [4, 3]),
        ("state!=ERROR,IDLE", [5, 2, 1]),
        ("namespace=other", [4]),
        ("namespace=", [5, 3, 2, 1]),
        ("workflow=pack.flow", [4, 3, 2, 1]),
        ("workflow=pack.t*", [5]),
        ("workflow=Pack.*", []),
        ("workflow=pack.t*,pack.flow", [5, 4, 3, 2, 1]),
        ("workflow!=pack.t*", [4, 3, 2, 1]),
        ('workflow="pack.t*"', []),
        ("label.team=red", [2, 1]),
        ("label.team!=red", [5, 4, 3]),
        ("label.team=*", [5, 2, 1]),
        ("label.team!=*", [4, 3]),
        ("label.team=r*", [2, 1]),
        ("label.team=red label.tier=1", [1]),
        ('label.team="b, c",red state=RUNNING', [5, 2, 1]),
        (f"parent={_id(1)}", [2]),
        (f"parent={_id(1).upper()}", [2]),
        ("parent=", [5, 4, 3, 1]),
        ("parent!=", [2]),
        (f"root={_id(1)}", [2, 1]),
        (f"id={_id(4)},{_id(2)}", [4, 2]),
        ("id=*00000003", [3]),
        ("created>=2026-01-01T00:00:02Z created<2026-01-01T00:00:04Z", [3, 2]),
        ("created=2026-01-01T01:00:02+01:00", [2]),
        ("created>=-7s", [5, 4, 3]),
        ("created!=-7s", [5, 4, 2, 1]),
        ("ended>2026-01-01T00:00:00Z", [3]),
        ("ended!=2026-01-01T00:00:00Z", [5, 4, 3, 2, 1]),
        ("ended<=2026-01-01T00:00:00Z", []),
        ("workflow=nothing", []),
    ],
)
def test_executions_by_filter(store: Store, text: str, expected: list[int]) -> None:
    """Every field of the grammar chooses what it says; terms must all hold, values are alternatives; newest first."""
    first = start(_id(1), at_s=_NEW_YEAR_S + 1, labels={"team": "red", "tier": "1"})
    labels = {"team": "red", "tier": "2"}
    child = start(_id(2), at_s=_NEW_YEAR_S + 2, labels=labels, parent=Link(_id(1), (1, 0, 1)), root_id=_id(1))
    failed = start(_id(3), at_s=_NEW_YEAR_S + 3)
    failed.do(ExecutionMoved(state=ExecutionState.ERROR, at_s=_NEW_YEAR_S + 9))
    idle = create(_id(4), at_s=_NEW_YEAR_S + 4, namespace="other")
    save(store, first, child, failed, idle)
    save(store, start(_id(5), at_s=_NEW_YEAR_S + 5, workflow="pack.two", labels={"team": "b, c"}))
    chosen = parse_filter(text, EXECUTION_FIELDS, now_s=_NEW_YEAR_S + 10)
    with store.read() as queries:
        rows = queries.executions(chosen).rows
    assert [row.id for row in rows] == [_id(number) for number in expected]


def test_executions_are_counted_by_state(store: Store) -> None:
    """A count tells what a list would list, by state; what carries a standalone action is not an execution."""
    save(store, create("e1"), start("e2"), start("e3"), start("e4", workflow=""), start("e5", namespace="other"))
    with store.read() as queries:
        assert queries.count_executions() == {"IDLE": 1, "RUNNING": 3}
        assert queries.count_executions(parse_filter("namespace=other", EXECUTION_FIELDS)) == {"RUNNING": 1}
        assert queries.count_executions(parse_filter("state=ERROR", EXECUTION_FIELDS)) == {}


def test_executions_page_by_key(store: Store) -> None:
    """Pages follow one another without gaps or repeats, also where times are equal and while newer ones arrive."""
    save(store, *(create(f"e{number}", at_s=float(number // 2)) for number in range(7)))
    chosen = parse_filter("state=IDLE", EXECUTION_FIELDS)

    def ask(token: str) -> tuple[list[str], str]:
        with store.read() as queries:
            page = queries.executions(chosen, size=3, token=token)
        save(store, create(f"new-{token}", at_s=100.0))
        return [row.id for row in page.rows], page.next_token

    assert _follow(ask) == [["e6", "e5", "e4"], ["e3", "e2", "e1"], ["e0"]]


def test_full_pages_end_before_they_grow_too_large(store: Store) -> None:
    """A page with values ends before they exceed 3.5 MiB, with one row at least, and the next one continues there."""
    given = [Value(data=str(number) * 1_500_000) for number in range(4)]
    save(store, *(create(f"e{number}", at_s=float(number), given=value) for number, value in enumerate(given)))
    pages = []

    def ask(token: str) -> tuple[list[str], str]:
        with store.read() as queries:
            page = queries.executions(token=token, full=True)
        pages.append([len(row.input or "") for row in page.rows])
        return [row.id for row in page.rows], page.next_token

    assert _follow(ask) == [["e3", "e2"], ["e1", "e0"]]
    assert pages == [[1_500_002, 1_500_002], [1_500_002, 1_500_002]]


def test_pages_without_values_end_before_they_grow_too_large(store: Store) -> None:
    """What a list always shows counts too, in bytes: 1,500,000 characters of two bytes each are most of a page."""
    scenes = [start(f"e{number}", at_s=float(number)) for number in range(4)]
    for scene in scenes:
        scene.do(ExecutionMoved(state=ExecutionState.ERROR, info="\u00e4" * 1_500_000, at_s=5.0))
    tasks = start("tasks", at_s=9.0)
    for number in range(1, 5):
        add_task(tasks, number)
        tasks.do(TaskMoved(task=number, state=TaskState.ERROR, info="x" * 1_500_000, at_s=5.0))
    save(store, *scenes, tasks)

    def ask(token: str) -> tuple[list[str], str]:
        with store.read() as queries:
            page = queries.executions(token=token)
        return [row.id for row in page.rows], page.next_token

    def ask_tasks(token: str) -> tuple[list[str], str]:
        with store.read() as queries:
            page = queries.tasks("tasks", token=token)
        return [str(row.number) for row in page.rows], page.next_token

    assert _follow(ask) == [["tasks", "e3"], ["e2"], ["e1"], ["e0"]]
    assert _follow(ask_tasks) == [["1", "2"], ["3", "4"]]


def test_tokens_are_good_for_their_own_list_only(store: Store) -> None:
    """A token of another list, another filter or of nobody's making is refused; so is a negative page size."""
    save(store, *(create(f"e{number}") for number in range(3)))
    save(store, add_task(add_task(start("e9"), 1), 2))
    with store.read() as queries:
        token = queries.executions(size=1).next_token
        tasks = queries.tasks("e9", size=1).next_token
        assert token
        assert tasks
        chosen = parse_filter("state=IDLE", EXECUTION_FIELDS)
        attempts: list[Callable[[], object]] = [
            lambda: queries.executions(chosen, size=1, token=token),
            lambda: queries.executions(size=1, token=tasks),
            lambda: queries.tasks("e8", size=1, token=tasks),
            lambda: queries.executions(token="nonsense"),
            lambda: queries.executions(token="ÿ"),
            lambda: queries.executions(token="W10"),
            lambda: queries.executions(token="MQ"),
        ]
        for attempt in attempts:
            with pytest.raises(InvalidPageToken):
                attempt()
        with pytest.raises(InvalidRequest, match="page_size"):
            queries.executions(size=-1)


def test_sizes_of_pages(store: Store) -> None:
    """Without a size a page has 100 rows; more than 1,000 is taken as 1,000."""
    save(store, *(create(f"e{number:04}") for number in range(1005)))
    with store.read() as queries:
        assert len(queries.executions().rows) == 100
        assert len(queries.executions(size=5000).rows) == 1000
        assert len(queries.execution_ids(limit=2000)) == 1005
        assert queries.execution_ids("e1002") == ["e1003", "e1004"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", [1, 2]), ("state=ERROR", [2]), ("name=join,step_1", [1, 2]), ("state=SUCCESS name=join", [])],
)
def test_tasks_by_filter(store: Store, text: str, expected: list[int]) -> None:
    """Tasks are listed by number and chosen by state and name."""
    save_each(store, live_through_everything("e1"))
    with store.read() as queries:
        chosen = parse_filter(text, TASK_FIELDS)
        assert [row.number for row in queries.tasks("e1", chosen).rows] == expected
        pages = _follow(lambda token: _numbers(queries, token))
    assert pages == [["1"], ["2"]]


def _numbers(queries: Queries, token: str) -> tuple[list[str], str]:
    page = queries.tasks("e1", size=1, token=token)
    return [str(row.number) for row in page.rows], page.next_token


@pytest.mark.parametrize(
    ("text", "task", "expected"),
    [
        ("", 0, [(1, 0, 1), (1, 0, 2), (2, 0, 1), (2, 1, 1)]),
        ("", 2, [(2, 0, 1), (2, 1, 1)]),
        ("state=ERROR", 0, [(1, 0, 1), (2, 1, 1)]),
        ("accepted=true", 1, [(1, 0, 2)]),
        ("attempt=2", 0, [(1, 0, 2)]),
        ("item=1", 0, [(2, 1, 1)]),
        ("action=sub delegated=false", 0, [(2, 1, 1)]),
        ("executor=executor-1", 0, [(1, 0, 1)]),
    ],
)
def test_attempts_by_filter(store: Store, text: str, task: int, expected: list[tuple[int, int, int]]) -> None:
    """Attempts are listed by task, item and attempt and chosen by every field of the grammar."""
    save_each(store, live_through_everything("e1"))
    with store.read() as queries:
        assert [row.key for row in queries.attempts("e1", task, parse_filter(text, ATTEMPT_FIELDS)).rows] == expected


def test_attempts_page_by_key(store: Store) -> None:
    """Pages of attempts follow one another over tasks and items."""
    save_each(store, live_through_everything("e1"))

    def ask(token: str) -> tuple[list[str], str]:
        with store.read() as queries:
            page = queries.attempts("e1", size=3, token=token)
        return [str(row.key) for row in page.rows], page.next_token

    assert _follow(ask) == [["(1, 0, 1)", "(1, 0, 2)", "(2, 0, 1)"], ["(2, 1, 1)"]]


def test_standalone_actions_are_apart(store: Store) -> None:
    """Executions without a workflow carry standalone actions: listed as attempts, newest first, not as executions."""
    one = add_task(create("a1", workflow="", labels={"team": "red"}), 1)
    two = add_task(create("a2", workflow="", namespace="other"), 1, AttemptState.RUNNING)
    two.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.RUNNING, delegated=True))
    save(store, one, two, finish_task(add_task(start("e1"), 1, AttemptState.RUNNING), 1, Value(data=1)))
    with store.read() as queries:

        def ids(text: str) -> list[str]:
            return [row.execution_id for row in queries.attempts("", 0, parse_filter(text, STANDALONE_FIELDS)).rows]

        assert [row.id for row in queries.executions().rows] == ["e1"]
        assert ids("") == ["a2", "a1"]
        assert ids("namespace=other") == ids("delegated=true") == ids("state=RUNNING") == ["a2"]
        assert ids("label.team=red") == ["a1"]
        first = queries.attempts("", size=1)
        assert [row.execution_id for row in queries.attempts("", size=1, token=first.next_token).rows] == ["a1"]
        row = queries.execution("a1")
    assert row is not None
    assert row.is_standalone_action


def test_definitions_by_filter(store: Store) -> None:
    """Workflows are listed by namespace and name, the newest version or all, and chosen by every field."""
    members = [
        StoredMember("d1", "workflow", "b.flow", ("nightly",)),
        StoredMember("d2", "workflow", "a.flow", ("nightly,",)),
        StoredMember("d3", "action", "a.act"),
    ]
    with store.write() as transaction:
        transaction.save_document(StoredDocument("one", "mistral", "", _NEW_YEAR_S), members)
        again = [StoredMember("d4", "workflow", "a.flow")]
        transaction.save_document(StoredDocument("two", "orquesta", "", _NEW_YEAR_S + 10), again)
        other = [StoredMember("d5", "workflow", "a.flow")]
        transaction.save_document(StoredDocument("two", "orquesta", "other", _NEW_YEAR_S + 10), other)
    with store.read() as queries:

        def ids(text: str, all_versions: bool = False) -> list[str]:
            chosen = parse_filter(text, DEFINITION_FIELDS)
            return [
                row.definition_id for row in queries.definitions("workflow", chosen, all_versions=all_versions).rows
            ]

        assert ids("") == ["d4", "d1", "d5"]
        assert ids("", all_versions=True) == ["d2", "d4", "d1", "d5"]
        assert ids("namespace=other") == ["d5"]
        assert ids("language=ORQUESTA") == ["d4", "d5"]
        assert ids("tag=nightly", all_versions=True) == ["d1"]
        assert ids('tag="nightly,"', all_versions=True) == ["d2"]
        assert ids("created<2026-01-01T00:00:05Z name=b.flow") == ["d1"]
        page = queries.definitions("workflow", size=2, full=True)
        assert [row.text for row in page.rows] == ["two", "one"]
        rest = queries.definitions("workflow", size=2, token=page.next_token)
        assert [(row.definition_id, row.text) for row in rest.rows] == [("d5", None)]
        assert [row.name for row in queries.definitions("action").rows] == ["a.act"]


def test_environments_by_filter(store: Store) -> None:
    """Environments are listed by namespace and name, with values only when asked."""
    with store.write() as transaction:
        for namespace, name in [("b", "one"), ("", "two"), ("", "one"), ("", "Zeta")]:
            transaction.put_environment(namespace, name, '{"k":1}', 1.0)
    with store.read() as queries:
        rows = queries.environments().rows
        assert [(row.namespace, row.name, row.value) for row in rows] == [
            ("", "Zeta", None),
            ("", "one", None),
            ("", "two", None),
            ("b", "one", None),
        ]
        chosen = parse_filter("name=one", ENVIRONMENT_FIELDS)
        page = queries.environments(chosen, size=1, full=True)
        assert [(row.namespace, row.value) for row in page.rows] == [("", '{"k":1}')]
        assert [row.namespace for row in queries.environments(chosen, size=1, token=page.next_token).rows] == ["b"]
