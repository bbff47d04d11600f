"""Who gets what: fair over executions, by action, target and credit."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.engine.executors.backlog import Backlog, Requirement
from dalsegno.engine.executors.streams import ExecutorStream, count_down
from dalsegno.v1 import executor_service_pb2 as wire

NOOP = Requirement("std.noop", "", "", None)


def test_executions_take_turns() -> None:
    """An execution with a thousand waiting attempts does not keep one with a single attempt waiting."""
    backlog = Backlog()
    for item in range(1000):
        backlog.add((NOOP, "wide", (1, item, 1)))
    backlog.add((NOOP, "narrow", (1, 0, 1)))
    taken = [entry[1:] for entry in backlog.take({NOOP: 4}, 4)]
    assert taken == [("wide", (1, 0, 1)), ("narrow", (1, 0, 1)), ("wide", (1, 1, 1)), ("wide", (1, 2, 1))]


def test_kinds_take_turns() -> None:
    """Whoever waits for another action is not kept waiting by all who wait for one, not even with credit for one."""
    backlog = Backlog()
    other = Requirement("std.echo", "", "", None)
    for item in range(10):
        backlog.add((NOOP, "wide", (1, item, 1)))
    for item in range(2):
        backlog.add((other, "narrow", (1, item, 1)))
    credit = {NOOP: 10, other: 10}
    assert [entry[1] for entry in backlog.take(credit, 3)] == ["wide", "narrow", "wide"]
    assert [entry[1] for entry in backlog.take(credit, 1)] == ["narrow"]
    assert [entry[1] for entry in backlog.take(credit, 10)] == ["wide"] * 8
    assert len(backlog) == 0


def test_attempt_waits_once() -> None:
    """An attempt that waits already is not added again; taken, it may wait again."""
    backlog = Backlog()
    assert backlog.add((NOOP, "e", (1, 0, 1)))
    assert not backlog.add((NOOP, "e", (1, 0, 1)))
    assert len(list(backlog.take({NOOP: 10}, 10))) == 1
    assert backlog.add((NOOP, "e", (1, 0, 1)))


def test_what_is_put_back_comes_first() -> None:
    """After a failed batch the same attempts are taken again, in the same order."""
    backlog = Backlog()
    for name in ("a", "b", "c"):
        backlog.add((NOOP, name, (1, 0, 1)))
    taken = list(backlog.take({NOOP: 2}, 2))
    backlog.put_back(taken)
    assert list(backlog.take({NOOP: 3}, 3))[:2] == taken
    assert len(backlog) == 0


def test_what_goes_to_another_engine_is_not_handed_out() -> None:
    """Others of its execution stay, and so do other executions."""
    backlog = Backlog()
    for name, task in (("e", 1), ("e", 2), ("f", 1), ("g", 1)):
        backlog.add((NOOP, name, (task, 0, 1)))
    backlog.drop({("e", (1, 0, 1)), ("g", (1, 0, 1)), ("h", (1, 0, 1))})
    assert [entry[1:] for entry in backlog.take({NOOP: 4}, 4)] == [("e", (2, 0, 1)), ("f", (1, 0, 1))]


def test_target_names_an_executor_or_its_label() -> None:
    """A task's target is the executor's id, the value of one of its labels, or `key=value`."""
    stream = ExecutorStream("s", "north-1", {}, {"zone": "north"}, 1, 1)
    assert all(stream.fits(target) for target in ("", "north-1", "north", "zone=north"))
    assert not any(stream.fits(target) for target in ("south", "zone=south", "zone"))


async def test_messages_are_bounded_by_count_and_bytes() -> None:
    """No message carries more than 500 actions or, with more than one, 3 MiB."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1)
    stream.run([wire.RunAction(input="x") for _ in range(1200)])
    stream.run([wire.RunAction(input="x" * (2 << 20)) for _ in range(3)])
    sizes = [len(message.run_action.actions) for message in stream.messages()]
    assert sizes[:2] == [500, 500]
    assert sizes[2:] == [201, 1, 1]


def test_time_left_is_that_of_the_moment_of_writing() -> None:
    """What lay in the queue has so much less; what is too late has none; without a deadline nothing is said."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1)
    stream.run([wire.RunAction(deadline=Timestamp(seconds=at_s)) for at_s in (160, 90)] + [wire.RunAction()])
    (message,) = stream.messages()
    count_down(message, 100.25)
    late, over, free = message.run_action.actions
    assert (late.time_left.ToMilliseconds(), over.time_left.ToMilliseconds()) == (59_750, 0)
    assert over.HasField("time_left")
    assert not free.HasField("time_left")
    count_down(wire.ConnectResponse(drain=wire.Drain()), 100.25)


async def test_messages_are_measured_in_bytes() -> None:
    """All of an item counts, as it is written; reasons of acknowledgements do as well."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1)
    stream.run([wire.RunAction(action="\u00e4" * (1 << 20)) for _ in range(3)])
    for _ in range(100):
        stream.acknowledge(wire.Ack(reason="x" * 100_000))
    messages = list(stream.messages())
    assert max(message.ByteSize() for message in messages) < 4_000_000
    assert sum(len(message.run_action.actions) for message in messages) == 3
    assert sum(len(message.ack.acks) for message in messages) == 100


async def test_acknowledgements_travel_together() -> None:
    """A single acknowledgement waits a moment for others; a hundred go at once."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1)
    stream.acknowledge(wire.Ack(delivery=1))
    assert list(stream.messages()) == []
    await stream.wait()
    assert [len(message.ack.acks) for message in stream.messages()] == [1]
    for _ in range(100):
        stream.acknowledge(wire.Ack(delivery=1))
    assert [len(message.ack.acks) for message in stream.messages()] == [100]


async def test_unsent_actions_are_known_when_a_stream_closes() -> None:
    """What was handed out and never written is told, so that it can go to somebody else at once."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1)
    stream.run([wire.RunAction(action_execution_id="a")])
    assert [run.action_execution_id for run in stream.close()] == ["a"]
    assert not stream.is_open
