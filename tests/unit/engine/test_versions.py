"""Two versions of an action side by side: each attempt goes to an executor that takes its input."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.actions.registry import builtin_descriptions, load_registry
from dalsegno.engine.executors.reports import read_greeting
from dalsegno.store.descriptions import Serving, digest_of, read_description, write_description
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker.session import describe

WORKFLOWS = """
version: '2.0'
old:
  tasks:
    each: {with-items: i in <% range(40) %>, action: test.act a=<% $.i %>}
new:
  tasks:
    each: {with-items: i in <% range(40) %>, action: test.act a=<% $.i %> b=1}
"""

OLD = {"a": True}
NEW = {"a": True, "b": True}
OPEN = {"a": True, "b": False}


@dataclass
class Versioned(ScriptedExecutor):
    """Serves test.act with these parameters, each required or not."""

    parameters: Mapping[str, bool] = field(default_factory=dict)
    slots: int = 5

    def _hello(self) -> wire.Hello:
        message = super()._hello()
        del message.actions[:]
        action = message.actions.add(name="test.act", safe_to_rerun=True)
        for name, required in self.parameters.items():
            action.parameters.add(name=name, required=required)
        return message

    @property
    def inputs(self) -> Counter[str]:
        """How often it was given which parameters."""
        return Counter("".join(sorted(json.loads(run.input))) for run in self.received)


def executor(desk: Desk, name: str, parameters: Mapping[str, bool], **more: Any) -> Versioned:
    return Versioned(desk.address, executor_id=name, parameters=parameters, **more)


async def start(desk: Desk, workflow: str) -> str:
    return str((await desk.start(workflow, request_id=str(uuid.uuid4()))).id)


def awaited(desk: Desk, execution_id: str) -> set[str]:
    """What the attempts of an execution wait for that are READY."""

    def look(queries: Any) -> set[str]:
        rows = queries.attempts(execution_id, size=1000).rows
        serving = Serving(queries)
        return {serving.awaited(row) for row in rows if row.state == "READY"}

    found: set[str] = desk.read(look)
    return found


@pytest.mark.parametrize("newer_first", [False, True])
async def test_two_versions_run_side_by_side_under_load_and_the_old_one_goes_away(
    desk: Desk, newer_first: bool
) -> None:
    """The new version requires one parameter more. Inputs without it go to the old executor only, those with it to the
    new one only, in either order; when the old one is gone its attempts wait and say for whom, the others continue; and
    when one of that version is back they end."""
    await desk.create(WORKFLOWS)
    old, new = executor(desk, "old-1", OLD), executor(desk, "new-1", NEW)
    async with new if newer_first else old as first:
        await until(lambda: first.welcomes)
        async with old if newer_first else new as second:
            await until(lambda: second.welcomes)
            ids = [await start(desk, workflow) for workflow in ("old", "new") * 3]
            for execution_id in ids:
                assert (await desk.wait(execution_id)).state == "SUCCESS"
            assert (old.inputs, new.inputs) == (Counter(a=120), Counter(ab=120))

            old.script = lambda run: None
            waiting = await start(desk, "old")
            await until(lambda: old.held)
            await old.say(goodbye=wire.Goodbye(release=True))
            await until(lambda: not desk.read(lambda q: [s for s in q.sessions() if s.executor_id == "old-1"]))
            await old.die()
            assert (await desk.wait(await start(desk, "new"))).state == "SUCCESS"
            assert set(new.inputs) == {"ab"}
            digest = desk.read(lambda queries: queries.attempt(waiting, (1, 0, 1)).digest)
            await until(lambda: awaited(desk, waiting) == {f"executor of test.act(a) as described by {digest}"})

            back = executor(desk, "old-2", OLD)
            async with back:
                assert (await desk.wait(waiting)).state == "SUCCESS"
                assert set(back.inputs) == {"a"}


async def test_a_version_that_takes_every_input_of_the_old_one_takes_over(desk: Desk) -> None:
    """What it does not require may be left out: attempts that were made by the old description go to it, too."""
    await desk.create(WORKFLOWS)
    old, new = executor(desk, "old-1", OLD, script=lambda run: None), executor(desk, "open-1", OPEN)
    async with old:
        await until(lambda: old.welcomes)
        waiting = await start(desk, "old")
        await until(lambda: old.held)
        await old.say(goodbye=wire.Goodbye(release=True))
        async with new:
            assert (await desk.wait(waiting)).state == "SUCCESS"
            assert new.inputs == Counter(a=40)


async def test_an_input_is_made_by_a_description_that_somebody_serves(desk: Desk) -> None:
    """While the old version is there a workflow need not give what only the new one requires; without it it must, and
    is told so; and what nobody serves any more is not asked for when an older version is back."""
    await desk.create(WORKFLOWS)
    async with executor(desk, "new-1", NEW) as new:
        await until(lambda: new.welcomes)
        refused = await desk.wait(await start(desk, "old"))
        assert (refused.state, "missing b" in refused.info) == ("ERROR", True)
        async with executor(desk, "old-1", OLD) as old:
            await until(lambda: old.welcomes)
            assert (await desk.wait(await start(desk, "old"))).state == "SUCCESS"
        await old.die()
        await new.say(goodbye=wire.Goodbye(release=True))
        await until(lambda: not desk.read(lambda queries: [s for s in queries.sessions() if s.executor_id == "new-1"]))
    async with executor(desk, "old-1", OLD) as back:
        await until(lambda: back.welcomes)
        assert (await desk.wait(await start(desk, "old"))).state == "SUCCESS"
        assert "b" not in desk.read(lambda queries: queries.actions())["test.act"].partition("parameters")[2]


async def test_who_waits_for_a_version_keeps_nobody_waiting(desk: Desk) -> None:
    """With attempts for which nobody fits before it in the queue, an attempt that somebody takes is handed out; the
    engine does not look at those again and again."""
    await desk.create(WORKFLOWS)
    async with (
        executor(desk, "old-1", OLD, script=lambda run: None) as old,
        executor(desk, "new-1", NEW) as new,
    ):
        await until(lambda: old.welcomes and new.welcomes)
        waiting = [await start(desk, "old") for _ in range(3)]
        await until(lambda: len(old.held) == 5)
        await old.say(goodbye=wire.Goodbye(release=True))
        await old.die()
        assert (await desk.wait(await start(desk, "new"))).state == "SUCCESS"
        batches = Counter[str]()
        carry_out = desk.engine.conductor.carry_out

        def counted(works: Any, *more: Any) -> Any:
            batches["all"] += 1
            return carry_out(works, *more)

        desk.engine.conductor.carry_out = counted  # type: ignore[method-assign, assignment]
        await asyncio.sleep(1.5)
        assert batches["all"] < 20
        assert {desk.execution(each).state for each in waiting} == {"RUNNING"}


def test_standard_executors_describe_what_the_engine_knows() -> None:
    """Their Hello says of the built-in actions, word for word, what engines of the same version have."""
    registry = load_registry(plugins=())
    hello = wire.Hello(executor_id="x", session_id=str(uuid.uuid4()), slots=1, actions=[describe(a) for a in registry])
    told = read_greeting(hello).descriptions
    known = {each.name: write_description(each) for each in builtin_descriptions()}
    assert {name: digest_of(text) for name, text in told.items()} == {name: digest_of(known[name]) for name in told}
    assert read_description(told["std.echo"]).digest == digest_of(known["std.echo"])


async def test_a_target_is_said_with_what_is_missing(desk: Desk) -> None:
    """An action that nobody serves, or nobody there, is named, and where it is to run."""
    await desk.create("version: '2.0'\none:\n  tasks: {t: {action: test.act a=1, target: north}}\n")
    async with executor(desk, "old-1", OLD, script=done) as old:
        await until(lambda: old.welcomes)
        execution_id = await start(desk, "one")
        digest = desk.read(lambda queries: queries.attempt(execution_id, (1, 0, 1)).digest)
        assert awaited(desk, execution_id) == {f"executor of test.act(a) as described by {digest} at north"}
        async with executor(desk, "north", OLD):
            assert (await desk.wait(execution_id)).state == "SUCCESS"
