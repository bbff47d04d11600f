"""Where the recorded cases are.

Those that were written for this project are in `cases/` beside this file. The others are test data of Mistral and
Orquesta: they stay outside of the repository, in ../shared/conformance or in the folder that DALSEGNO_CONFORMANCE
names, and whoever runs the cases says so when they are absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Case = dict[str, Any]

FILES = ("mistral/cases.jsonl", "mistral/operations.jsonl", "orquesta/cases.jsonl", "orquesta/operations.jsonl")
OWN_FOLDER = Path(__file__).with_name("cases")
OWN_SOURCES = {"hand-written probe", "probe", "scenario"}
"""The values of `source` of the cases that were written for this project."""


def others_folder() -> Path:
    """DALSEGNO_CONFORMANCE, or ../shared/conformance beside the checkout. Whether it exists is not checked."""
    default = Path(__file__).resolve().parents[3] / "shared" / "conformance"
    return Path(os.environ.get("DALSEGNO_CONFORMANCE") or default)


def absence() -> str:
    """Say which cases are not here; "" when all are."""
    folder = others_folder()
    absent = [name for name in FILES if not (folder / name).exists()]
    if not absent:
        return ""
    names = ", ".join(absent)
    return (
        f"Only the project's own cases are here: the test data of Mistral and Orquesta ({names}) is not in {folder}. "
        "Name its folder in DALSEGNO_CONFORMANCE."
    )


def load(name: str) -> list[Case]:
    """Return the cases of one file, each once, without those that have a quirk: first ours, then the others.

    Raises FileNotFoundError when ours are absent.
    """
    cases = [json.loads(line) for line in read_lines(OWN_FOLDER / name)]
    others = others_folder() / name
    if others.exists():
        cases += [case for line in read_lines(others) if not is_own(case := json.loads(line))]
    return [case for case in cases if "quirk" not in case]


def select_own(lines: Iterable[str]) -> list[str]:
    """Return the lines with cases that were written for this project, unchanged."""
    return [line for line in lines if is_own(json.loads(line))]


def is_own(case: Case) -> bool:
    """Whether the case was written for this project."""
    return case["source"] in OWN_SOURCES


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file of cases that are not empty."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
