"""The limits of one job, and the number of processes: together they use less than a gigabyte."""

from __future__ import annotations

import os
from dataclasses import dataclass

PROCESSOR_S = 1.0
"""Seconds of processor time for one evaluation."""
CLOCK_S = 10.0
"""Seconds of elapsed time for one evaluation."""
STARVED_S = 50.0
"""Additional seconds while it only waits for a processor."""
MEMORY_MIB = 300
"""Address space of an evaluation process, including some 45 MiB for Python and the libraries."""
MEMORY_LEAST_MIB = 160
POOL_MIB = 800
"""Address space of all evaluation processes together."""
MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest answer in either direction."""
EXIT_MEMORY = 75
"""The exit code of a process that exceeds its memory limit."""
QUESTIONS_MAX = 10_000
"""The maximum number of different questions of one job: each takes time of the process that answers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that end a job."""

    processor_s: float = PROCESSOR_S
    clock_s: float = CLOCK_S
    memory_mib: int = MEMORY_MIB
    starved_s: float = STARVED_S


def processes_of_machine() -> int:
    """Return the number of evaluation processes: that of this process's cores, unless their memory is too small."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, POOL_MIB // MEMORY_LEAST_MIB))


def limits_of_evaluations(processes: int) -> Limits:
    """Return the limits of an evaluation for this number of processes."""
    return Limits(memory_mib=max(MEMORY_LEAST_MIB, min(MEMORY_MIB, POOL_MIB // max(1, processes))))
