"""Secrets through real services: 60 are planted, and nothing that the services write has one of them in clear."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from tests.endpoints import Endpoint
from tests.ports import free_port
from tests.processes import System, state_of

from dalsegno.secrets.keys import ensure_file
from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_pb2,
    execution_service_pb2,
)
from dalsegno.workflow.secrets import MARK, MASK

MISTRAL = """
version: '2.0'
planted:
  input: [host, password, tree, numbers]
  secrets: [password, tree, numbers, kept]
  reveal: [length]
  vars: {kept: <% $.password + '-kept' %>}
  output: {url: <% $.url %>, length: <% $.length %>, child: <% $.child %>, kept: <% $.kept %>}
  tasks:
    plain: {action: std.echo, input: {output: <% $.password %>}, on-success: [made]}
    made:
      action: std.echo
      input: {output: {url: "https://anna:<% $.password %>@<% $.host %>", basic: <% $.password %>, deep: <% $.tree %>}}
      publish: {url: <% task().result.url %>, length: <% $.password.len() %>}
      publish-on-error: {url: none}
      on-success: [items]
    items: {with-items: n in <% $.numbers %>, action: std.echo output=<% $.n %>, on-success: [fetch]}
    fetch: {action: std.echo, secret: true, input: {output: <% env().token %>}, on-success: [child]}
    child:
      workflow: below
      input: {given: <% task(fetch).result %>, own: <% $.password + '-own' %>}
      publish: {child: <% task().result %>}
      on-success: [asked]
    asked: {action: std.http, input: {url: <% $.host + '/echo/' + $.password %>}, on-complete: [bad]}
    bad: {action: std.fail, input: {error_data: {said: <% $.password %>}}, on-error: [noop]}
below:
  input: [given, own]
  output: {made: <% $.given + $.own %>}
  tasks:
    t: {action: std.echo, input: {output: <% $.own %>}}
"""

ORQUESTA = """
version: 1.0
name: sown
input: [host, password, tree]
secrets: [password, tree]
reveal: [length]
vars: [{kept: <% ctx().password + '-kept' %>}]
output: [{url: <% ctx().url %>}, {length: <% ctx().length %>}, {stored: <% ctx().stored %>}]
tasks:
  made:
    action: std.echo
    input: {output: "https://anna:{{ ctx().password }}@{{ ctx().host }}"}
    next:
      - when: <% succeeded() and ctx().password.len() > 6 %>
        publish: [{url: <% result() %>}, {length: <% ctx().password.len() %>}, {stored: <% st2kv('system.token') %>}]
        do: items
  items: {with: <% ctx().tree %>, action: std.echo, input: {output: <% item() %>}, next: [{do: bad}]}
  bad: {action: std.fail, input: {error_data: <% ctx().kept %>}, next: [{when: <% failed() %>, do: noop}]}
"""


class Planted:
    """The secrets that a test has given to the services."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def plant(self, name: str) -> str:
        """Return a new secret: with characters that base64, JSON and URLs write differently."""
        text = f'{name} "{len(self.texts):03d}" ö+/?&'
        self.texts.append(text)
        return text

    def number(self) -> int:
        """Return a new secret number."""
        number = 730_000_001 + 7_919 * len(self.texts)
        self.texts.append(str(number))
        return number

    def found_in(self, text: str) -> list[str]:
        """Return the secrets that are in a text, in clear, in JSON, percent-encoded or in base64."""
        return [each for each in self.texts if any(form in text for form in self._forms(each))]

    @staticmethod
    def _forms(text: str) -> Iterator[str]:
        for form in (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text)):
            yield form
            yield json.dumps(form)[1:-1]
        for offset in range(3):
            yield base64.b64encode(b"x" * offset + text.encode()).decode()[4:-4]


def messages_text(messages: list[Message]) -> str:
    """Return everything that messages say, as clients see it."""
    return "\n".join(MessageToJson(each, ensure_ascii=False) for each in messages)


async def read_everything(system: System, execution_ids: list[str]) -> str:
    """Return what every read tells about these executions and their children."""
    found: list[Message] = []
    everything = execution_service_pb2.ListExecutionsRequest(full=True)
    listed = (await system.executions.ListExecutions(everything, timeout=30)).executions
    found += listed
    assert {each.id for each in listed} >= set(execution_ids)
    for each in listed:
        found += await system.tasks(each.id)
        found += await system.attempts(each.id)
        found += await system.journal(each.id)
        found.append(await system.get(each.id))
        for field in ("input", "output", "params", "errors"):
            request = execution_service_pb2.ReadValueRequest(execution_id=each.id, field=field)
            async for piece in system.executions.ReadValue(request, timeout=30):
                found.append(piece)
    environments = environment_service_pb2.ListEnvironmentsRequest(full=True)
    found.append(await system.environments.ListEnvironments(environments, timeout=30))
    return messages_text(found)


def keyed(folder: Path) -> tuple[str, ...]:
    """Return the options of an engine with a key of secrets, and metrics."""
    ensure_file(folder / "secrets.key")
    return ("--secret-keys", str(folder / "secrets.key"))


async def put_environment(system: System, name: str, variables: Mapping[str, object], *secrets: str) -> Any:
    """Store an environment of which these variables are secrets."""
    request = environment_service_pb2.PutEnvironmentRequest(name=name, variables=json.dumps(variables), secrets=secrets)
    return (await system.environments.PutEnvironment(request, timeout=30)).environment


