"""The steps of checks. Each is data and knows how to play itself: it raises Unmet with what was expected and what came.

Times are seconds. `within_s` is how long the executor has; slow machines and languages that compile on first use
need some.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import grpc

from dalsegno.executor_check.line import Key, Line, describe, with_unknown_field
from dalsegno.executor_check.scene import NobodyConnects, Order, Scene, Skipped, Unmet
from dalsegno.rpc.convert import duration
from dalsegno.v1 import executor_service_pb2 as wire

SOON_S = 5.0
RECONNECTED_S = 15.0
FIRST_S = 60.0
"""How long the first stream may take: somebody may have to start the executor."""


def name_of(outcome: wire.TaskOutcome.ValueType) -> str:
    """Return the name of an outcome without its prefix."""
    return wire.TaskOutcome.Name(outcome).removeprefix("TASK_OUTCOME_")


def _show(keys: set[Key]) -> str:
    return ", ".join(f"{id[-14:]} delivery {delivery}" for id, delivery in sorted(keys)) or "none"


@dataclass(frozen=True, slots=True)
class Connect:
    """A new stream opens, begins with Hello, and gets Welcome. A stream that is still open is ended before."""

    lease_s: float = 15.0
    heartbeat_s: float = 5.0
    beats: bool = True
    """Whether the engine sends heartbeats."""
    clock_offset_s: float = 0.0
    superseded: tuple[str, ...] = ()
    """The labels whose deliveries no longer count. Those of earlier checks never do."""
    engine_id: str = "executor-check"
    acknowledges: bool = False
    """Whether the engine acknowledges each outcome at once."""
    ends_open: bool = True
    """Whether the engine ends a stream that is open; else the executor must leave it."""
    within_s: float = RECONNECTED_S

    async def play(self, scene: Scene) -> None:
        if self.ends_open and scene.is_open:
            scene.line.end(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        await scene.child.start()
        await self.greet(scene, await self._next_line(scene))

    async def _next_line(self, scene: Scene) -> Line:
        """Return the next stream. Raises Unmet, or NobodyConnects if there has never been one."""
        within_s = self.within_s if scene.has_connected else FIRST_S
        ends_s = time.monotonic() + within_s
        came, told = "none", f"within {within_s:g} s; start one, or give its program after --"
        while (left_s := ends_s - time.monotonic()) > 0:
            if (line := await scene.engine.next_line(min(left_s, 0.5))) is not None:
                return line
            if scene.child.is_given and not scene.child.is_running:
                came = told = f"its process has ended with exit code {await scene.child.wait(0)}"
                break
        if scene.has_connected:
            raise Unmet(f"a stream within {within_s:g} s", came)
        raise NobodyConnects(f"no executor has connected to {scene.engine.address}: {told}")

    async def greet(self, scene: Scene, line: Line) -> None:
        """Make a stream the present one, and answer its Hello."""
        scene.take_line(line)
        scene.is_ordinary = replace(self, superseded=(), ends_open=True, within_s=RECONNECTED_S) == Connect()
        line.acknowledges = self.acknowledges
        if (kind := line.first.WhichOneof("message")) != "hello":
            raise Unmet("Hello as the first message", kind or "an empty message")
        scene.clock_offset_s = self.clock_offset_s
        ended = {id for label in self.superseded for id in scene.ids(label)}
        welcome = wire.Welcome(
            engine_id=self.engine_id,
            lease=duration(self.lease_s),
            heartbeat=duration(self.heartbeat_s),
            superseded=[
                each
                for each in line.hello.in_flight
                if each.action_execution_id in ended or each.action_execution_id not in scene.known_ids()
            ],
        )
        welcome.now.FromMilliseconds(int(scene.now_s() * 1000))
        await line.send(welcome=welcome)
        if self.beats:
            line.beat(self.heartbeat_s / 2)


@dataclass(frozen=True, slots=True)
class Hello:
    """The Hello of the present stream is as it must be."""

    expected: str
    problem: Callable[[Scene], str]
    """Returns what is wrong; empty if nothing is."""

    async def play(self, scene: Scene) -> None:
        if problem := self.problem(scene):
            raise Unmet(self.expected, problem)


@dataclass(frozen=True, slots=True)
class InFlight:
    """Hello lists the deliveries of these labels, and not those of others of the check."""

    labels: tuple[str, ...] = ()

    async def play(self, scene: Scene) -> None:
        wanted = {key for label in self.labels for key in scene.keys(label)}
        listed = {key for key in scene.line.in_flight if key[0] in scene.known_ids()}
        if listed != wanted:
            raise Unmet(f"`in_flight` of Hello: {_show(wanted)}", _show(listed))
        if len(scene.line.in_flight) != len(set(scene.line.in_flight)):
            raise Unmet("each delivery once in `in_flight`", "one is there twice")


@dataclass(frozen=True, slots=True)
class Slots:
    """The executor has so many slots, else the check does not apply."""

    at_least: int

    async def play(self, scene: Scene) -> None:
        if scene.line.hello.slots < self.at_least:
            raise Skipped(f"it has {scene.line.hello.slots} slots; the check needs {self.at_least}")


@dataclass(frozen=True, slots=True)
class Run:
    """Hand out an action, once the executor gives credit for it."""

    order: Order
    times: int = 1
    """How often, with an id each; less if the credit is less."""
    unknown_fields: bool = False
    """Whether the message has fields that no version knows."""
    copies: int = 1
    """How often each is in the message: the same delivery."""

    async def play(self, scene: Scene) -> None:
        line = scene.line
        if not await line.until(lambda: line.credit >= self.copies, SOON_S):
            raise Unmet(f"credit for {self.copies} within {SOON_S:g} s", line.summary())
        runs = scene.make_run(self.order, min(self.times, line.credit)) * self.copies
        line.credit -= len(runs)
        message = wire.ConnectResponse(run_action=wire.RunActionBatch(actions=runs))
        if self.unknown_fields:
            for run in message.run_action.actions:
                run.CopyFrom(with_unknown_field(run))
        await line.write(message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Each action of a label ends with one of these outcomes, on the present stream."""

    label: str
    outcomes: tuple[wire.TaskOutcome.ValueType, ...] = (wire.TASK_OUTCOME_SUCCEEDED,)
    within_s: float = SOON_S
    result: object = ...
    """The JSON value that the result must be."""
    delivery: int = 1
    nth: int = 1
    """Which report of each action it is: 2 for the first repetition."""
    problem: Callable[[wire.TaskDone], str] | None = None
    """Returns what else is wrong with one; empty if nothing is."""

    def expected(self) -> str:
        names = " or ".join(name_of(each) for each in self.outcomes)
        again = " again" if self.nth > 1 else ""
        return f"{names}{again} of `{self.label}`, delivery {self.delivery}, within {self.within_s:g} s"

    async def play(self, scene: Scene) -> None:
        wanted = len(scene.ids(self.label)) * self.nth
        came = await scene.line.until(lambda: len(scene.endings(self.label, self.delivery)) >= wanted, self.within_s)
        found = scene.endings(self.label, self.delivery)
        if not came:
            raise Unmet(self.expected(), f"{len(found)} of {wanted}; on this stream: {scene.line.summary()}")
        for done in found:
            self._judge(done)
            if (first := scene.remember(done)) != done:
                raise Unmet(f"the same outcome again: {describe(first)}", describe(done))

    def _judge(self, done: wire.TaskDone) -> None:
        if done.outcome not in self.outcomes:
            raise Unmet(self.expected(), describe(done))
        if self.result is not ... and (told := _read_json(done.result)) != self.result:
            shown, got = json.dumps(self.result)[:200], json.dumps(told)[:200]
            raise Unmet(f"{self.expected()} with the result {shown}", got)
        if self.problem is not None and (problem := self.problem(done)):
            raise Unmet(self.expected(), f"{describe(done)}: {problem}")


