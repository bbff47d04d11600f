"""Logs on a terminal."""

from __future__ import annotations

import logging

from dalsegno.rpc.logs import TerminalLines


def test_nothing_that_is_logged_is_obeyed_by_a_terminal() -> None:
    """Names and errors from others are escaped in the lines for a terminal, and begin no line."""
    record = logging.makeLogRecord({"msg": "failed é", "levelname": "ERROR", "reason": "a\x1b[2Jb\nforged\u202e"})

    line = TerminalLines("engine").format(record)

    assert line.endswith(r"engine ERROR failed é reason=a\x1b[2Jb\nforged\u202e")
    assert "\n" not in line
