"""Logs: one line per event, as JSON unless the output is a terminal.

Facts go into `extra`: `logger.info("committed", extra={"execution": id, "revision": 7})`. The request id of the call
being served is added to each line automatically.
"""

from __future__ import annotations

import datetime
import logging
import sys
from contextvars import ContextVar
from typing import TextIO

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request id of the call that this task serves; empty outside of calls."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(service: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error if none is given), JSON unless it is a terminal. Replaces an earlier set-up.

    Raises ValueError for a level that logging does not know.
    """
    stream = stream if stream is not None else sys.stderr
    outlet = _Outlet(stream)
    outlet.setFormatter(TerminalLines(service) if stream.isatty() else JsonLines(service))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(outlet)
    root.setLevel(level.upper())
    # Not needed in any line, and slow: the position in the source, threads and processes.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs its plug-ins at every start
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_fault)


class _Outlet(logging.StreamHandler[TextIO]):
    """Writes lines. It drops a line that it cannot write: where the disk is full, there is no room for an error about
    it either."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore an error of the file; logging handles all other errors. logging calls this in its `except`."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def is_fault(record: logging.LogRecord) -> bool:
    """Return whether what grpc logs is to be seen. An answer that cannot be written, because its client has just left,
    is none: grpc logs it as an error with a traceback unless it knows already that the client has left. The call has a
    line of its own."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, service, logger, message, then the facts."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, object] = {
            "time": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


class TerminalLines(logging.Formatter):
    """`12:30:01.250 engine INFO committed execution=... revision=7`"""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        facts = "".join(f" {key}={value}" for key, value in _facts(record).items())
        moment = _moment(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        line = _shown(f"{moment} {self._service} {record.levelname} {record.getMessage()}{facts}")
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([line, *map(_shown, trace)])


def _shown(text: str) -> str:
    """Return the text with escapes for characters that control a terminal: names in it are not trusted."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _moment(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    facts: dict[str, object] = {}
    for key, value in record.__dict__.items():
        if key in _STANDARD or value is None or value == "":
            continue
        if isinstance(value, str) and not value.isascii():
            # A lone surrogate in a name from outside must not make the line fail.
            value = value.encode("utf-8", "backslashreplace").decode()
        facts[key] = value
    if "request_id" not in facts and (current := request_id.get()):
        facts["request_id"] = current
    return facts
