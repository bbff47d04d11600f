"""`covered.py MODULE ARGUMENT...`: become a Python that runs the module and measures which of its lines run."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    measured = ("-m", "coverage", "run", "--parallel-mode", "--branch", "--source=dalsegno", "-m")
    os.execv(sys.executable, [sys.executable, *measured, *sys.argv[1:]])
