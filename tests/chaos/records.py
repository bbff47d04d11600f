"""What a run of the chaos has left, as plain records: the store's rows and journal, the actions' own logs, and the
clients' ledger.

It shares no code with the services: plain SQL and JSON, so that an error of theirs is no error of the checker's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

LEDGER = "ledger.jsonl"

Rows = list[dict[str, Any]]


@dataclass
class Run:
    """One run of an action, as the action itself wrote it down."""

    attempt: str
    """The id of the action execution."""
    delivery: int
    action: str
    is_safe: bool
    process: int
    outcome: str = ""
    """Empty: it was killed."""
    value: object = None

    @property
    def execution(self) -> str:
        """The id of the execution."""
        return self.attempt.partition(".")[0]


@dataclass
class Request:
    """What a client asked for, and the final answer; without one, nobody knows whether it was carried out."""

    id: str
    kind: str
    about: str
    """The id of the execution, or of the action execution."""
    code: str = ""
    told: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Step:
    """A journal entry: an event, and the changes that it made."""

    event: str
    comment: str
    changes: list[dict[str, Any]]


@dataclass
class Journal:
    """The journal of an execution."""

    first: int
    last: int
    is_whole: bool
    """Whether its rows follow one another, and each has as many changes as it says."""
    steps: list[Step] = field(default_factory=list)


class Stored:
    """The store. Use it with `with`."""

    def __init__(self, url: str) -> None:
        """`url`: sqlite:///PATH, or anything that libpq understands."""
        path = url.removeprefix("sqlite:///")
        self._connection: Any = psycopg.connect(url) if path == url else sqlite3.connect(path)

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rows(self, query: str) -> Rows:
        """All rows of a query, by the names of its columns."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query)
            names = [each[0] for each in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def journals(self) -> dict[str, Journal]:
        """The journals, by the ids of their executions."""
        found: dict[str, Journal] = {}
        for row in self.rows("SELECT * FROM journal ORDER BY execution_id, last"):
            changes, entries = json.loads(row["changes"]), json.loads(row["entries"])
            journal = found.get(row["execution_id"])
            follows = row["first"] == (1 if journal is None else journal.last + 1)
            counts = row["last"] - row["first"] + 1 == len(changes) == sum(each[4] for each in entries)
            if journal is None:
                journal = found[row["execution_id"]] = Journal(row["first"], 0, True)
            journal.last, journal.is_whole = row["last"], journal.is_whole and follows and counts
            at = 0
            for event, _, _, comment, count, *_ in entries:
                journal.steps.append(Step(event, comment, changes[at : at + count]))
                at += count
        return found


def read_runs(folder: Path) -> list[Run]:
    """Return all runs that the actions have noted, in the order of their beginning in each log."""
    found: list[Run] = []
    for path in sorted(folder.glob("*.jsonl")):
        if path.name == LEDGER:
            continue
        open_runs: dict[tuple[str, int, int], Run] = {}
        for line in _lines(path):
            key = line["attempt"], line["delivery"], line["process"]
            if line["what"] == "begin":
                run = open_runs[key] = Run(line["attempt"], line["delivery"], line["action"], line["safe"], key[2])
                found.append(run)
            else:
                run = open_runs[key]
                run.outcome, run.value = line["outcome"], line.get("value")
    return found


def read_requests(folder: Path) -> list[Request]:
    """Return what clients have asked for."""
    found: dict[str, Request] = {}
    for line in _lines(folder / LEDGER):
        if "kind" in line:
            known = {"request", "kind", "execution"}
            more = {name: value for name, value in line.items() if name not in known}
            found[line["request"]] = Request(line["request"], line["kind"], line["execution"], more=more)
        else:
            found[line["request"]].code, found[line["request"]].told = line["code"], line["told"]
    return list(found.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file. One that is torn was being written when its process was killed."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
