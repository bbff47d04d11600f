"""The checker of the chaos: says nothing of a run in which all went well, and names what was planted in one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.checker import Verdict, check
from tests.chaos.records import LEDGER

ID = "0b5e"
KEY = [1, 0, 1]
ATTEMPT = f"{ID}.1.0.1"

Line = dict[str, Any]


def change(type: str, **fields: Any) -> Line:
    """A change as the journal has it."""
    return {"type": type, **fields}


def moved(state: str, **fields: Any) -> Line:
    """The only attempt moves."""
    return change("AttemptMoved", key=KEY, state=state, **fields)


@dataclass
class Left:
    """What an execution of one action, which must not run twice, has left."""

    steps: list[tuple[str, str, list[Line]]] = field(
        default_factory=lambda: [
            ("start_requested", "start-1", [change("ExecutionCreated"), change("ExecutionMoved", state="RUNNING")]),
            (
                "start_requested",
                "",
                [
                    change("TaskAdded", task=1, state="RUNNING"),
                    change("AttemptsBegun", task=1),
                    change("AttemptAdded", key=KEY, action="chaos.unsafe", state="READY"),
                ],
            ),
            ("handed_out", "", [moved("RUNNING", delivery=1)]),
            (
                "task_done",
                "",
                [
                    moved("SUCCESS", result="7"),
                    change("TaskMoved", task=1, state="SUCCESS"),
                    change("ExecutionMoved", state="SUCCESS"),
                ],
            ),
        ]
    )
    execution: Line = field(
        default_factory=lambda: {
            "id": ID,
            "workflow": "wf",
            "state": "SUCCESS",
            "active_count": 0,
            "output": '{"total": 7}',
            "info": "",
            "parent_id": "",
            "revision": 9,
        }
    )
    task: Line = field(
        default_factory=lambda: {
            "execution_id": ID,
            "number": 1,
            "name": "a",
            "state": "SUCCESS",
            "superseded_by": "",
        }
    )
    others: list[Line] = field(default_factory=list)
    """Further attempts."""
    attempt: Line = field(
        default_factory=lambda: {
            "execution_id": ID,
            "task": 1,
            "item": 0,
            "attempt": 1,
            "state": "SUCCESS",
            "delivery": 1,
        }
    )
    messages: list[Line] = field(default_factory=list)
    ledger: list[Line] = field(
        default_factory=lambda: [
            {"request": "start-1", "kind": "start", "execution": ID, "expected": {"total": 7}},
            {"request": "start-1", "code": "OK", "told": ""},
        ]
    )
    side_log: list[Line] = field(
        default_factory=lambda: [
            begun(1),
            {"what": "end", "attempt": ATTEMPT, "delivery": 1, "process": 1, "outcome": "succeeded", "value": 7},
        ]
    )

    def check(self, folder: Path) -> Verdict:
        """What the checker says of it."""
        changes = [each for _, _, found in self.steps for each in found]
        entries = [[event, 0.0, "", comment, len(found)] for event, comment, found in self.steps]
        journal = {"execution_id": ID, "first": 1, "last": len(changes)}
        journal |= {"entries": json.dumps(entries), "changes": json.dumps(changes)}
        message = {"execution_id": "", "due_s": 0.0, "event": ""}
        with sqlite3.connect(folder / "store.db") as store:
            put(store, "journal", journal, [journal])
            put(store, "executions", self.execution, [self.execution])
            put(store, "tasks", self.task, [self.task])
            put(store, "attempts", self.attempt, [self.attempt, *self.others])
            put(store, "messages", message, self.messages)
            put(store, "clock", {"latest_s": 0.0}, [{"latest_s": 1000.0}])
        store.close()
        write(folder / LEDGER, self.ledger)
        write(folder / "executor-1.jsonl", self.side_log)
        return check(f"sqlite:///{folder}/store.db", folder)


def begun(delivery: int, process: int = 1) -> Line:
    """The line of a run that begins."""
    line = {"what": "begin", "attempt": ATTEMPT, "delivery": delivery, "process": process}
    return {**line, "action": "chaos.unsafe", "safe": False}


def put(store: sqlite3.Connection, table: str, columns: Line, rows: list[Line]) -> None:
    """Make a table with rows."""
    store.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    for row in rows:
        store.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", list(row.values()))


def write(path: Path, lines: list[Line]) -> None:
    """Write lines of JSON, and one that is torn, as a killed process leaves it."""
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"what": "beg\n')


def hand_out_again(left: Left) -> None:
    """The engine takes the action for one that was never received, hands it out again, and it runs again."""
    left.steps.insert(3, ("handed_out", "", [moved("READY"), moved("RUNNING", delivery=2)]))
    left.side_log.append(begun(2, process=2))
    left.execution["revision"], left.attempt["delivery"] = 11, 2


def commit_nothing(left: Left) -> None:
    """A run of which the store knows nothing."""
    left.side_log.append({**begun(1), "attempt": f"{ID}.2.0.1"})


def end_twice(left: Left) -> None:
    """Two reports are taken."""
    left.steps.append(("task_done", "", [moved("SUCCESS", result="7")]))
    left.execution["revision"] = 10


def count_twice(left: Left) -> None:
    """A task succeeds twice in one round."""
    left.steps.append(("task_done", "", [change("TaskMoved", task=1, state="SUCCESS")]))
    left.execution["revision"] = 10


def pause(left: Left, code: str, times: int) -> None:
    """A pause is answered with a code, and carried out so many times."""
    asked = {"request": "pause-1", "kind": "pause", "execution": ID}
    left.ledger += [asked, {"request": "pause-1", "code": code, "told": "no"}]
    for _ in range(times):
        left.steps.insert(-1, ("pause_requested", "pause-1", [change("StopsSet")]))
    left.execution["revision"] += times


def complete(left: Left) -> None:
    """A third party has completed the action, and it failed."""
    left.steps[-1][2][0] = moved("ERROR", error="lost")
    left.attempt["state"] = "ERROR"
    left.ledger += [
        {"request": "complete-1", "kind": "complete", "execution": ATTEMPT, "value": 7},
        {"request": "complete-1", "code": "OK", "told": ""},
    ]


def lose_execution(left: Left) -> None:
    """A start is answered, and there is no such execution."""
    left.ledger.append({**left.ledger[0], "request": "start-2", "execution": "gone"})
    left.ledger.append({"request": "start-2", "code": "OK", "told": ""})


PLANTED: dict[str, tuple[str, Callable[[Left], object], str]] = {
    "a delivery that runs twice": ("doubled", lambda left: left.side_log.insert(0, begun(1, process=2)), "2 times"),
    "an unsafe action again": ("doubled", hand_out_again, "must not run twice"),
    "two ends": ("doubled", end_twice, "ends 2 times"),
    "two successes": ("doubled", count_twice, "succeeds 2 times in 1 rounds"),
    "a pause twice": ("doubled", lambda left: pause(left, "OK", 2), "pause is in the journal 2 times"),
    "a pause never": ("lost", lambda left: pause(left, "OK", 0), "pause is answered, and not in the journal"),
    "a refusal": ("wrong", lambda left: pause(left, "ABORTED", 1), "pause was refused (no), and was carried out"),
    "a completion": ("lost", complete, "was completed, and is ERROR"),
    "no rest": ("lost", lambda left: left.execution.update(state="RUNNING"), "wf is RUNNING with 0 active"),
    "an open task": (
        "lost",
        lambda left: left.task.update(state="WAITING"),
        "has succeeded, and its task a is WAITING",
    ),
    "active": ("lost", lambda left: left.execution.update(active_count=1), "1 active actions"),
    "a late message": (
        "lost",
        lambda left: left.messages.append({"execution_id": ID, "due_s": 900.0, "event": "{}"}),
        "a message is overdue",
    ),
    "no execution": ("lost", lose_execution, "gone: start is answered"),
    "sent before the commit": ("wrong", commit_nothing, "no journal knows it"),
    "a result of nobody": ("wrong", lambda left: left.side_log.pop(), "has the result 7, which nobody gave"),
    "another output": ("wrong", lambda left: left.execution.update(output='{"total": 14}'), "not with {'total': 7}"),
    "another state": ("wrong", lambda left: left.task.update(state="ERROR"), "task a is ERROR, in the journal SUCCESS"),
    "another row": ("wrong", lambda left: left.attempt.update(delivery=2), "the row of attempt (1, 0, 1)"),
    "another revision": ("wrong", lambda left: left.execution.update(revision=8), "the journal ends at 9"),
    "a start of nobody": ("wrong", lambda left: left.ledger.clear(), "nobody has started it"),
}


def test_a_good_run_is_good(tmp_path: Path) -> None:
    """Nothing is doubled, lost or wrong, and the numbers are there; a torn line at the end of a log does no harm."""
    verdict = Left().check(tmp_path)
    assert verdict.is_good, verdict.summary()
    assert {"executions": 1, "tasks ended": 1, "actions ended": 1, "runs": 1, "requests done": 1}.items() <= (
        verdict.numbers.items()
    )


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(tmp_path: Path, planted: str) -> None:
    """Each fault is named, with its execution."""
    word, plant, told = PLANTED[planted]
    left = Left()
    plant(left)
    verdict = left.check(tmp_path)
    found: list[str] = getattr(verdict, word)
    assert any(told in each for each in found), verdict.summary()
    assert not verdict.is_good
    assert told in verdict.summary()


def test_a_further_attempt_is_explained(tmp_path: Path) -> None:
    """An action that must not run twice has run twice, in two attempts: the journal has the loss of the first one."""
    left = Left()
    added = left.steps[1][2][2]
    left.steps[3:3] = [
        ("delivery_lost", "", [moved("ERROR", error="executor 'x' was lost while it ran this action")]),
        ("timer_fired", "", [change("AttemptsBegun", task=1), {**added, "key": [1, 0, 2]}]),
        ("handed_out", "", [{**moved("RUNNING", delivery=1), "key": [1, 0, 2]}]),
    ]
    left.steps[-1][2][0]["key"] = [1, 0, 2]
    left.execution["revision"], left.attempt["state"] = 13, "ERROR"
    left.others.append({**left.attempt, "attempt": 2, "state": "SUCCESS"})
    left.side_log += [{**line, "attempt": f"{ID}.1.0.2"} for line in left.side_log]
    left.side_log.pop(1)
    verdict = left.check(tmp_path)
    assert verdict.is_good, verdict.summary()
    assert verdict.explained["further attempts after an executor was lost"] == 1