def _read_json(text: str) -> object:
    try:
        return json.loads(text or "null")
    except ValueError:
        raise Unmet("a result that is JSON text", text[:200]) from None


@dataclass(frozen=True, slots=True)
class Report:
    """An action of a label reports that it has not ended: that it runs, with its progress, or is paused."""

    label: str
    outcome: wire.TaskOutcome.ValueType = wire.TASK_OUTCOME_RUNNING
    within_s: float = SOON_S

    async def play(self, scene: Scene) -> None:
        line = scene.line
        if not await line.until(lambda: self._reports(scene), self.within_s):
            raise Unmet(f"{name_of(self.outcome)} of `{self.label}` within {self.within_s:g} s", line.summary())
        for done in self._reports(scene):
            if done.progress.HasField("fraction") and not 0 <= done.progress.fraction <= 1:
                raise Unmet("a `fraction` from 0 to 1", f"{done.progress.fraction}")

    def _reports(self, scene: Scene) -> list[wire.TaskDone]:
        return [done for done in scene.outcomes(self.label) if done.outcome == self.outcome]


@dataclass(frozen=True, slots=True)
class Quiet:
    """No more outcomes of a label than those that were there come for a time."""

    label: str
    for_s: float = 0.5
    delivery: int = 1

    async def play(self, scene: Scene) -> None:
        before = len(scene.endings(self.label, self.delivery))
        if await scene.line.until(lambda: len(scene.endings(self.label, self.delivery)) > before, self.for_s):
            last = scene.endings(self.label, self.delivery)[-1]
            raise Unmet(f"no outcome of `{self.label}` for {self.for_s:g} s", describe(last))


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Acknowledge the last outcome of each action of a label."""

    label: str
    verdict: wire.AckVerdict.ValueType = wire.ACK_VERDICT_ACCEPTED
    outcome: wire.TaskOutcome.ValueType | None = None
    """The outcome that is named, instead of the last one."""
    delivery: int = 1

    async def play(self, scene: Scene) -> None:
        acks = []
        for id, delivery in scene.keys(self.label, self.delivery):
            last = [done for done in scene.endings(self.label, self.delivery) if done.action_execution_id == id][-1:]
            named = self.outcome or (last[0].outcome if last else wire.TASK_OUTCOME_UNSPECIFIED)
            reason = "the check refuses it" if self.verdict == wire.ACK_VERDICT_REFUSED else ""
            acks.append(
                wire.Ack(action_execution_id=id, delivery=delivery, verdict=self.verdict, outcome=named, reason=reason)
            )
        await scene.line.send(ack=wire.AckBatch(acks=acks))


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the executor to stop the actions of a label."""

    label: str
    delivery: int = 1

    async def play(self, scene: Scene) -> None:
        for id, delivery in scene.keys(self.label, self.delivery):
            cancel = wire.CancelAction(action_execution_id=id, delivery=delivery, reason="the check cancels it")
            await scene.line.send(cancel_action=cancel)


