"""The standard actions behave as Mistral's do."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from dalsegno.actions import std
from dalsegno.actions.action import DELEGATED, ActionFailed


async def ended(returned: object) -> object:
    """Return the result of an action that may wait."""
    return await returned if inspect.isawaitable(returned) else returned


def test_noop_gives_null() -> None:
    """std.noop returns null."""
    assert std.noop.function() is None


@pytest.mark.parametrize("output", [None, 17, "text", [1, {"a": None}]])
def test_echo_gives_back_what_it_gets(output: object) -> None:
    """std.echo without a delay returns its input at once."""
    assert std.echo(output) == output


@pytest.mark.parametrize("delay", [0.05, "0.05"])
async def test_echo_waits_its_delay(delay: object) -> None:
    """A delay is in seconds; a text with a number is a number."""
    start_s = time.monotonic()

    assert await ended(std.echo.function("late", delay=delay)) == "late"  # type: ignore[arg-type]

    assert time.monotonic() - start_s >= 0.05


@pytest.mark.parametrize("seconds", [0, -5, "nonsense", None, float("nan")])
async def test_a_time_that_is_none_is_no_time(seconds: object) -> None:
    """As in Mistral, a time that is no number is no wait."""
    async with asyncio.timeout(20):
        assert await ended(std.sleep.function(seconds)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "data"), [({}, None), ({"error_data": {"a": 1}}, {"a": 1}), ({"error_data": ""}, None)]
)
def test_fail_fails(given: dict[str, object], data: object) -> None:
    """std.fail fails with Mistral's text, and with the data if given."""
    with pytest.raises(ActionFailed, match=r"^Fail action expected exception\.$") as failure:
        std.fail.function(**given)

    assert failure.value.result == data


def test_test_dict_makes_numbered_keys() -> None:
    """Keys are numbered from 0, and all have the same value."""
    assert std.make_test_dict(size=3, key_prefix="k", val=7) == {"k0": 7, "k1": 7, "k2": 7}
    assert std.make_test_dict() == {}


def test_a_dict_that_no_result_can_hold_is_not_made() -> None:
    """A dict beyond the limit of a result is refused before it takes memory."""
    with pytest.raises(ActionFailed, match="result too large: 1,000,000,000 keys"):
        std.make_test_dict(size=1_000_000_000)


def test_async_noop_delegates() -> None:
    """std.async_noop is completed by another program."""
    assert std.async_noop() is DELEGATED
