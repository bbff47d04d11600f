"""Run `dalsegno` at a fixed time, for the golden files: `python on_a_pty.py NOW_S WORDS...`."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from dalsegno.cli import lines, main, times, tree, watching

now_s = float(sys.argv[1])
clock = SimpleNamespace(time=lambda: now_s, monotonic=lambda: 0.0)
for module in (times, tree, watching, lines):
    if hasattr(module, "time"):
        vars(module)["time"] = clock
sys.argv = ["dalsegno", *sys.argv[2:]]
main.main()
