"""The independent checker: nothing is lost, nothing is counted twice, everything is at rest.

It compares four things that are written down apart: what clients were answered (the ledger), what the actions did (the
side logs), what was decided (the journal), and what is true now (the rows). It knows the workflows of the chaos, and
nothing of the services but the form of their tables.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.records import Journal, Request, Rows, Run, Step, Stored, read_requests, read_runs

ENDED = frozenset({"SUCCESS", "ERROR", "CANCELLED", "REVERTED"})
"""Of executions, tasks and attempts."""
LATE_S = 60
"""A message that is overdue for so long is carried out by nobody."""

Key = tuple[int, int, int]


@dataclass
class Attempt:
    """An attempt as its journal tells it."""

    action: str
    added_at: int
    is_own: bool
    """An executor runs it: it is no sub-workflow, and stands in for nothing."""
    is_safe: bool
    state: str
    result: object = None
    error: str = ""
    ended_at: int = 0
    ends: int = 0
    delivery: int = 0
    handed_out: dict[int, int] = field(default_factory=dict)
    """When each delivery was handed out, by the numbers of changes."""
    taken_back: list[int] = field(default_factory=list)
    """When it was READY again."""


@dataclass
class Verdict:
    """What was found."""

    numbers: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    """What happened more than once, or had no effect, and what the journal says of it."""
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What the rows, the journal, the ledger and the logs tell differently."""

    @property
    def is_good(self) -> bool:
        """Whether all is as it should be."""
        return not (self.doubled or self.lost or self.wrong)

    def summary(self) -> str:
        """The numbers as lines, then what is wrong, each with the id of its execution."""
        numbers = self.numbers
        lines = [
            f"executions  {numbers['executions']} begun, {numbers['executions at rest']} at rest; "
            f"{numbers['executions of clients']} by clients, the others are sub-workflows",
            f"tasks       {numbers['tasks']} begun, {numbers['tasks ended']} ended",
            f"actions     {numbers['actions']} begun, {numbers['actions ended']} ended; handed out "
            f"{numbers['deliveries']} times, ran {numbers['runs']} times",
            f"requests    {numbers['requests']} asked, {numbers['requests done']} done, "
            f"{numbers['requests refused']} refused; each is in its journal once, or not at all",
            f"doubled     {len(self.doubled)}",
            f"lost        {len(self.lost)}",
            f"wrong       {len(self.wrong)}",
            f"explained   {self.explained.total()}",
            *(f"            {count} {what}" for what, count in sorted(self.explained.items()) if count),
        ]
        for word in ("doubled", "lost", "wrong"):
            found: list[str] = getattr(self, word)
            lines += (f"{word}: {each}" for each in found[:20])
            lines += [f"{word}: ... and {len(found) - 20} more"] if len(found) > 20 else []
        return "\n".join(lines)


def check(database: str, folder: Path) -> Verdict:
    """Check what a run has left in a store and in a folder."""
    verdict = Verdict()
    requests, runs = read_requests(folder), read_runs(folder)
    with Stored(database) as stored:
        journals = stored.journals()
        executions = {row["id"]: row for row in stored.rows("SELECT * FROM executions")}
        tasks = stored.rows("SELECT * FROM tasks ORDER BY execution_id, number")
        rows = stored.rows("SELECT execution_id, task, item, attempt, state, delivery FROM attempts")
        late = stored.rows(
            "SELECT execution_id, due_s, event FROM messages"
            f" WHERE due_s < (SELECT max(latest_s) FROM clock) - {LATE_S}"
        )
    attempts = {each: _attempts_of(verdict, each, journal) for each, journal in journals.items()}
    _check_executions(verdict, executions, journals)
    _check_tasks(verdict, tasks, journals, {id for id, row in executions.items() if row["state"] == "SUCCESS"})
    _check_attempts(verdict, attempts, rows)
    _check_runs(verdict, attempts, runs)
    _check_results(verdict, attempts, runs, requests)
    _check_requests(verdict, requests, executions, journals, attempts)
    verdict.lost += (f"{row['execution_id']}: a message is overdue: {row['event'][:100]}" for row in late)
    return verdict


