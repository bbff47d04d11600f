"""Signs of life: which engines are ended, by whom, and when nobody may be."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from tests.tied import tied

from dalsegno.engine import processes, pulse
from dalsegno.engine.batches.durations import Durations
from dalsegno.engine.processes import is_gone, own_process
from dalsegno.engine.pulse import PATIENCE_S, Pulse
from dalsegno.store.memory import MemoryStore
from dalsegno.store.store import StoreUnreachable


class Engines:
    """Engines on one store, and the steady clock by which they count."""

    def __init__(self, *processes: str) -> None:
        self.now_s = 100.0
        self.longest_s = 0.0
        self.ended: list[int] = []
        self.store = OftenLost()
        numbers = [self.store.register_engine(f"engine {each}", each, is_alone=False) for each in processes]
        self.pulses = [self._pulse(number) for number in numbers]

    def _pulse(self, number: int) -> Pulse:
        return Pulse(
            *(self.store, number, lambda: self.longest_s, lambda: self.ended.append(number), lambda: self.now_s)
        )

    def beat(self, *which: int, for_s: float) -> None:
        """Let these engines beat each second for a time; then one more second has passed."""
        for _ in range(int(for_s)):
            for each in which:
                self.pulses[each].beat()
            self.now_s += 1.0

    @property
    def living(self) -> list[int]:
        with self.store.read() as queries:
            return [row.number for row in queries.engines().values() if not row.ended]


class OftenLost(MemoryStore):
    """A store that may be away."""

    is_lost = False

    def renew_engine(self, number: int, patience_s: float) -> bool:
        if self.is_lost:
            raise StoreUnreachable("away")
        return super().renew_engine(number, patience_s)


def test_a_silent_engine_is_ended_by_another_one() -> None:
    """After three seconds without a sign of life it is, not before; and it learns so when it beats again."""
    engines = Engines("", "")
    engines.beat(0, 1, for_s=5)
    engines.beat(0, for_s=4)  # in the first of them it sees the last beat of the other
    assert engines.living == [1, 2]
    engines.beat(0, for_s=1)
    assert engines.living == [1]
    assert engines.ended == []
    engines.beat(0, 1, for_s=1)
    assert engines.ended == [2]
    assert engines.living == [1]


def test_an_engine_with_long_transactions_is_given_more_time() -> None:
    """Three times its longest transaction of the last minute."""
    engines = Engines("", "")
    engines.longest_s = 4.0
    engines.beat(1, for_s=1)
    engines.longest_s = 0.0
    engines.beat(0, 1, for_s=20)
    engines.beat(0, for_s=12)
    assert engines.living == [1, 2]
    engines.beat(0, for_s=2)
    assert engines.living == [1]


def test_who_was_silent_itself_ends_nobody_soon() -> None:
    """An engine that stood still, or whose store was away, sees old rows only: it watches for the whole time again."""
    for breaks in ("stood still", "store away"):
        engines = Engines("", "")
        engines.beat(0, 1, for_s=2)
        engines.store.is_lost = breaks == "store away"
        engines.beat(*((0,) if engines.store.is_lost else ()), for_s=30)
        engines.store.is_lost = False
        engines.beat(0, for_s=3)
        assert engines.living == [1, 2], breaks
        engines.beat(0, for_s=2)
        assert engines.living == [1], breaks


def test_an_engine_whose_process_is_gone_is_ended_at_once() -> None:
    """Who starts on the same machine need not wait: the first beat ends it."""
    program = "from dalsegno.engine.processes import own_process; print(own_process(), flush=True); input()"
    child = subprocess.Popen(
        tied(sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    engines = Engines(child.stdout.readline().strip(), own_process(), "elsewhere: nobody can look")
    engines.beat(1, for_s=1)
    assert engines.living == [1, 2, 3]
    child.communicate("\n")
    engines.beat(1, for_s=1)
    assert engines.living == [2, 3]


@pytest.mark.parametrize("change", ["", "another machine", "another namespace", "nonsense"])
def test_a_process_that_cannot_be_seen_is_not_gone(change: str) -> None:
    """Neither our own, nor one of another machine or container, nor one whose name says nothing."""
    boot, namespace, _, _ = own_process().split()
    other = {
        "": own_process(),
        "another machine": f"other {namespace} 999999999 1",
        "another namespace": f"{boot} pid:[1] 999999999 1",
        "nonsense": "",
    }[change]
    assert not is_gone(other)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    """Numbers of processes are used again; their starts differ."""
    boot, namespace, number, started = own_process().split()
    assert is_gone(f"{boot} {namespace} {number} {int(started) - 1}")
    assert is_gone(f"{boot} {namespace} 999999999 {started}")


def test_the_longest_transaction_counts_even_while_it_is_open() -> None:
    """The others hear of a long batch before its end; each is told once."""
    durations = Durations()
    with durations:
        assert 0.0 < durations.take_longest_s() < PATIENCE_S
    assert durations.take_longest_s() > 0.0
    assert durations.take_longest_s() == 0.0


def test_an_engine_whose_transaction_is_open_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So often, with a pause between the tries; then it is left to the next beat."""
    engines = Engines("", "")
    tries: list[int] = []
    pauses: list[float] = []

    def end_engine(number: int) -> bool:
        tries.append(number)
        return False

    monkeypatch.setattr(engines.store, "end_engine", end_engine)
    monkeypatch.setattr(time, "sleep", pauses.append)
    engines.beat(0, for_s=5)
    assert tries[: pulse.TRIES] == [2] * pulse.TRIES
    assert len(pauses) / len(tries) == (pulse.TRIES - 1) / pulse.TRIES


def test_an_error_that_is_no_outage_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread goes on; an outage is no error."""
    monkeypatch.setattr(pulse, "BEAT_S", 0.001)
    engines = Engines("")
    (beating,) = engines.pulses
    errors: list[Exception] = [KeyError("unexpected"), StoreUnreachable("away")]
    beats: list[None] = []

    def renew_engine(number: int, patience_s: float) -> bool:
        if errors:
            raise errors.pop(0)
        beats.append(None)
        return len(beats) < 2

    monkeypatch.setattr(engines.store, "renew_engine", renew_engine)
    beating.start()
    beating._thread.join(5)
    assert not beating._thread.is_alive(), "it has ended when another engine has ended this one"
    assert engines.ended == [1]
    assert [record.getMessage() for record in caplog.records] == ["a sign of life failed"]
    beating.stop()


def test_a_system_without_processes_to_look_at_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read says nothing: neither of ourselves nor of others."""
    other = own_process()

    def unreadable(number: int) -> tuple[str, str]:
        raise PermissionError

    monkeypatch.setattr(processes, "_state_and_start", unreadable)
    assert own_process() == ""
    assert not is_gone(other)
    monkeypatch.setattr(processes, "own_process", lambda: other)
    assert not is_gone(other)
