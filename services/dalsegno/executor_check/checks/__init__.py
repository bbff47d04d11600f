"""All checks, in the order in which they are played: those that end the executor are the last."""

from __future__ import annotations

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.checks import breaking, deciding, ending, hello, running

CHECKS: tuple[Check, ...] = (*hello.CHECKS, *running.CHECKS, *deciding.CHECKS, *breaking.CHECKS, *ending.CHECKS)