def _changes(journal: Journal) -> Iterable[tuple[int, dict[str, Any]]]:
    """The changes with their numbers."""
    return enumerate((change for step in journal.steps for change in step.changes), journal.first)


def _attempts_of(verdict: Verdict, execution: str, journal: Journal) -> dict[Key, Attempt]:
    """What a journal tells of attempts."""
    found: dict[Key, Attempt] = {}
    for number, change in _changes(journal):
        if change["type"] == "AttemptAdded":
            key = _key(change)
            if key in found:
                verdict.doubled.append(f"{execution}: attempt {key} is added twice")
            is_own = not change.get("child_id") and not change.get("stands_in")
            is_safe = change.get("safe", False)
            found[key] = Attempt(change["action"], number, is_own, is_safe, change["state"])
        elif change["type"] == "AttemptMoved":
            attempt, state = found[_key(change)], change["state"]
            if change.get("delivery"):
                if change["delivery"] != attempt.delivery + 1 or attempt.state != "READY":
                    verdict.doubled.append(f"{execution}: {_key(change)} is handed out while it is {attempt.state}")
                attempt.delivery = change["delivery"]
                attempt.handed_out[attempt.delivery] = number
            if state == "READY":
                attempt.taken_back.append(number)
            if state in ENDED:
                attempt.ends, attempt.ended_at = attempt.ends + 1, number
                attempt.result, attempt.error = change.get("result"), change.get("error", "")
            attempt.state = state
    return found


def _key(change: dict[str, Any]) -> Key:
    task, item, attempt = change["key"]
    return task, item, attempt


def _check_executions(verdict: Verdict, executions: dict[str, Any], journals: dict[str, Journal]) -> None:
    """Each is at rest, and where its journal ends."""
    for id in executions.keys() | journals.keys():
        row, journal = executions.get(id), journals.get(id)
        if row is None or journal is None:
            verdict.wrong.append(f"{id}: {'no row' if row is None else 'no journal'}")
            continue
        verdict.numbers["executions"] += 1
        if row["state"] in ENDED and not row["active_count"]:
            verdict.numbers["executions at rest"] += 1
        else:
            verdict.lost.append(f"{id}: {row['workflow']} is {row['state']} with {row['active_count']} active actions")
        if not journal.is_whole:
            verdict.wrong.append(f"{id}: the journal has gaps")
        if row["revision"] != journal.last:
            verdict.wrong.append(f"{id}: revision {row['revision']}, but the journal ends at {journal.last}")
        moves = [change["state"] for _, change in _changes(journal) if change["type"] == "ExecutionMoved"]
        if not moves or moves[-1] != row["state"]:
            verdict.wrong.append(f"{id}: {row['state']}, but the journal ends with {moves[-1:]}")


def _check_tasks(verdict: Verdict, tasks: Rows, journals: dict[str, Journal], done: set[str]) -> None:
    """Each is where its journal tells, with one success a round, and has ended if its execution is done; of one name
    only one counts."""
    successes: Counter[tuple[str, int]] = Counter()
    rounds: Counter[tuple[str, int]] = Counter()
    states: dict[tuple[str, int], str] = {}
    undone: set[tuple[str, int]] = set()
    for id, journal in journals.items():
        for _, change in _changes(journal):
            match change["type"]:
                case "TaskAdded" | "TaskMoved":
                    states[id, change["task"]] = change["state"]
                    successes[id, change["task"]] += change["state"] == "SUCCESS"
                case "AttemptsBegun":
                    rounds[id, change["task"]] += 1
                case "Restored":
                    undone |= {(id, each) for each in change.get("tasks", ())}
    counted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in tasks:
        key = row["execution_id"], row["number"]
        verdict.numbers["tasks"] += 1
        if row["state"] in ENDED:
            verdict.numbers["tasks ended"] += 1
        elif key[0] in done and not row["superseded_by"]:
            verdict.lost.append(f"{key[0]}: has succeeded, and its task {row['name']} is {row['state']}")
        else:
            verdict.explained["tasks whose execution was cancelled or reverted before they ended"] += 1
        if key not in undone and states.get(key) != row["state"]:
            verdict.wrong.append(f"{key[0]}: task {row['name']} is {row['state']}, in the journal {states.get(key)}")
        if successes[key] > rounds[key]:
            told = f"succeeds {successes[key]} times in {rounds[key]} rounds"
            verdict.doubled.append(f"{key[0]}: task {row['name']} {told}")
        if not row["superseded_by"] and row["state"] != "REVERTED":
            counted[key[0], row["name"]].append(row["number"])
    for (id, name), numbers in counted.items():
        if len(numbers) > 1:
            verdict.doubled.append(f"{id}: task {name} counts {len(numbers)} times, as {numbers}")


