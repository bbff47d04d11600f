"""Options choose executions and become a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dalsegno.cli.exits import CommandError
from dalsegno.cli.filters import executions_filter
from dalsegno.store.filters import EXECUTION_FIELDS, parse_filter
from dalsegno.v1 import execution_service_pb2

Type = Callable[..., Any]
ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"


@pytest.mark.parametrize(
    ("options", "filter"),
    [
        ({}, "parent="),
        ({"with_children": True}, ""),
        ({"filter": "state=ERROR"}, "state=ERROR parent="),
        ({"filter": f"root={ID}"}, f"root={ID}"),
        ({"filter": f"state=ERROR parent={ID}"}, f"state=ERROR parent={ID}"),
        ({"filter": "id=*1e6b47"}, "id=*1e6b47"),
        ({"states": ["ERROR", "paused"], "with_children": True}, 'state="ERROR","paused"'),
        ({"workflows": ["harbour.*", "x y"], "with_children": True}, 'workflow="harbour."*,"x y"'),
        ({"since": "2h30m"}, "created>=-2h30m parent="),
        ({"since": "2026-01-31"}, 'created>="2026-01-31" parent='),
        ({"labels": ["team=red", "stage=a b"], "with_children": True}, 'label.team="red" label.stage="a b"'),
        ({"namespace": "shop", "with_children": True}, 'namespace="shop"'),
    ],
)
def test_options_become_terms(options: dict[str, Any], filter: str) -> None:
    """Executions that others started are left out by default; the server can read every filter."""
    assert executions_filter(**options) == filter
    parse_filter(filter, EXECUTION_FIELDS)


@pytest.mark.parametrize("since", ["yesterday", "2", "-1h", "1.5h"])
def test_an_age_that_is_none(since: str) -> None:
    """A wrong age is refused with the units."""
    with pytest.raises(CommandError, match="neither an age nor a time"):
        executions_filter(since=since)


def test_list_sends_what_was_typed(api: Any, type_command: Type) -> None:
    """All options together become one filter."""
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse())
    words = ["--state", "ERROR", "--workflow", "w", "--since", "1d", "--label", "team=red", "-f", "ended>=-1h"]
    assert type_command("list", *words, "-s", api.address).exit_code == 0
    assert type_command("list", "--all", "-s", api.address).exit_code == 0
    assert [request.filter for request in api.requests] == [
        'ended>=-1h state="ERROR" workflow="w" created>=-1d label.team="red" parent=',
        "",
    ]
