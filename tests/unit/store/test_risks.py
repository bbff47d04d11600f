"""How what PostgreSQL has confirmed may be lost is told."""

from __future__ import annotations

import pytest

from dalsegno.store.postgres import risk_of


@pytest.mark.parametrize(
    ("commit", "standbys", "hosts", "told"),
    [
        ("on", "", 1, ""),
        ("on", "*", 2, ""),
        ("on", "", 2, "no standby is synchronous"),
        ("off", "*", 1, "synchronous_commit is off"),
        ("local", "*", 2, "synchronous_commit is local"),
    ],
)
def test_only_what_was_not_intended_is_named(commit: str, standbys: str, hosts: int, told: str) -> None:
    """A single server without a standby is a choice; several without a synchronous one are a mistake."""
    found = risk_of(commit, standbys, hosts=hosts)
    assert found.startswith(told)
    assert bool(found) == bool(told)