def _check_attempts(verdict: Verdict, attempts: dict[str, dict[Key, Attempt]], rows: Rows) -> None:
    """Each has ended, once, before the next one of its item began, and its row says what its journal does."""
    known = {(row["execution_id"], (row["task"], row["item"], row["attempt"])): row for row in rows}
    for id, of_one in attempts.items():
        for key, attempt in of_one.items():
            row = known.pop((id, key), None)
            if row is None or (row["state"], row["delivery"]) != (attempt.state, attempt.delivery):
                verdict.wrong.append(f"{id}: the row of attempt {key} is {row}, the journal has {attempt.state}")
            if attempt.ends > 1:
                verdict.doubled.append(f"{id}: attempt {key} ends {attempt.ends} times")
            if not attempt.ends and attempt.state not in ENDED:
                verdict.lost.append(f"{id}: attempt {key} of {attempt.action} is {attempt.state}")
            before = of_one.get((key[0], key[1], key[2] - 1))
            if before is not None and attempt.added_at < before.ended_at:
                verdict.doubled.append(f"{id}: attempt {key} begins before the one before it has ended")
            if attempt.is_own:
                verdict.numbers["actions"] += 1
                verdict.numbers["actions ended"] += attempt.state in ENDED
                verdict.numbers["deliveries"] += attempt.delivery
    verdict.wrong += (f"{id}: attempt {key} has a row, and is not in the journal" for id, key in known)


def _check_runs(verdict: Verdict, attempts: dict[str, dict[Key, Attempt]], runs: list[Run]) -> None:
    """Nothing runs that was not handed out, no delivery runs twice, and what runs again may."""
    verdict.numbers["runs"] = len(runs)
    by_attempt: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_attempt[run.attempt].append(run)
    arrived = {(run.attempt, run.delivery) for run in runs}
    for id, done in by_attempt.items():
        attempt = _find(attempts, id)
        if attempt is None:
            verdict.wrong.append(f"{id}: has run {len(done)} times, and no journal knows it")
            continue
        for delivery, count in Counter(run.delivery for run in done).items():
            if count > 1:
                verdict.doubled.append(f"{id}: delivery {delivery} of {attempt.action} has run {count} times")
            if delivery not in attempt.handed_out:
                verdict.wrong.append(f"{id}: delivery {delivery} has run, and was never handed out")
        if len(done) > 1 and not attempt.is_safe:
            verdict.doubled.append(f"{id}: {attempt.action} must not run twice within an attempt, and has: {done}")
        elif len(done) > 1 and len(attempt.taken_back) < len(done) - 1:
            verdict.doubled.append(f"{id}: {attempt.action} has run {len(done)} times, and was not taken back between")
        elif len(done) > 1:
            verdict.explained["more runs of actions that are safe to repeat, after a loss"] += len(done) - 1
    for execution, of_one in attempts.items():
        for key, attempt in of_one.items():
            numbers = range(1, attempt.delivery + 1)
            missing = sum((_id(execution, key), each) not in arrived for each in numbers)
            verdict.explained["deliveries that never arrived, and were handed out again or ended"] += missing
            _explain_repeat(verdict, of_one, key)


def _explain_repeat(verdict: Verdict, of_one: dict[Key, Attempt], key: Key) -> None:
    """Why there is another attempt of the same item."""
    before = of_one.get((key[0], key[1], key[2] - 1))
    if before is None or not before.is_own:
        return
    if "was lost" in before.error:
        verdict.explained["further attempts after an executor was lost"] += 1
    elif before.state == "ERROR":
        verdict.explained["further attempts after a failure of the action"] += 1
    elif before.state == "CANCELLED":
        verdict.explained["further attempts after a cancel"] += 1
    else:
        verdict.explained["further attempts by a rerun, a retry of all items, or a revert"] += 1


