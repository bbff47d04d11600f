"""Watching an execution to its rest: as a live tree on a terminal, as plain lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import grpc
from rich.live import Live
from rich.tree import Tree

from dalsegno.cli.away import ERRAND
from dalsegno.cli.connection import Connection, come_back
from dalsegno.cli.follow import follow
from dalsegno.cli.lines import Progress, describe_message
from dalsegno.cli.picture import Picture
from dalsegno.cli.screen import Screen
from dalsegno.cli.tree import draw
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse

CHILDREN_WATCHED = 20
"""How many sub-executions are drawn at once; of more, the counts must do."""


class Watch:
    """The pictures of an execution and of its sub-executions, kept up to date."""

    def __init__(self, connection: Connection, execution_id: str) -> None:
        self.execution_id = execution_id
        self.pictures = {execution_id: Picture(execution_id)}
        self._connection = connection
        self._children: dict[str, asyncio.Task[None]] = {}
        self._offset_s = 0.0

    @property
    def picture(self) -> Picture:
        """The execution itself."""
        return self.pictures[self.execution_id]

    async def messages(self, *, keep_open: bool = False) -> AsyncGenerator[WatchExecutionResponse]:
        """Every message about the execution itself, after it is in the picture. Children are followed beside it."""
        try:
            async with aclosing(follow(self._connection, self.execution_id, keep_open=keep_open)) as stream:
                async for message in stream:
                    self.picture.take(message)
                    self._offset_s = self.picture.at_s - time.monotonic()
                    self._follow_children(self.picture)
                    yield message
            # What the children still have to tell arrives at once, for the execution is at rest.
            if self._children:
                await asyncio.wait(self._children.values(), timeout=1.0)
        finally:
            for child in self._children.values():
                child.cancel()

    def draw(self, rows: int) -> Tree:
        """The tree as it stands."""
        return draw(self.pictures, self.execution_id, rows, max(self.picture.at_s, time.monotonic() + self._offset_s))

    def _follow_children(self, parent: Picture) -> None:
        for task in parent.tasks.values():
            for child_id in task.children:
                if child_id not in self._children and len(self._children) < CHILDREN_WATCHED:
                    self._children[child_id] = asyncio.create_task(self._follow_child(child_id))

    async def _follow_child(self, child_id: str) -> None:
        picture = Picture(child_id)
        try:
            async with aclosing(follow(self._connection, child_id)) as stream:
                async for message in stream:
                    picture.take(message)
                    self.pictures[child_id] = picture
                    self._follow_children(picture)
        except grpc.aio.AioRpcError:
            return  # A child that cannot be read is left out; the execution itself tells how its task ends.


async def watch_to_rest(
    connection: Connection, execution_id: str, out: Screen, *, stop_at_pause: bool = False, keep_open: bool = False
) -> Picture:
    """Show an execution until it is at rest, or PAUSED with `stop_at_pause`; return how it stands then."""
    watch, progress = Watch(connection, execution_id), Progress()
    ERRAND.leaving = come_back(connection, execution_id)
    with _screen(watch, out) as live:
        async with aclosing(watch.messages(keep_open=keep_open)) as stream:
            async for message in stream:
                if live is None:
                    for line in (*describe_message(message), *progress.lines(watch.picture)):
                        out.tell(line)
                if stop_at_pause and watch.picture.state == "PAUSED":
                    break
    ERRAND.leaving = ""
    return watch.picture


@contextmanager
def _screen(watch: Watch, out: Screen) -> Iterator[Live | None]:
    """The live tree on a terminal, redrawn ten times a second; None anywhere else."""
    if not out.is_terminal:
        yield None
        return
    with Live(
        get_renderable=lambda: watch.draw(max(5, out.height - 6)),
        console=out,
        refresh_per_second=10,
        vertical_overflow="crop",
    ) as live:
        yield live
        live.refresh()
