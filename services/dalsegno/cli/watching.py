"""Watch an execution until it is at rest: as a live tree on a terminal, else as plain lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress

import grpc
from rich.live import Live
from rich.tree import Tree

from dalsegno.cli.connection import Connection, follow_hint
from dalsegno.cli.execution_view import ENDED_EXECUTIONS, Child, ExecutionView
from dalsegno.cli.follow import follow
from dalsegno.cli.lines import LineWriter
from dalsegno.cli.reads import OPEN_READ, read_actions, read_checkpoints, read_executions, read_tasks
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.screen import Screen
from dalsegno.cli.tree import CHILDREN_LISTED, draw
from dalsegno.cli.waits import OPEN_ACTIONS
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse

CHILDREN_WATCHED = 20
"""The number of sub-executions that are followed at once; of the others only the changes of the parent are known."""
CHILDREN_READ = 100
_VIEWS_MAX = 50
"""Above this number, views of executions that succeeded are removed."""
_NOT_WELL = "state=IDLE,RUNNING,PAUSING,PAUSED,CANCELLING,ERROR"


class Watch:
    """The views of an execution and of its sub-executions, kept up to date."""

    def __init__(self, connection: Connection, execution_id: str, *, with_children: bool = True) -> None:
        self.execution_id = execution_id
        self._follows = with_children
        self.views = {execution_id: ExecutionView(execution_id)}
        self._connection = connection
        self._children: dict[str, asyncio.Task[None]] = {}
        self._offset_s = 0.0

    @property
    def view(self) -> ExecutionView:
        """Return the execution itself."""
        return self.views[self.execution_id]

    async def messages(self, *, keep_open: bool = False) -> AsyncGenerator[WatchExecutionResponse]:
        """Yield every message about the execution, after applying it to the view. Follow its children, too."""
        try:
            async with aclosing(follow(self._connection, self.execution_id, keep_open=keep_open)) as stream:
                async for message in stream:
                    await self._take(self.view, message)
                    self._take_time(message)
                    yield message
            # The last messages of the children arrive soon, because the execution is at rest.
            if self._children:
                await asyncio.wait(self._children.values(), timeout=1.0)
        finally:
            self._follows = False
            for child in self._children.values():
                child.cancel()

    def draw(self, rows: int, width: int) -> Tree:
        """Return the current tree."""
        now_s = max(self.view.at_s, time.monotonic() + self._offset_s)
        return draw(self.views, self.execution_id, rows, now_s, width)

    def _take_time(self, message: WatchExecutionResponse) -> None:
        """Estimate the server's time: the time of a new change, else the local time if it is not earlier."""
        is_new = message.WhichOneof("content") == "changes"
        now_s = self.view.at_s if is_new else max(self.view.at_s, time.time())
        self._offset_s = now_s - time.monotonic()

    async def _take(self, view: ExecutionView, message: WatchExecutionResponse) -> None:
        view.take(message)
        if message.WhichOneof("content") == "snapshot" and message.snapshot.last:
            await self._complete(view)
        kinds = {each.WhichOneof("kind") for each in message.changes.changes}
        with suppress(grpc.aio.AioRpcError):
            if self._follows and "restored" in kinds:
                view.take_tasks(await read_tasks(self._connection, view.execution_id))
            if "history_discarded" in kinds:
                await self._forget(view)
            if "consolidated" in kinds:  # it has replaced the change that reached the entry
                await self._read_entries(view)
        self._follow_children(view)

    async def _forget(self, view: ExecutionView) -> None:
        """Remove what was discarded of an execution, and the views that belong to no task: one without end would fill
        the memory."""
        view.keep_tasks(await read_tasks(self._connection, view.execution_id))
        shown = {self.execution_id}.union(*(each.child_ids for each in self.views.values()))
        self.views = {each: view for each, view in self.views.items() if each in shown}

    async def _read_entries(self, view: ExecutionView) -> None:
        if self._follows and view is self.view:
            view.take_entries((await read_checkpoints(self._connection, view.execution_id, CHILDREN_READ)).entries)

    async def _complete(self, view: ExecutionView) -> None:
        """Read what a snapshot does not contain; ignore errors."""
        if view.tasks:
            with suppress(grpc.aio.AioRpcError):
                await self._read_entries(view)
        if view.has_open_tasks:
            with suppress(grpc.aio.AioRpcError):
                actions = await read_actions(self._connection, view.execution_id, OPEN_ACTIONS, OPEN_READ)
                view.take_actions(actions)
        if self._follows and any(task.children for task in view.tasks.values()):
            with suppress(grpc.aio.AioRpcError):
                terms = f"parent={view.execution_id} {_NOT_WELL}"
                view.take_children(await read_executions(self._connection, terms, CHILDREN_READ))

    def _follow_children(self, parent: ExecutionView) -> None:
        """Follow the children that run, up to the limit."""
        for task in parent.tasks.values():
            if len(self._children) >= CHILDREN_WATCHED or not self._follows:
                return
            for child in list(task.children.values()):
                is_shown = len(task.children) <= CHILDREN_LISTED
                if len(self._children) < CHILDREN_WATCHED and self._is_worth_following(child, is_shown=is_shown):
                    self._children[child.execution_id] = asyncio.create_task(self._follow_child(parent, child))

    def _is_worth_following(self, child: Child, *, is_shown: bool) -> bool:
        """Return whether following shows more than its parent does: it runs, or is one of few and shown after its end.

        Children without a state have succeeded before the snapshot; nothing else is known of them.
        """
        if not child.execution_id or child.execution_id in self._children or child.execution_id in self.views:
            return False
        if child.state not in {"", *ENDED_EXECUTIONS}:
            return True
        return (is_shown or child.state not in ("", "SUCCESS")) and len(self.views) < _VIEWS_MAX

    async def _follow_child(self, parent: ExecutionView, child: Child) -> None:
        view = ExecutionView(child.execution_id)
        try:
            async with aclosing(follow(self._connection, child.execution_id, is_silent=True)) as stream:
                async for message in stream:
                    await self._take(view, message)
                    self.views[child.execution_id] = view
                    child.state = view.state or child.state
            if view.state == "SUCCESS" and len(self.views) > _VIEWS_MAX:
                del self.views[child.execution_id]
        except grpc.aio.AioRpcError:
            return  # Ignored: the changes of the execution itself show how the task ends.
        finally:
            self._children.pop(child.execution_id, None)
            self._follow_children(parent)


async def watch_to_rest(
    connection: Connection, execution_id: str, out: Screen, *, stop_at_pause: bool = False, keep_open: bool = False
) -> ExecutionView:
    """Show an execution until it is at rest, or PAUSED with `stop_at_pause`; return its view then."""
    watch, writer = Watch(connection, execution_id, with_children=out.is_terminal), LineWriter()
    COMMAND.exit_hint = follow_hint(connection, execution_id)
    with _screen(watch, out) as live:
        async with aclosing(watch.messages(keep_open=keep_open)) as stream:
            async for message in stream:
                if live is None:
                    for line in writer.lines(message, watch.view):
                        out.print_line(line)
                if stop_at_pause and watch.view.state == "PAUSED" and watch.view.next_at is None:
                    break
    COMMAND.exit_hint = ""
    return watch.view


@contextmanager
def _screen(watch: Watch, out: Screen) -> Iterator[Live | None]:
    """Yield the live tree on a terminal, redrawn ten times a second; None anywhere else."""
    if not out.is_terminal:
        yield None
        return
    with Live(
        get_renderable=lambda: watch.draw(max(5, out.height - 6), out.width),
        console=out,
        refresh_per_second=10,
        vertical_overflow="crop",
    ) as live:
        yield live
        live.refresh()
