"""Pages in a real browser use the gateway: headless Chromium, with the page of the gateway's README."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.certificates import Certificate, make_certificate
from tests.gateways import JSON, PACKAGE, STREAM, Reply, curl, enveloped, gateway_of, messages_of, url_of
from tests.integration.engines import until
from tests.polyglot.modules import prepare
from tests.polyglot.programs import ROOT, finish, start
from tests.ports import free_port
from tests.processes import START_S, Service, System, state_of
from tests.tied import tied

CHROMIUM = shutil.which("chromium") or ""
NEEDED = [name for name in ("node", "npm", "chromium") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("polyglot"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(NEEDED), reason=f"{' and '.join(NEEDED)} not found: the gateway is not tried in a browser"),
]

HERE = Path(__file__).parent
PAGE = (ROOT / "services" / "dalsegno" / "gateway" / "README.md").read_text()
HOSTS = ("rebound.example.com", "foreign.example.com")
"""Names that the browser resolves to the loopback address."""

WORKFLOW = """
version: '2.0'
asks:
  input: [count]
  output: {answer: <% $.answer %>}
  tasks:
    each:
      with-items: i in <% range(0, $.count) %>
      action: std.noop
      on-success: [ask]
    ask: {action: std.async_noop, publish: {answer: <% task().result %>}}
"""


def shown(language: str) -> str:
    """The program of this language in the README."""
    (found,) = re.findall(rf"```{language}\n(.*?)```\n", PAGE, re.DOTALL)
    return str(found)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the browser meets."""

    system: System
    secure: Service
    """The gateway with TLS."""
    plain: Service
    """The gateway without it."""
    certificate: Certificate
    page: str
    """The address of the page."""

    @property
    def files(self) -> Path:
        """The folder of the page's files."""
        return self.certificate.chain.parent / "files"

    def watches(self, execution_id: str, code: str | None = None) -> int:
        """The number of streams of the api that watched an execution, and have ended with this code or any."""
        return sum(
            line["code"] == (code or line["code"])
            for line in logged(self.system.api)
            if (line["message"], line.get("execution")) == ("ExecutionService/WatchExecution", execution_id)
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the browser has seen."""

    scenarios: dict[str, Any]

    def of(self, scenario: str) -> dict[str, Any]:
        """What it has seen in one scenario. Fails the test if that has failed."""
        found: dict[str, Any] = self.scenarios[scenario]
        assert "failed" not in found, found["failed"]
        return found


def logged(service: Service) -> list[dict[str, Any]]:
    """The log of a service."""
    return [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    """Our services, a gateway with TLS and one without, and a server of the page's files."""
    folder = tmp_path_factory.mktemp("browser")
    files = folder / "files"
    files.mkdir()
    await prepare(files, [HERE / "browse.mjs"])
    (files / "page.html").write_text(shown("html"))
    (files / "page.js").write_text(shown("javascript"))
    (command,) = re.findall(r"\$ npx (esbuild .*)", PAGE)
    bundler, *options = command.split()
    code, _, errors = await finish(await start(str(files / "node_modules/.bin" / bundler), *options, folder=files))
    assert code == 0, errors
    certificate, port = make_certificate(folder), free_port()
    origins = ("--cors-origins", f"http://localhost:{port}")
    tls = ("--tls-certificate", str(certificate.chain), "--tls-key", str(certificate.key))
    async with AsyncExitStack() as stack:
        web = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(files))
        served = await asyncio.create_subprocess_exec(*tied(*web), stderr=asyncio.subprocess.DEVNULL)
        stack.push_async_callback(ended, served)
        system = await stack.enter_async_context(System(folder / "system"))
        await system.define(WORKFLOW)
        secure, plain = gateway_of(system, folder, *origins, *tls), gateway_of(system, folder / "system", *origins)
        for gateway in (secure, plain):
            gateway.launch()
            stack.callback(gateway.stop)
        for gateway in (secure, plain):
            await listening(gateway)
        yield Setting(system, secure, plain, certificate, f"http://localhost:{port}/page.html")


