"""Run a module of the services with a clock that a test sets while it runs.

    python tests/settable_clock.py FILE dalsegno.engine --listen ...

Its clock shows the time plus the seconds in FILE, and so does that of its PostgreSQL. Monotonic clocks are unchanged.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def main() -> None:
    """Run the module that the second argument names, with the file of the first one."""
    file, module = Path(sys.argv[1]), sys.argv[2]
    del sys.argv[1:3]
    real = time.time

    def set_by_s() -> float:
        return float(file.read_text() or 0)

    time.time = lambda: real() + set_by_s()

    from dalsegno.store.transaction import SqlTransaction

    stores = SqlTransaction.now_s

    def now_s(self: SqlTransaction) -> float:
        return stores(self) + (0 if self._statements.now is None else set_by_s())

    SqlTransaction.now_s = now_s  # type: ignore[method-assign]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
