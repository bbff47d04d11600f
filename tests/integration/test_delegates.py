"""Delegates over the wire: how third parties get an address, complete, sign and stay heard (P7-P16, P23-P26)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.stage import Stage
from tests.processes import System

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("delegates")]

ADDRESS = "https://flows.example.com"

WORKFLOWS = """
version: '2.0'
mistral_urls:
  output: {told: <% $.told %>}
  tasks:
    yaql: {action: test.act, input: {give: 1, url: <% callback_url() %>, line: "POST <% callback_url() %> now"},
           publish: {told: <% callback_url() %>}, on-success: [jinja]}
    jinja: {action: test.act, input: {give: 2, url: "{{ callback_url() }}", deep: [{a: "{{ callback_url() }}"}]},
            on-success: [many]}
    many: {with-items: "n in <% [1, 2] %>", action: test.act, input: {give: <% $.n %>, url: <% callback_url() %>}}
"""
ORQUESTA = """
version: 1.0
name: orquesta_urls
output: [{told: <% ctx().told %>}]
tasks:
  yaql: {action: test.act, input: {give: 1, url: <% callback_url() %>, line: "POST <% callback_url() %> now"},
         next: [{publish: [{told: <% callback_url() %>}], do: jinja}]}
  jinja: {action: test.act, input: {give: 2, url: "{{ callback_url() }}", deep: [{a: "{{ callback_url() }}"}]},
          next: [{do: many}]}
  many: {with: "n in <% [1, 2] %>", action: test.act, input: {give: <% item(n) %>, url: <% callback_url() %>}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The services, with an address for third parties."""
    async with System(tmp_path_factory.mktemp("system"), engine=("--public-url", f"{ADDRESS}/")) as running:
        await running.define(WORKFLOWS)
        await running.define(ORQUESTA)
        yield running


@pytest.mark.parametrize("language", ["mistral", "orquesta"])
async def test_the_address_takes_the_place_of_the_mark_when_the_action_is_handed_out(
    stage: Stage, language: str
) -> None:
    """Each action gets its own address, with its own token, wherever callback_url() stands in its input (P23)."""
    scene = await stage.open("urls", language, held={"yaql", "jinja", "many"})
    run = await stage.has(scene, "yaql")
    given = json.loads(run.input)
    assert given["url"] == run.callback_url == f"{ADDRESS}/hooks/token/{run.task_token}"
    assert given["line"] == f"POST {run.callback_url} now"
    await stage.release(scene, "yaql")
    second = await stage.has(scene, "jinja")
    assert second.callback_url != run.callback_url
    given = json.loads(second.input)
    assert given["url"] == given["deep"][0]["a"] == second.callback_url == f"{ADDRESS}/hooks/token/{second.task_token}"
    await stage.release(scene, "jinja")
    items = [await stage.has(scene, "many", item) for item in (0, 1)]
    assert [json.loads(each.input)["url"] for each in items] == [each.callback_url for each in items]
    assert items[0].callback_url != items[1].callback_url
    for item in (0, 1):
        await stage.release(scene, "many", item)
    execution = await stage.rests(scene)
    assert json.loads(execution.output)["told"].startswith("dalsegno:callback-url:")
    assert run.signing_key.startswith("whsec_")
    assert len(base64.b64decode(run.signing_key.removeprefix("whsec_"), validate=True)) == 32
