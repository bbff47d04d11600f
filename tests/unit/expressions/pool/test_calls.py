"""Functions that are called in processes of their own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import most_at_once, yaql
from tests.unit.expressions.pool.family import is_alive, until

from dalsegno.expressions.pool.pool import CallFailed, Pool

pytestmark = pytest.mark.xdist_group("pool-calls")


def function(name: str) -> str:
    """How a planted function is called."""
    return f"{planted.MODULE}:{name}"


@pytest.mark.parametrize("argument", [b"", b"abc", b"a\nb\n\0", bytes(range(256)) * 40_000])
def test_a_function_of_bytes(pool: Pool, argument: bytes) -> None:
    """Any bytes, as many as there are, come back as the function gives them."""
    assert pool.call(function("reverse"), argument, shown="reversing").result(60) == argument[::-1]


@pytest.mark.parametrize(
    ("name", "argument", "cause"),
    [
        ("fail", b"oh", "ValueError: oh"),
        ("crash", b"", r"its process crashed \(SIGABRT, with \d+ of 100 MiB of memory\)"),
        ("take", b"200", "it needs more than 100 MiB of memory"),
        ("show_process", b"60", r"it takes more than 0\.5 s"),
        ("give_text", b"a", f"TypeError: {planted.MODULE}:give_text gives no bytes but str"),
        ("missing", b"", f"AttributeError: module '{planted.MODULE}' has no attribute 'missing'"),
    ],
)
def test_a_call_that_fails(pool: Pool, name: str, argument: bytes, cause: str) -> None:
    """It says what was called and why it gave nothing; the next call is well."""
    limit_s = 0.5 if name == "show_process" else 60.0  # on a busy machine the others may need more than that
    with pytest.raises(CallFailed, match=f"^this: {cause}$"):
        pool.call(function(name), argument, shown="this", limit_s=limit_s, memory_mib=100).result(60)
    assert pool.call(function("reverse"), b"ab", shown="this").result(60) == b"ba"


def test_a_call_that_gives_too_much_fails(pool: Pool) -> None:
    """Nothing longer than 64 MiB comes back, or is sent."""
    much = b"x" * (64 * 1024 * 1024 - 100)
    assert len(pool.call(function("reverse"), much, shown="this", memory_mib=1_000).result(60)) == len(much)
    with pytest.raises(CallFailed, match="this: it gives more than 64 MiB"):
        pool.call(function("double"), much, shown="this", memory_mib=1_000).result(60)
    with pytest.raises(CallFailed, match="this: it gives or asks for more than 64 MiB"):
        pool.call(function("reverse"), much + much, shown="this").result(60)


def test_only_what_was_imported_is_called(pool: Pool) -> None:
    """A pool calls functions of the modules that it was told of."""
    with pytest.raises(ValueError, match="the pool has not imported the module of os:abort"):
        pool.call("os:abort", b"", shown="this")


def test_calls_take_no_process_from_evaluations(pool: Pool, tmp_path: Path) -> None:
    """Expressions have their values while more calls run than there are processes for calls."""
    gate = tmp_path / "gate"
    calls = [pool.call(function("wait_for_file"), bytes(gate), shown="this") for _ in range(4)]
    until(lambda: len(list(tmp_path.glob("gate.*"))) == 2)
    assert [pool.evaluate(yaql("1 + 1")) for _ in range(10)] == [2] * 10
    assert not any(call.done() for call in calls)
    gate.touch()
    answers = [call.result(60).split() for call in calls]
    assert most_at_once([(float(begun_s), float(ended_s)) for _, begun_s, ended_s in answers]) == 2
    pids = [pid for pid, _, _ in answers]
    assert len(set(pids)) == 4
    until(lambda: not any(is_alive(int(pid)) for pid in pids))


async def test_a_call_is_awaited_and_cancelled(pool: Pool) -> None:
    """Its process ends with it, so that the next call has its place."""
    assert await asyncio.wrap_future(pool.call(function("reverse"), b"ab", shown="this")) == b"ba"
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.gather(
                    *(asyncio.wrap_future(pool.call(function("show_process"), b"60", shown="this")) for _ in range(3))
                )
    assert await asyncio.wrap_future(pool.call(function("reverse"), b"ab", shown="this")) == b"ba"


def test_a_pool_may_be_for_calls_only() -> None:
    """Then it has no process that waits for an evaluation, and so many calls at once as it was told."""
    pool = Pool(0, calls=1, modules=[planted.MODULE])
    try:
        began_s = time.monotonic()
        calls = [pool.call(function("show_process"), b"0.3", shown="this") for _ in range(3)]
        assert len({call.result(60).split()[0] for call in calls}) == 3
        assert time.monotonic() - began_s > 0.9
        with pytest.raises(ValueError, match="no processes for this kind of job"):
            pool.evaluate(yaql("1 + 1"))
    finally:
        pool.close()
