"""Translate the options that select executions to a filter of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from dalsegno.cli.completion import complete_execution, complete_state, complete_workflow
from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import read_labels

States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="STATE", help="In this state, such as ERROR. Repeatable.", autocompletion=complete_state
    ),
]
OfWorkflow = Annotated[
    list[str] | None,
    typer.Option(
        "--workflow",
        metavar="NAME",
        help="Of this workflow; name* for a prefix. Repeatable.",
        autocompletion=complete_workflow,
    ),
]
Since = Annotated[
    str, typer.Option("--since", metavar="AGE|TIME", help="Created within this age: 30m, 2h, 7d; or since this time.")
]
OfLabels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="With this label. Repeatable.")
]
OfOrigin = Annotated[
    str,
    typer.Option(
        "--forked-from",
        metavar="EXECUTION",
        help="Forked from this execution (`rerun --from-checkpoint`).",
        autocompletion=complete_execution,
    ),
]

_AGE = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_OF_SOME = re.compile(r"(?:^|\s)(?:id|parent|root)!?=")


def executions_filter(
    filter: str = "",
    *,
    states: Sequence[str] | None = None,
    workflows: Sequence[str] | None = None,
    since: str = "",
    labels: Sequence[str] | None = None,
    forked_from: str = "",
    namespace: str = "",
    with_children: bool = False,
) -> str:
    """Return the filter with a term for each option. Without `with_children`, and without a term about ids, parents or
    roots, it excludes sub-workflows."""
    terms = [filter] if filter else []
    if states:
        terms.append(f"state={_values(states)}")
    if workflows:
        terms.append(f"workflow={_values(workflows)}")
    if since:
        terms.append(f"created>={read_moment(since, '--since')}")
    terms += [f"label.{name}={_value(value)}" for name, value in read_labels(labels or ()).items()]
    if forked_from:
        terms.append(f"forked_from={_value(forked_from)}")
    if namespace:
        terms.append(f"namespace={_value(namespace)}")
    if not with_children and not _OF_SOME.search(filter):
        terms.append("parent=")
    return " ".join(terms)


def read_moment(text: str, option: str) -> str:
    """Return the time for a filter, from an age such as 2h30m or a time in ISO 8601. Raises CommandError."""
    if _AGE.fullmatch(text):
        return f"-{text}"
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return _value(text)
    raise CommandError(
        f"{option} {text}: neither an age nor a time", f"for instance {option} 2h30m, or {option} 2026-01-31T08:00:00Z"
    )


def _values(values: Sequence[str]) -> str:
    return ",".join(_value(value) for value in values)


def _value(text: str) -> str:
    """Return a value in quotation marks; a star at its end stays outside of them, where it matches any text."""
    if text.endswith("*"):
        return f"{json.dumps(text[:-1], ensure_ascii=False)}*"
    return json.dumps(text, ensure_ascii=False)
