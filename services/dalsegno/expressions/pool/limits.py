"""What one job may take, and how many processes there are: together they stay below a gigabyte."""

from __future__ import annotations

import os
from dataclasses import dataclass

PROCESSOR_S = 1.0
"""Seconds of processor time for one evaluation."""
CLOCK_S = 10.0
"""Seconds that it may take by the clock."""
STARVED_S = 50.0
"""Seconds that it has beyond that while it does nothing but wait for a processor, which others have."""
MEMORY_MIB = 300
"""Address space of an evaluation process, some 45 MiB for Python and the libraries included."""
MEMORY_LEAST_MIB = 160
POOL_MIB = 800
"""Address space of all evaluation processes together."""
MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest answer in either direction."""
EXIT_MEMORY = 75
"""The exit code of a process that needs more memory than it may have."""
QUESTIONS_MAX = 10_000
"""So many different questions may one job ask: each takes the time of the process that answers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a job."""

    processor_s: float = PROCESSOR_S
    clock_s: float = CLOCK_S
    memory_mib: int = MEMORY_MIB
    starved_s: float = STARVED_S


def processes_of_machine() -> int:
    """As many evaluation processes as there are cores for this process, while they have memory enough each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, POOL_MIB // MEMORY_LEAST_MIB))


def limits_of_evaluations(processes: int) -> Limits:
    """The limits of an evaluation where there are so many processes."""
    return Limits(memory_mib=max(MEMORY_LEAST_MIB, min(MEMORY_MIB, POOL_MIB // max(1, processes))))
