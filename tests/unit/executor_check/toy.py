"""A small executor that keeps all rules but those that a test names: each fault breaks one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any

import grpc

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1.definition_pb2 import Parameter
from dalsegno.v1.executor_service_pb2_grpc import ExecutorServiceStub

SLOTS = 6
ACTIONS = {
    "check.echo": ("output",),
    "check.sleep": ("seconds",),
    "check.fail": ("message",),
    "check.delegate": ("alias",),
    "check.big": ("size",),
    "check.progress": ("text", "fraction", "seconds"),
    "check.pause": ("seconds",),
}
Key = tuple[str, int]


@dataclass(eq=False)
class Run:
    """An action that runs."""

    task: asyncio.Task[None]
    verdict: wire.TaskDone | None = None
    """Why it was stopped."""


class Toy:
    """An executor with one stream. `faults` are words that the code below asks for."""

    def __init__(self, engine: str, *faults: str) -> None:
        self.faults = set(faults)
        self._engine = engine
        self._session = "no uuid" if "session" in faults else str(uuid.uuid4())
        self._running: dict[Key, Run] = {}
        self._kept: dict[Key, wire.TaskDone] = {}
        self._ended: set[str] = set()
        self._outbox: asyncio.Queue[wire.ConnectRequest] = asyncio.Queue()
        self._call: Any = None
        self._beating: asyncio.Task[None] | None = None
        self._lease_s = 10.0
        self._heard_s = 0.0
        self._offset_s = 0.0

    async def run(self) -> None:
        """Serve until this is cancelled or another session takes the place."""
        try:
            while await self._serve():
                await asyncio.sleep(0.0 if "storm" in self.faults else 0.05)
                if "new session" in self.faults:
                    self._session = str(uuid.uuid4())
        finally:
            for run in self._running.values():
                run.task.cancel()
            await asyncio.gather(*(run.task for run in self._running.values()), return_exceptions=True)

    async def _serve(self) -> bool:
        """Open one stream; return whether to open another."""
        self._outbox, self._heard_s = asyncio.Queue(), time.monotonic()
        if "credit first" in self.faults:
            self._send(credit=wire.Credit(more=1))
        self._send(hello=self._hello())
        async with open_channel(self._engine) as channel:
            self._call = ExecutorServiceStub(channel).Connect(self._requests())
            try:
                async for message in self._call:
                    self._heard_s = time.monotonic()
                    self._take(message)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ABORTED:
                    return "comes back" in self.faults
                if error.code() is not grpc.StatusCode.UNAVAILABLE and "gives up" in self.faults:
                    return False
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
            finally:
                if self._beating is not None:
                    self._beating.cancel()
        return True

    async def _requests(self) -> Any:
        while True:
            message = await self._outbox.get()
            yield message
            if message.WhichOneof("message") == "goodbye":
                return

    def _send(self, **message: Any) -> None:
        self._outbox.put_nowait(wire.ConnectRequest(**message))

    def _hello(self) -> wire.Hello:
        actions = [
            wire.ActionDescription(name=name, parameters=[Parameter(name=each) for each in parameters])
            for name, parameters in ACTIONS.items()
            if not (name == "check.sleep" and "without sleep" in self.faults)
        ]
        if "twice described" in self.faults:
            actions.append(actions[0])
        return wire.Hello(
            executor_id="toy",
            session_id=self._session,
            slots=0 if "no slots" in self.faults else SLOTS,
            credit=SLOTS - len(self._running),
            actions=actions,
            in_flight=self._in_flight(),
            answers_inventory=True,
        )

    def _in_flight(self) -> list[wire.DeliveryReference]:
        keys = [*([] if "not listed" in self.faults else self._running), *self._kept]
        return [wire.DeliveryReference(action_execution_id=id, delivery=delivery) for id, delivery in keys]

    def _take(self, message: wire.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self._begin(message.welcome)
            case "run_action":
                for order in message.run_action.actions[: 1 if "first only" in self.faults else None]:
                    self._accept(order)
            case "ack":
                for ack in message.ack.acks:
                    self._forget_acknowledged(ack)
            case "cancel_action":
                self._cancel(message.cancel_action)
            case "inventory":
                self._ended.add(message.inventory.engine_id)
                listed = [] if "no inventory" in self.faults else self._in_flight()
                self._send(inventory=wire.Inventory(engine_id=message.inventory.engine_id, in_flight=listed))
            case "drain":
                if "no goodbye" not in self.faults:
                    asyncio.get_running_loop().call_later(0.4, lambda: self._send(goodbye=wire.Goodbye()))
            case None:
                if "unknown kinds" in self.faults:
                    self._call.cancel()

    def _begin(self, welcome: wire.Welcome) -> None:
        if welcome.engine_id in self._ended and "takes ended" not in self.faults:
            self._call.cancel()
            return
        self._lease_s = welcome.lease.ToMilliseconds() / 1000
        self._offset_s = welcome.now.ToMilliseconds() / 1000 - time.monotonic()
        for each in welcome.superseded if "superseded" not in self.faults else ():
            self._drop((each.action_execution_id, each.delivery))
        if self._kept and "not repeated" not in self.faults:
            self._send_kept()
        self._beating = asyncio.create_task(self._beat(welcome.heartbeat.ToMilliseconds() / 2000))

    async def _beat(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            if "no heartbeat" not in self.faults:
                self._send(heartbeat=wire.Heartbeat())
            if time.monotonic() - self._heard_s > self._lease_s and "waits for ever" not in self.faults:
                self._call.cancel()

    def _accept(self, order: wire.RunAction) -> None:
        key = order.action_execution_id, order.delivery
        others = [each for each in self._running if each[0] == key[0]]
        if key in self._kept:
            if "silent on repeats" not in self.faults:
                self._send(task_done=wire.TaskDoneBatch(outcomes=[self._kept[key]]))
        elif "runs twice" in self.faults or (key not in self._running and not (others and "first wins" in self.faults)):
            for other in others if "runs twice" not in self.faults else ():
                self._drop(other)
            self._running[key] = Run(asyncio.create_task(self._perform(order, self._left_s(order))))
            return
        self._give_credit()

    def _left_s(self, order: wire.RunAction) -> float | None:
        if "no deadline" in self.faults:
            return None
        if order.HasField("time_left") and "wall clock" not in self.faults:
            return order.time_left.ToMilliseconds() / 1000
        if not order.HasField("deadline"):
            return None
        return order.deadline.ToMilliseconds() / 1000 - time.monotonic() - self._offset_s

    async def _perform(self, order: wire.RunAction, left_s: float | None) -> None:
        key = order.action_execution_id, order.delivery
        done = wire.TaskDone(action_execution_id=key[0], delivery=key[1])
        try:
            async with asyncio.timeout(left_s) as deadline:
                if "one at a time" in self.faults:
                    await asyncio.sleep(0.6 * len(self._running))
                if order.action == "check.pause" and "ends paused" not in self.faults:
                    deadline.reschedule(None)
                await self._act(order.action, json.loads(order.input), done)
        except TimeoutError:
            done.outcome, done.error = wire.TASK_OUTCOME_FAILED, "timed out"
        except asyncio.CancelledError:
            verdict = self._running[key].verdict if key in self._running else None
            if verdict is None:
                raise
            done.outcome, done.error = verdict.outcome, verdict.error
        except Exception as error:
            done.outcome = wire.TASK_OUTCOME_FAILED
            done.error = (
                "" if "no error" in self.faults else str(error)[: 10**6 if "long error" in self.faults else 999]
            )
        self._running.pop(key, None)
        self._kept[key] = done
        if "one message" in self.faults:
            asyncio.get_running_loop().call_later(0.2, self._send_kept)
        elif "swallows" not in self.faults or done.outcome == wire.TASK_OUTCOME_SUCCEEDED:
            self._send(task_done=wire.TaskDoneBatch(outcomes=[done]))
        self._give_credit()

    def _send_kept(self) -> None:
        self._send(task_done=wire.TaskDoneBatch(outcomes=self._kept.values()))

    async def _act(self, action: str, input: dict[str, Any], done: wire.TaskDone) -> None:
        done.outcome = wire.TASK_OUTCOME_SUCCEEDED
        match action:
            case "check.echo":
                if input["output"] is None and "null delegates" in self.faults:
                    done.outcome = wire.TASK_OUTCOME_DELEGATED
                done.result = json.dumps(str(input["output"])[:1000] if "texts" in self.faults else input["output"])
            case "check.sleep":
                await asyncio.sleep(input["seconds"] + 0)
            case "check.fail":
                raise ValueError(input["message"])
            case "check.delegate":
                done.outcome = wire.TASK_OUTCOME_DELEGATED
                done.alias = "" if "no alias" in self.faults else input["alias"]
            case "check.big":
                if input["size"] > 3_999_998 and "cuts" not in self.faults:
                    raise ValueError("result too large")
                done.result = json.dumps("x" * min(input["size"], 3_999_998))
            case "check.progress":
                fraction = 50 if "percent" in self.faults else input["fraction"]
                progress = execution_pb2.ActionProgress(text=input["text"], fraction=fraction)
                self._tell(done, wire.TASK_OUTCOME_RUNNING, progress)
                await asyncio.sleep(input["seconds"])
            case "check.pause":
                self._tell(done, wire.TASK_OUTCOME_PAUSED)
                await asyncio.sleep(input["seconds"])
                self._tell(done, wire.TASK_OUTCOME_RUNNING)
            case _:
                raise ValueError(f"{action} is not served")

    def _tell(
        self,
        done: wire.TaskDone,
        outcome: wire.TaskOutcome.ValueType,
        progress: execution_pb2.ActionProgress | None = None,
    ) -> None:
        told = wire.TaskDone(action_execution_id=done.action_execution_id, delivery=done.delivery)
        told.outcome = outcome
        if progress is not None:
            told.progress.CopyFrom(progress)
        self._send(task_done=wire.TaskDoneBatch(outcomes=[told]))

    def _forget_acknowledged(self, ack: wire.Ack) -> None:
        key = ack.action_execution_id, ack.delivery
        if "keeps all" in self.faults:
            return
        kept = self._kept.get(key)
        if kept is None and "breaks on acks" in self.faults:
            self._call.cancel()
        if kept is not None and (kept.outcome == ack.outcome or "any ack" in self.faults):
            del self._kept[key]

    def _cancel(self, cancel: wire.CancelAction) -> None:
        key = cancel.action_execution_id, cancel.delivery
        if "any cancel" in self.faults:
            key = next((each for each in self._running if each[0] == key[0]), key)
        if "cancels ended" in self.faults and key in self._kept:
            self._kept[key].outcome = wire.TASK_OUTCOME_CANCELLED
            self._kept[key].result = ""
        if key in self._running and "no cancel" not in self.faults:
            run = self._running[key]
            run.verdict = wire.TaskDone(outcome=wire.TASK_OUTCOME_CANCELLED, error=cancel.reason)
            run.task.cancel()

    def _drop(self, key: Key) -> None:
        self._kept.pop(key, None)
        if (run := self._running.pop(key, None)) is not None:
            run.task.cancel()
            self._give_credit()

    def _give_credit(self) -> None:
        if "no credit" not in self.faults:
            self._send(credit=wire.Credit(more=0 if "empty credit" in self.faults else 1))


if __name__ == "__main__":
    asyncio.run(Toy(*sys.argv[1:]).run())