def _check_results(
    verdict: Verdict, attempts: dict[str, dict[Key, Attempt]], runs: list[Run], requests: list[Request]
) -> None:
    """Each success is one that an action, or a third party, has given; what was given and does not count is told."""
    given = {(run.attempt, _text(run.value)) for run in runs if run.outcome == "succeeded"}
    given |= {(request.about, _text(request.more["value"])) for request in requests if request.kind == "complete"}
    for execution, of_one in attempts.items():
        for key, attempt in of_one.items():
            if not attempt.is_own or attempt.state != "SUCCESS":
                continue
            if (_id(execution, key), attempt.result) not in given:
                verdict.wrong.append(f"{_id(execution, key)}: has the result {attempt.result}, which nobody gave")
    for run in runs:
        found = _find(attempts, run.attempt)
        if found is not None and run.outcome == "succeeded" and found.state != "SUCCESS":
            verdict.explained[f"results of actions that had ended as {found.state} for the engine"] += 1


def _check_requests(
    verdict: Verdict,
    requests: list[Request],
    executions: dict[str, Any],
    journals: dict[str, Journal],
    attempts: dict[str, dict[Key, Attempt]],
) -> None:
    """What was answered is in the journal once, what was refused is not, and each start has the output that it must."""
    cancelled = {each.about for each in requests if each.kind == "cancel" and each.code == "OK"}
    for request in requests:
        verdict.numbers["requests"] += 1
        verdict.numbers["requests done"] += request.code == "OK"
        verdict.numbers["requests refused"] += request.code not in ("OK", "")
        if request.kind == "complete":
            _check_completion(verdict, request, _find(attempts, request.about))
            continue
        journal = journals.get(request.about)
        count = sum(_is_of(step, request) for step in journal.steps) if journal is not None else 0
        if count > 1:
            verdict.doubled.append(f"{request.about}: {request.kind} is in the journal {count} times: {request.id}")
        if request.code == "OK" and not count:
            verdict.lost.append(f"{request.about}: {request.kind} is answered, and not in the journal: {request.id}")
        if request.code not in ("OK", "") and count:
            verdict.wrong.append(f"{request.about}: {request.kind} was refused ({request.told}), and was carried out")
        if request.kind == "start" and request.about in executions:
            verdict.numbers["executions of clients"] += 1
            _check_output(verdict, request, executions[request.about], request.about in cancelled)
    asked = {each.about for each in requests if each.kind == "start"}
    for id, row in executions.items():
        if not row["parent_id"] and id not in asked:
            verdict.wrong.append(f"{id}: nobody has started it")


def _check_completion(verdict: Verdict, request: Request, attempt: Attempt | None) -> None:
    if request.code == "OK" and (attempt is None or attempt.state != "SUCCESS"):
        verdict.lost.append(f"{request.about}: was completed, and is {attempt and attempt.state}: {request.id}")


def _check_output(verdict: Verdict, request: Request, row: dict[str, Any], is_cancelled: bool) -> None:
    if row["state"] == "CANCELLED" and is_cancelled:
        return
    output = json.loads(row["output"]) if row["output"] else None
    if row["state"] not in ENDED:
        return  # it is reported as not at rest
    if row["state"] != "SUCCESS" or output != request.more["expected"]:
        expected = request.more["expected"]
        verdict.wrong.append(f"{request.about}: {row['state']} with {output}, not with {expected}: {row['info']}")


def _is_of(step: Step, request: Request) -> bool:
    return step.comment == request.id and step.event.endswith("requested")


def _id(execution: str, key: Key) -> str:
    return ".".join((execution, *map(str, key)))


def _find(attempts: dict[str, dict[Key, Attempt]], id: str) -> Attempt | None:
    execution, task, item, attempt = id.split(".")
    return attempts.get(execution, {}).get((int(task), int(item), int(attempt)))


def _text(value: object) -> str:
    return json.dumps(value)
