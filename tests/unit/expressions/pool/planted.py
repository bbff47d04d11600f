"""Functions for expressions and for calls that do what no real one may do. The template of the tests has them."""

from __future__ import annotations

import ctypes
import os
import time

from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import builtin

MODULE = __name__


@builtin("planted_pid", least=0, function=True)
def _pid(frame: Frame) -> object:
    return os.getpid()


@builtin("planted_nice", least=0, function=True)
def _nice(frame: Frame) -> object:
    return os.nice(0)


@builtin("planted_abort", least=0, function=True)
def _abort(frame: Frame) -> object:
    os.abort()


@builtin("planted_segv", least=0, function=True)
def _segv(frame: Frame) -> object:
    return ctypes.string_at(0)


@builtin("planted_sleep", function=True)
def _sleep(frame: Frame, duration_s: float) -> object:
    time.sleep(duration_s)
    return duration_s


@builtin("planted_span", function=True)
def _span(frame: Frame, duration_s: float) -> object:
    """Sleep, and return when that began and ended, by the clock that all processes share."""
    begun_s = time.monotonic()
    time.sleep(duration_s)
    return [begun_s, time.monotonic()]


@builtin("planted_meeting", least=2, most=2, function=True)
def _meeting(frame: Frame, folder: str, size: int) -> object:
    """Wait until so many processes are here at once, and return this one's id. It ends with the time of the job."""
    open(f"{folder}/{os.getpid()}", "w").close()
    while len(os.listdir(folder)) < size:
        time.sleep(0.01)
    return os.getpid()


@builtin("planted_busy", function=True)
def _busy(frame: Frame, duration_s: float) -> object:
    """Uses so many seconds of processor time, however long that takes."""
    ends_s = time.process_time() + duration_s
    while time.process_time() < ends_s:
        pass
    return duration_s


@builtin("planted_memory", function=True)
def _memory(frame: Frame, size_mib: int) -> object:
    """Uses so much memory for a moment."""
    return len(b"x" * (size_mib * 1024 * 1024))


@builtin("planted_text", function=True)
def _text(frame: Frame, length: int) -> object:
    return "x" * length


@builtin("planted_unfit", function=True)
def _unfit(frame: Frame, kind: str) -> object:
    """What JSON cannot carry here."""
    return {"surrogate": "\ud800", "nul": "a\0", "long": 10**5000}[kind]


@builtin("planted_fault", function=True)
def _fault(frame: Frame, text: str) -> object:
    """Fails with a text that no message can carry."""
    raise ValueError(f"{text} \ud800\0")


def reverse(data: bytes) -> bytes:
    """The bytes the other way round."""
    return data[::-1]


def show_process(data: bytes) -> bytes:
    """The process id and the niceness, after so many seconds."""
    time.sleep(float(data or b"0"))
    return b"%d %d" % (os.getpid(), os.nice(0))


def wait_for_file(path: bytes) -> bytes:
    """Wait until a file exists, and return the process id, and when the wait began and ended. Who wants to know that it
    has begun finds a file with the process id after the name."""
    begun_s = time.monotonic()
    open(b"%s.%d" % (path, os.getpid()), "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return b"%d %f %f" % (os.getpid(), begun_s, time.monotonic())


def fail(data: bytes) -> bytes:
    """Raises."""
    raise ValueError(data.decode())


def crash(data: bytes) -> bytes:
    """Ends the process."""
    os.abort()


def take(data: bytes) -> bytes:
    """Takes so many MiB of memory."""
    return b"%d" % len(b"x" * (int(data) * 1024 * 1024))


def give_text(data: bytes) -> bytes:
    """Gives no bytes."""
    return data.decode()  # type: ignore[return-value]


def double(data: bytes) -> bytes:
    """The bytes twice."""
    return data + data