@dataclass(frozen=True, slots=True)
class CreditBack:
    """There is credit again: the executor has given it, if all of it was used."""

    within_s: float = SOON_S

    async def play(self, scene: Scene) -> None:
        line = scene.line
        if not await line.until(lambda: line.credit > 0, self.within_s):
            raise Unmet(f"new credit within {self.within_s:g} s after the actions ended", line.summary())


@dataclass(frozen=True, slots=True)
class Break:
    """End the stream with a status."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    reason: str = "UNAVAILABLE"
    is_present: bool = True
    """Whether it is the present stream, or the one before it."""

    async def play(self, scene: Scene) -> None:
        line = scene.line if self.is_present else scene.before
        assert line is not None, "a check connects twice before it breaks the stream before the present one"
        line.end(self.code, self.reason)


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the port and every connection without a word, and listen again after a time."""

    for_s: float = 0.0

    async def play(self, scene: Scene) -> None:
        await scene.engine.stop()
        await asyncio.sleep(self.for_s)
        await scene.engine.start()


@dataclass(frozen=True, slots=True)
class Refuse:
    """End each stream at its Hello for a time: at least one comes, and at most so many."""

    for_s: float
    at_most: int

    async def play(self, scene: Scene) -> None:
        scene.line.end(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        count, ends_s = 0, time.monotonic() + self.for_s
        while (left_s := ends_s - time.monotonic()) > 0:
            if (line := await scene.engine.next_line(left_s)) is not None:
                count += 1
                line.end(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        if not 1 <= count <= self.at_most:
            raise Unmet(f"1 to {self.at_most} attempts in {self.for_s:g} s", f"{count}")


@dataclass(frozen=True, slots=True)
class NoStream:
    """No stream with the session of the last one opens for a time."""

    for_s: float
    reason: str = "SESSION_SUPERSEDED"
    """Why a stream that opens all the same is ended."""

    async def play(self, scene: Scene) -> None:
        ends_s = time.monotonic() + self.for_s
        while (left_s := ends_s - time.monotonic()) > 0:
            line = await scene.engine.next_line(left_s)
            if line is None:
                return
            line.end(grpc.StatusCode.ABORTED, self.reason)
            if line.hello.session_id == scene.line.hello.session_id:
                raise Unmet(f"no stream of this session for {self.for_s:g} s", "it has opened one")


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell the executor that the engine is stopping."""

    grace_s: float

    async def play(self, scene: Scene) -> None:
        await scene.line.send(drain=wire.Drain(grace=duration(self.grace_s)))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Goodbye comes."""

    release: bool | None = None
    """Whether it gives back what has not ended; None: either."""
    within_s: float = SOON_S

    async def play(self, scene: Scene) -> None:
        line = scene.line
        if not await line.until(lambda: line.goodbye is not None, self.within_s) or line.goodbye is None:
            raise Unmet(f"Goodbye within {self.within_s:g} s", line.summary())
        if self.release is not None and line.goodbye.release != self.release:
            raise Unmet(f"Goodbye with release: {self.release}", f"release: {line.goodbye.release}")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message as it is."""

    message: wire.ConnectResponse

    async def play(self, scene: Scene) -> None:
        await scene.line.write(self.message)


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """For a time, messages come at most so far apart."""

    for_s: float
    apart_s: float

    async def play(self, scene: Scene) -> None:
        line, begun_s = scene.line, time.monotonic()
        await asyncio.sleep(self.for_s)
        times = [begun_s, *(each for each in line.arrivals_s if each > begun_s), time.monotonic()]
        longest_s = max(later - earlier for earlier, later in pairwise(times))
        if longest_s > self.apart_s or line.is_closed:
            raise Unmet(
                f"a message at least every {self.apart_s:g} s",
                f"none for {longest_s:.2f} s" + (", and the stream has ended" if line.is_closed else ""),
            )


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the executor's process as an operator does: SIGTERM."""

    async def play(self, scene: Scene) -> None:
        if not scene.child.is_given:
            raise Skipped("it needs the command of the executor (after `--`), to stop it")
        scene.child.terminate()


@dataclass(frozen=True, slots=True)
class Leaves:
    """After `Stop`, the executor says Goodbye at the end of its last stream, and its process ends with exit code 0.

    It may open another stream before, to say more: the engine serves it.
    """

    owed: str = ""
    """The label that runs: it is reported, or given back by a Goodbye with `release`."""
    within_s: float = RECONNECTED_S

    async def play(self, scene: Scene) -> None:
        reported, ends_s = False, time.monotonic() + self.within_s
        while (code := await scene.child.wait(0.05)) is None and time.monotonic() < ends_s:
            if not scene.is_open and (line := await scene.engine.next_line(0.1)) is not None:
                await Connect(acknowledges=True).greet(scene, line)
            reported = reported or bool(self.owed and scene.endings(self.owed))
        goodbye = scene.line.goodbye
        if goodbye is None:
            raise Unmet(f"Goodbye at the end of the last stream, within {self.within_s:g} s", scene.line.summary())
        if self.owed and not reported and not goodbye.release:
            raise Unmet("the outcome of what runs, or a Goodbye with `release`", scene.line.summary())
        if code != 0:
            raise Unmet("the process ends with exit code 0", "it runs on" if code is None else f"exit code {code}")


@dataclass(frozen=True, slots=True)
class Answers:
    """The executor says that it answers InventoryRequest, else the check does not apply."""

    async def play(self, scene: Scene) -> None:
        if not scene.line.hello.answers_inventory:
            raise Skipped("its Hello has no `answers_inventory`: it connects to one engine only")


@dataclass(frozen=True, slots=True)
class ConnectSecond:
    """A second engine listens, and the executor opens a stream to it too, which is the present one from then on."""

    engine_id: str

    async def play(self, scene: Scene) -> None:
        if scene.second is None:
            raise Skipped("it needs the address of a second engine (--second)")
        await scene.second.start()
        line = await scene.second.next_line(RECONNECTED_S)
        if line is None:
            raise Unmet(f"a stream to {scene.second.address} within {RECONNECTED_S:g} s", "none")
        await Connect(engine_id=self.engine_id).greet(scene, line)


@dataclass(frozen=True, slots=True)
class Left:
    """The executor ends a stream: the one before the present one, or the present one."""

    is_present: bool = False
    within_s: float = SOON_S

    async def play(self, scene: Scene) -> None:
        line = scene.line if self.is_present else scene.before
        if line is None or not await line.until(lambda: line.is_closed, self.within_s):
            raise Unmet(f"the end of the stream to the engine that has ended, within {self.within_s:g} s", "it is open")


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask which deliveries of a stream to another engine the session has, and compare the answer."""

    engine_id: str
    labels: tuple[str, ...] = ()
    within_s: float = SOON_S

    async def play(self, scene: Scene) -> None:
        line, before = scene.line, len(scene.line.inventories)
        await line.send(inventory=wire.InventoryRequest(engine_id=self.engine_id))
        if not await line.until(lambda: len(line.inventories) > before, self.within_s):
            raise Unmet(f"Inventory for {self.engine_id} within {self.within_s:g} s", line.summary())
        answer = line.inventories[-1]
        if answer.engine_id != self.engine_id:
            raise Unmet(f"Inventory for {self.engine_id}", f"one for {answer.engine_id!r}")
        listed = {(each.action_execution_id, each.delivery) for each in answer.in_flight}
        wanted = {key for label in self.labels for key in scene.keys(label)}
        if listed != wanted:
            raise Unmet(f"Inventory with {_show(wanted)}", _show(listed))
