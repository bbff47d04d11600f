"""The standard family, with the parameters and results of Mistral."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from dalsegno.actions.action import DELEGATED, ActionFailed, Delegated, action
from dalsegno.workflow.value import VALUE_BYTES_MAX

R = TypeVar("R")


@action("std.noop", safe_to_rerun=True, blocking=False)
def noop() -> None:
    """Do nothing."""


@action("std.echo", safe_to_rerun=True, blocking=False, typed=False)
def echo(output: object, delay: float = 0) -> object:
    """Return `output` after `delay` seconds."""
    wait_s = _seconds(delay)
    return _after(wait_s, output) if wait_s > 0 else output


@action("std.fail", safe_to_rerun=True, blocking=False)
def fail(error_data: object = None) -> None:
    """Fail, with `error_data` as the data of the failure if it is given."""
    raise ActionFailed("Fail action expected exception.", error_data or None)


@action("std.sleep", safe_to_rerun=True, blocking=False, typed=False)
def sleep(seconds: float = 1) -> Awaitable[None]:
    """Wait for `seconds`."""
    return _after(_seconds(seconds), None)


@action("std.test_dict", safe_to_rerun=True, typed=False)
def make_test_dict(size: int = 0, key_prefix: str = "", val: object = "") -> dict[str, object]:
    """Return a dict of `size` keys, `key_prefix` and a number from 0, all with the value `val`."""
    if int(size) > VALUE_BYTES_MAX:  # each takes more than a byte, and making them may take all memory there is
        raise ActionFailed(f"result too large: {int(size):,} keys, at most {VALUE_BYTES_MAX:,} bytes")
    return {f"{key_prefix}{number}": val for number in range(int(size))}


@action("std.async_noop", safe_to_rerun=True, blocking=False)
def async_noop() -> Delegated:
    """Do nothing; a third party completes the action."""
    return DELEGATED


async def _after(wait_s: float, result: R) -> R:
    await asyncio.sleep(wait_s)
    return result


def _seconds(given: object) -> float:
    """As Mistral: what is not a number waits not at all; a text with a number in it is one."""
    try:
        return max(0.0, float(given))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
