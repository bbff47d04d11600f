"""Reads tests/permissions.md: who may call what, as people have written it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("permissions.md")


class Row(NamedTuple):
    """One method."""

    role: str
    scope: str
    service: str
    method: str


def written_rows() -> list[Row]:
    """Return the rows of the page, one for each method."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    found = []
    for line in lines:
        role, scope, service, methods = (cell.strip() for cell in line.strip("|").split("|"))
        found += [Row(role, scope, service, method) for method in methods.split(", ")]
    return found
