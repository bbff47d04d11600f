"""tests/attacks.md, the page of attacks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_attack_of_the_page_has_its_test() -> None:
    """The page lists at least 30 attacks, each with a test that exists."""
    rows = re.findall(r"^\| \d+ \| .* \| `([\w/]+\.py)::(\w+)` \|$", (ROOT / "tests" / "attacks.md").read_text(), re.M)
    assert len(rows) >= 30
    for file, name in rows:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {getattr(node, "name", "") for node in ast.walk(tree)}, f"{file} has no {name}"
