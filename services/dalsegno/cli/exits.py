"""How a command ends: its exit code, and the error that it prints."""

from __future__ import annotations

from dalsegno.v1 import execution_pb2

SUCCESS = 0
ERROR = 1
"""The execution (or action) ended in ERROR."""
USAGE = 2
"""The command, or its request, was wrong: nothing was done."""
CANCELLED = 3
PAUSED = 4
UNREACHABLE = 5
"""The server could not be reached, or has an internal error."""
INTERRUPTED = 130
"""Ctrl-C, with the number that shells use."""

_EXIT_CODES = {
    execution_pb2.EXECUTION_STATE_SUCCESS: SUCCESS,
    execution_pb2.EXECUTION_STATE_CANCELLED: CANCELLED,
    execution_pb2.EXECUTION_STATE_CANCELLING: CANCELLED,
    execution_pb2.EXECUTION_STATE_PAUSED: PAUSED,
    execution_pb2.EXECUTION_STATE_PAUSING: PAUSED,
}


class CommandError(Exception):
    """An error of the user, with advice. It is printed without a traceback."""

    def __init__(self, message: str, advice: str = "", exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.advice = advice
        self.exit_code = exit_code


def exit_code_of(state: execution_pb2.ExecutionState.ValueType) -> int:
    """Return the exit code for the state of an execution.

    >>> exit_code_of(execution_pb2.EXECUTION_STATE_PAUSED)
    4
    """
    return _EXIT_CODES.get(state, ERROR)
