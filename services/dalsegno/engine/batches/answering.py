"""Answers the callers of works that have ended, on the event loop. A caller that fails harms no other."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dalsegno.engine.batches.results import Committed, Failed, Result

_log = logging.getLogger(__name__)


def answer(result: Result) -> None:
    """Tell the callers what their works have come to."""
    if isinstance(result, Failed):
        call_back(result.work.failed, result.error)
    elif isinstance(result, Committed):
        for work in result.works:
            call_back(work.done)


def call_back(function: Callable[..., None], *arguments: object) -> None:
    """Call a function. Log what goes wrong there."""
    try:
        function(*arguments)
    except Exception:
        _log.exception("a callback failed")
