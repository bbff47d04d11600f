"""What the template of isolated actions loads first (isolation.py).

A service manager sends SIGTERM to all processes of a service: the template ignores it, because actions that the worker
waits for end with it. It ends when the worker has ended.
"""

from __future__ import annotations

import signal

import dalsegno.worker.isolation  # noqa: F401 (so that each process has it)

signal.signal(signal.SIGTERM, signal.SIG_IGN)
