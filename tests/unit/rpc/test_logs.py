"""Logs: what a terminal is shown, and what is left out."""

from __future__ import annotations

import logging

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from dalsegno.rpc.logs import TerminalLines, is_fault


def test_nothing_that_is_logged_is_obeyed_by_a_terminal() -> None:
    """Names and errors from others are escaped in the lines for a terminal, and begin no line."""
    record = logging.makeLogRecord({"msg": "failed é", "levelname": "ERROR", "reason": "a\x1b[2Jb\nforged\u202e"})

    line = TerminalLines("engine").format(record)

    assert line.endswith(r"engine ERROR failed é reason=a\x1b[2Jb\nforged\u202e")
    assert "\n" not in line


@pytest.mark.parametrize(("error", "is_seen"), [(cygrpc.ExecuteBatchError, False), (cygrpc.InternalError, True)])
def test_a_client_that_leaves_just_before_its_answer_is_no_fault(error: type[Exception], is_seen: bool) -> None:
    """The library logs a traceback then, which says nothing to an operator; other faults in it are seen. (Found by
    scripts/fuzz.)"""
    record = logging.makeLogRecord({"msg": "raised in core", "exc_info": (error, error("failed"), None)})
    assert is_fault(record) is is_seen
    assert is_fault(logging.makeLogRecord({"msg": "something else"}))