async def sow(system: System, planted: Planted, url: str) -> list[execution_pb2.Execution]:
    """Run workflows of both languages, and an action, each with secrets of its own. Return how they have ended."""
    hook = {"type": "webhook", "url": f"{url}/echo/hook", "event_types": ["WORKFLOW_SUCCEEDED"]}
    given = {
        "host": url,
        "password": planted.plant("password"),
        "tree": {"a": planted.plant("leaf"), "b": [planted.plant("twig"), planted.number()]},
        "numbers": [planted.number(), planted.plant("item")],
    }
    params = json.dumps({"notify": [hook]})
    first = await system.run(
        "planted", given, environment="staging", params=params, request_id=f"start {len(planted.texts)}"
    )
    assert json.loads(first.output)["length"] == len(str(given["password"]))
    tree = [planted.plant("a"), planted.plant("b"), {"c": planted.plant("c")}]
    second = await system.run("sown", {"host": "example.com", "password": planted.plant("sown"), "tree": tree})
    # Named by the request alone: an input that the workflow does not call a secret, and a variable of an environment.
    params = json.dumps({"env": {"token": planted.plant("inline")}})
    named = {"given": planted.plant("named"), "own": "x"}
    third = await system.run("below", named, params=params, secrets=["given", "token"])
    request = action_service_pb2.RunActionRequest(
        action="std.echo", input=json.dumps({"output": planted.plant("alone")}), secrets=["output"]
    )
    started = (await system.actions.RunAction(request, timeout=30)).action_execution
    await system.actions.WaitAction(action_service_pb2.WaitActionRequest(action_execution_id=started.id), timeout=30)
    return [first, second, third]


async def test_planted_secrets_are_nowhere_in_clear(tmp_path: Path) -> None:
    """50 secrets in inputs, variables, environments, items, results, errors, sub-workflows and notices of both
    languages: store, logs, metrics and all reads have none of them, and each action has had its own."""
    planted, metrics = Planted(), free_port()
    engine = (*keyed(tmp_path), "--metrics-port", str(metrics))
    async with Endpoint() as endpoint, System(tmp_path / "system", engine=engine) as system:
        await system.define(MISTRAL)
        await system.define(ORQUESTA)
        variables = {"token": planted.plant("token"), "region": "north"}
        environment = await put_environment(system, "staging", variables, "token")
        assert environment.secrets == ["token"]
        assert json.loads(environment.variables) == {"token": MASK, "region": "north"}
        await put_environment(system, "system", {"token": planted.plant("stored")}, "token")
        ended = [each for _ in range(4) for each in await sow(system, planted, endpoint.url)]
        assert len(planted.texts) >= 50
        assert [state_of(each) for each in ended] == ["SUCCESS"] * len(ended), [each.state_info for each in ended]
        assert all(json.loads(each.output).get("url", MASK) == MASK for each in ended)

        read = await read_everything(system, [each.id for each in ended])
        assert MASK in read
        assert MARK not in read
        assert planted.found_in(read) == []
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
            assert planted.found_in(await answer.text()) == []
        for service in reversed(system.services):
            service.stop()
        check_files(tmp_path / "system", planted)
        assert any("/hook" in path for path in endpoint.calls)
        assert any('password "' in path for path in endpoint.calls), "an executor gets what it needs"
        assert system.findings() == []


def check_files(folder: Path, planted: Planted) -> None:
    """Fail the test if a file has a secret in clear."""
    written = {file.name: file.read_bytes().decode("utf-8", "replace") for file in folder.iterdir() if file.is_file()}
    assert {"store.db", "engine.log", "executor.log", "api.log"} <= written.keys()
    assert MARK in written["store.db"]
    assert {name: found for name, text in written.items() if (found := planted.found_in(text))} == {}


async def test_an_environment_keeps_a_secret_that_nobody_types_again(tmp_path: Path) -> None:
    """PutEnvironment with the name of a secret and without its value keeps it; a name without either is refused."""
    async with System(tmp_path / "system", engine=keyed(tmp_path)) as system:
        await system.define(MISTRAL)
        await put_environment(system, "staging", {"token": "first-token", "region": "north"}, "token")
        stored = await put_environment(system, "staging", {"region": "south"}, "token")
        assert json.loads(stored.variables) == {"token": MASK, "region": "south"}
        with pytest.raises(grpc.aio.AioRpcError, match="has no secret, and no variable, other"):
            await put_environment(system, "staging", {}, "other")
        with pytest.raises(grpc.aio.AioRpcError, match="is how secrets are shown"):
            await put_environment(system, "staging", {"token": MASK}, "token")


async def test_an_engine_without_a_key_refuses_secrets(tmp_path: Path) -> None:
    """It says what to do; and an engine that has lost the key of its store does not start."""
    async with System(tmp_path / "system") as system:
        await system.define(MISTRAL)
        given = {"host": "x", "password": "p", "tree": {}, "numbers": []}
        with pytest.raises(grpc.aio.AioRpcError, match="start it with --secret-keys FILE") as refused:
            await system.run("planted", given)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError, match="start it with --secret-keys FILE"):
            await put_environment(system, "staging", {"token": "x"}, "token")

        system.engine.stop()
        system.engine.arguments += keyed(tmp_path)
        await system.engine.start()
        await put_environment(system, "staging", {"token": "x"}, "token")
        system.engine.stop()
        system.engine.arguments = system.engine.arguments[:-2]
        system.engine.launch()
        with pytest.raises(AssertionError, match="this store has secrets"):
            await system.engine.wait_ready()
