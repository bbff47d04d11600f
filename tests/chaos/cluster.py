"""The processes of the chaos: engines, executors, apis and a gateway, each killed, frozen and started again by its own
process id.

They are forked from a template (tests/template.py): a new interpreter for each start would take most of the time of two
cores.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from tests.cutting import Cutter
from tests.endpoints import REACHABLE
from tests.ports import free_port
from tests.template import Forked, Program, start_forked

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 3.0


class Kind(StrEnum):
    """The kinds of processes."""

    ENGINE = "engine"
    EXECUTOR = "executor"
    API = "api"
    GATEWAY = "gateway"


class Process:
    """One process, always on the same port."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.name = folder.name
        self.port = free_port()
        folder.mkdir()
        log = folder / f"{kind}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DALSEGNO_")}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "services", ROOT)))}
        environment |= {"DALSEGNO_STATE_FOLDER": str(folder)} | REACHABLE
        self.program = Program(f"dalsegno.{kind}", (), log, environment)
        self.is_wanted = False
        """Whether it is to run: what has ended by itself is then started again."""
        self.is_frozen = False
        self._process: Forked | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """How it has ended; None: it runs, or was never started."""
        return None if self._process is None else self._process.returncode

    def runs(self, *arguments: str, file: str = "", before: Sequence[str] = ()) -> None:
        """Set what it runs: its module, or a file, with these arguments behind its address."""
        whole = (*before, "--listen", self.address, *arguments)
        self.program = replace(self.program, file=file or self.program.file, arguments=whole)

    def start(self) -> None:
        """Start it, without waiting."""
        assert not self.is_running, f"{self.name} runs already"
        self._process = start_forked(self.program)
        self.is_wanted, self.is_frozen = True, False

    def kill(self) -> None:
        """kill -9, and return when it is gone. It stays away until it is started."""
        self.is_wanted = self.is_frozen = False
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class Cluster:
    """All processes. Some speak to each other through connections that break. Use it with `async with`."""

    def __init__(self, folder: Path, database: str, *, seed: str, engines: int, executors: int = 3) -> None:
        self.folder = folder
        self.clock = folder / "clock"
        """A file with the seconds by which the clock of the engines is wrong, and that of their store."""
        self.clock.write_text("0")
        self.gateway = Process(Kind.GATEWAY, folder / "gateway")
        self.engines = [Process(Kind.ENGINE, folder / f"engine-{each}") for each in "abcd"[:engines]]
        self.executors = [Process(Kind.EXECUTOR, folder / f"executor-{each}") for each in range(1, executors + 1)]
        self.apis = [Process(Kind.API, folder / f"api-{each}") for each in (1, 2)]
        self.by_themselves: Counter[str] = Counter()
        """Which kinds of processes have ended without being killed, with their exit codes."""
        self.cutters: list[Cutter] = []
        self._database = database
        self._seed = seed

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order in which they are started."""
        return [*self.engines, *self.executors, *self.apis, self.gateway]

    def of(self, kind: Kind) -> list[Process]:
        """The processes of one kind."""
        return [each for each in self.processes if each.kind is kind]

    @property
    def side_logs(self) -> list[Path]:
        """Where the actions write what they do."""
        return [self.folder / f"{each.name}.jsonl" for each in self.executors]

    async def __aenter__(self) -> Cluster:
        try:
            for each in self.engines:
                chance = random.Random(f"{self._seed}/cuts of {each.name}")
                self.cutters.append(await Cutter(each.address, chance).__aenter__())
            self._set_up()
            for process in self.processes:
                process.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Kill everything."""
        for process in self.processes:
            process.kill()
        for cutter in self.cutters:
            await cutter.__aexit__()

    def _set_up(self) -> None:
        stored = ("--database", self._database, "--grace-s", "2")
        lease = ("--lease-s", str(LEASE_S), "--heartbeat-s", "0.5", "--public-url", f"http://{self.gateway.address}")
        clock = str(ROOT / "tests" / "settable_clock.py")
        for each in self.engines:
            each.runs(*stored, *lease, file=clock, before=(str(self.clock), "dalsegno.engine"))
        direct, cut = [each.address for each in self.engines], [each.address for each in self.cutters]
        for number, (each, log) in enumerate(zip(self.executors, self.side_logs, strict=True)):
            # The connections of the first one hold, those of the others break.
            to = [word for address in (cut if number else direct) for word in ("--engine", address)]
            each.runs(*to, "--id", each.name, "--log", str(log), file=str(Path(__file__).with_name("worker.py")))
        for number, each in enumerate(self.apis):
            each.runs(*stored, "--engine", ",".join(cut if number else direct))
        self.gateway.runs("--api", ",".join(each.address for each in self.apis), "--grace-s", "2")

    def start_what_ended(self) -> None:
        """Start again what has ended by itself, and count it."""
        for process in self.processes:
            if process.is_wanted and not process.is_running:
                self.by_themselves[f"{process.kind} (exit code {process.exit_code})"] += 1
                process.start()

    def heal(self) -> None:
        """Let everything run, with connections that hold."""
        for cutter in self.cutters:
            cutter.bytes_max = 0
            cutter.flows.set()
        for process in self.processes:
            if process.is_frozen:
                process.thaw()
            if not process.is_running:
                process.start()
