"""What expressions ask about other executions, answered from a real store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.store.scenes import LARGE, add_task, finish_task, live_through_everything, save, save_each, start

from dalsegno.engine.batches.cache import CompiledWorkflows
from dalsegno.engine.batches.outside import Lookups, TransactionOutside
from dalsegno.store.store import Store
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.states import AttemptState
from dalsegno.workflow.value import Value


def test_records_of_all_tasks_take_few_queries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tasks()` over a namespace runs between the steps of everybody: what it costs the store does not grow with the
    number of executions, and it reads no more than a page has of bytes."""
    for number in range(60):
        save(store, finish_task(add_task(start(f"e{number:02}"), 1, AttemptState.RUNNING), 1, Value(data=number)))
    save_each(store, live_through_everything("f1"))
    asked: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            asked.append(name)
            return method(*arguments, **named)

        return ask

    lookups = Lookups(CompiledWorkflows(lambda row: Workflow("w", {})), (), lasting=True)
    with store.read() as queries:
        for name in ("tasks", "tasks_across", "attempts_of", "leading_attempts", "task_result", "execution"):
            monkeypatch.setattr(queries, name, counted(name, getattr(queries, name)))
        outside = TransactionOutside(lookups, queries, lambda execution_id, until: ())
        records = outside.tasks(None, "", False, None, False)
        assert {record["workflow_execution_id"] for record in records} == {*(f"e{n:02}" for n in range(60)), "f1"}
        results = {record["workflow_execution_id"]: record["result"] for record in records}
        assert [results[f"e{number:02}"] for number in range(60)] == list(range(60))
        with_items = [record for record in records if record["id"] == "f1.2"]
        assert with_items[0]["result"] == [LARGE.data, None]
        assert len(asked) < 12
        own = outside.tasks("e07", "", True, "SUCCESS", True)
        assert [(record["id"], record["result"]) for record in own] == [("e07.1", 7)]
        assert own[0]["published"] == {"got": 7, "Name ü": 1}