async def listening(gateway: Service, starts: int = 1) -> None:
    """Return when it listens after so many starts."""
    await until(
        lambda: gateway.log.exists() and gateway.log.read_text().count("gateway listening on") == starts, START_S
    )


async def ended(process: asyncio.subprocess.Process) -> None:
    """End a process, and wait until it has."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.communicate()


class Steps:
    """What the test does while the browser waits."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.watches: dict[str, list[int]] = {}
        """By step: how many streams of the api have ended, and with CANCELLED."""
        self.states: list[str] = []
        """Of the execution that is watched, when nobody watches it any more."""

    async def take(self, step: str, execution_id: str = "") -> None:
        """Take one step."""
        if step == "restart":
            assert self.setting.secure.terminate() == 0
            await asyncio.sleep(0.7)  # the page asks again, and reaches nobody
            self.setting.secure.launch()
            await listening(self.setting.secure, 2)
            return
        expected = {"watched": 0, "stopped": 1, "closed": 2}[step]
        with contextlib.suppress(AssertionError):
            await until(lambda: self.setting.watches(execution_id) >= expected)
        found = [self.setting.watches(execution_id), self.setting.watches(execution_id, "CANCELLED")]
        self.watches[step] = found
        self.states.append(state_of(await self.setting.system.get(execution_id)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steps(setting: Setting) -> Steps:
    """Nothing yet."""
    return Steps(setting)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(setting: Setting, steps: Steps) -> Seen:
    """Let the browser do everything, and take its steps; what it has seen, by scenario."""
    settings = {
        "page": setting.page,
        "gateway": f"https://localhost:{setting.secure.port}",
        "plain": url_of(setting.plain),
        "key_hash": setting.certificate.key_hash,
        "hosts": HOSTS,
    }
    pipe = asyncio.subprocess.PIPE
    browser = await asyncio.create_subprocess_exec(
        *tied("node", "browse.mjs", CHROMIUM, json.dumps(settings)),
        cwd=setting.files,
        stdin=pipe,
        stdout=pipe,
        limit=1 << 20,
    )
    assert browser.stdout is not None
    assert browser.stdin is not None
    try:
        async with asyncio.timeout(200):
            while not (line := (await browser.stdout.readline()).decode()).startswith("{"):
                assert line, "the browser has ended"
                await steps.take(*line.split())
                browser.stdin.write(b"\n")
    finally:
        await ended(browser)
    return Seen(json.loads(line))


async def test_pages_and_curl_use_the_gateway(setting: Setting, seen: Seen, steps: Steps) -> None:
    """What the gateway promises to browsers, and the same by curl: each check says a sentence of it.

    They are one test, since all workers of a run would start a browser and services for a part of them.
    """
    check_ten_others(seen)
    check_connections(seen)
    check_aborts(seen, steps)
    check_restart(seen)
    check_violations(seen)
    check_rebinding(seen)
    check_foreign_calls(seen, setting)
    check_foreign_tags(seen)
    await check_curl(setting)


def check_ten_others(seen: Seen) -> None:
    """A page starts, watches and completes while ten others watch: all see each change once, in order, and the end."""
    found = seen.of("together")
    assert found["states"] == ['SUCCESS {"answer":{"said":"yes"}}'] * 11
    first, *others = found["changes"]
    assert [int(line.split()[0]) for line in first] == list(range(1, len(first) + 1))
    assert len(first) > 40
    assert all(other == first for other in others)


def check_connections(seen: Seen) -> None:
    """With TLS the browser chooses HTTP/2 by itself: all calls of all pages share one connection."""
    (connection,) = seen.of("together")["connections"]
    assert connection.startswith("h2 ")


def check_aborts(seen: Seen, steps: Steps) -> None:
    """A page that stops watching, and one that is closed, end the call of the api, while the execution goes on."""
    assert seen.of("leaving")["told"] == ["[canceled] signal is aborted without reason"]
    assert steps.watches == {"watched": [0, 0], "stopped": [1, 1], "closed": [2, 2]}
    assert steps.states == ["RUNNING"] * 3


def check_restart(seen: Seen) -> None:
    """A page watches on when the gateway is restarted: its stream is taken up again, no change is shown twice."""
    found = seen.of("restart")
    assert found["state"] == 'SUCCESS {"answer":1}'
    assert [int(line.split()[0]) for line in found["changes"]] == list(range(1, len(found["changes"]) + 1))
    assert found["problems"] == 0


def check_violations(seen: Seen) -> None:
    """A page shows each field that is wrong, from the details of the refusal."""
    problems = seen.of("refused")["problems"]
    assert [line.split(":")[0] for line in problems] == ["workflow", "input"]


def check_rebinding(seen: Seen) -> None:
    """A page whose name comes to point to the gateway gets nothing: for the browser it is the same origin."""
    found = seen.of("rebound")
    for answer in (found["post"], found["read"]):
        assert (answer["type"], answer["status"]) == ("basic", 403)
        assert "the host 'rebound.example.com:" in json.loads(answer["text"])["message"]


def check_foreign_calls(seen: Seen, setting: Setting) -> None:
    """A page of another origin can neither call nor read, nor start anything by what is sent at once."""
    found = seen.of("foreign")
    assert found["post"] == found["read"] == {"error": "TypeError: Failed to fetch"}
    assert (found["plain"]["type"], found["plain"]["text"]) == ("opaque", "")
    refused = [line.get("origin") for line in logged(setting.secure) if line["message"] == "refused"]
    assert refused.count(setting.page.replace("localhost", "foreign.example.com").removesuffix("/page.html")) == 3


def check_foreign_tags(seen: Seen) -> None:
    """A tag sends no Origin and tells whether there was an answer: it tells the same for any name."""
    found = seen.of("foreign")
    assert (found["there"], found["missing"]) == ("failed", "failed")


async def check_curl(setting: Setting) -> None:
    """The same by curl over HTTP/2 with TLS: start, watch by eleven, abort, complete, violations, refusals."""

    async def ask(method: str, message: object, *more: str, seconds: float = 20.0) -> Reply:
        stream = method.endswith("/WatchExecution")
        body = enveloped(message) if stream else json.dumps(message).encode()
        at = f"https://localhost:{setting.secure.port}{PACKAGE}{method}"
        kind = STREAM if stream else JSON
        return await curl(at, *kind, "--cacert", str(setting.certificate.authority), *more, body=body, seconds=seconds)

    started = await ask("ExecutionService/StartExecution", {"workflow": "asks", "input": '{"count": 1}'})
    assert (started.status, started.version) == (200, "2")
    id = started.json["execution"]["id"]
    await setting.system.until(id, lambda change: change.attempt_moved.delegated)
    whole = {"executionId": id, "fromFirstChange": True}
    watchers = [asyncio.create_task(ask("ExecutionService/WatchExecution", whole)) for _ in range(11)]
    await ask("ExecutionService/WatchExecution", whole, seconds=1.0)
    await until(lambda: setting.watches(id, "CANCELLED") > 0)
    assert state_of(await setting.system.get(id)) == "RUNNING"
    waiting = await ask("ActionService/ListActionExecutions", {"executionId": id, "filter": "delegated=true"})
    (action,) = waiting.json["actionExecutions"]
    answer = {"actionExecutionId": action["id"], "outcome": "COMPLETION_OUTCOME_SUCCEEDED", "result": "1"}
    assert (await ask("ActionService/CompleteAction", answer)).status == 200
    for reply in await asyncio.gather(*watchers):
        changes = [change for each in messages_of(reply.frames) for change in each["changes"]["changes"]]
        assert [int(change["sequence"]) for change in changes] == list(range(1, len(changes) + 1))
        assert changes[-1]["executionMoved"]["state"] == "EXECUTION_STATE_SUCCESS"
    wrong = await ask("ExecutionService/StartExecution", {"input": "[1"})
    (violations,) = [each["debug"]["fieldViolations"] for each in wrong.json["details"] if "BadRequest" in each["type"]]
    assert [each["field"] for each in violations] == ["workflow", "input"]
    for header in ("host: rebound.example.com", "origin: http://foreign.example.com"):
        refused = await ask("ExecutionService/StartExecution", {"workflow": "asks"}, "-H", header)
        assert (refused.status, refused.json["code"]) == (403, "permission_denied")
