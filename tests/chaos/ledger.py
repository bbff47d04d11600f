"""What clients have asked for and what they were answered: the truth that the store must agree with."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path


class Ledger:
    """A file of JSON lines: one before a request is sent, and one when there is an answer that is final."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)
        self._began_s = time.monotonic()
        self.counts: Counter[str] = Counter()
        """How many requests of each kind were answered well, and refused."""

    def asked(self, request: str, kind: str, execution: str, **more: object) -> None:
        """Note a request, which may now be sent."""
        self._write({"request": request, "kind": kind, "execution": execution, **more})

    def answered(self, request: str, kind: str, code: str, told: str = "") -> None:
        """Note the final answer."""
        self.counts[kind if code == "OK" else f"{kind} refused"] += 1
        self._write({"request": request, "code": code, "told": told})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps({**line, "at_s": round(time.monotonic() - self._began_s, 3)}) + "\n")
