"""The Python SDK for executors: write actions, run them for engines, test them without one (testing.py).

from dalsegno.worker import Worker, action
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dalsegno.actions.action import (
    DELEGATED,
    ActionCancelled,
    ActionContext,
    ActionFailed,
    Delegated,
    action,
)
from dalsegno.actions.limits import Limits

if TYPE_CHECKING:
    from dalsegno.worker.worker import Worker

__all__ = [
    "DELEGATED",
    "ActionCancelled",
    "ActionContext",
    "ActionFailed",
    "Delegated",
    "Limits",
    "Worker",
    "action",
]


def __getattr__(name: str) -> object:
    # gRPC is imported with Worker only: modules of actions are also loaded where no worker runs.
    if name == "Worker":
        from dalsegno.worker.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
