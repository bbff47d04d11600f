"""Stories of the core: who is told over the web."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.world import HOLD, Played, World, task

from dalsegno.workflow.events import CancelRequested, PauseRequested, ResumeRequested
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.running.notices import EVENT_TYPES

CHAIN = """
version: '2.0'
wf:
  output: {sum: <% $.a %>}
  tasks:
    t1: {action: std.echo output=1, publish: {a: <% task().result %>}, on-success: t2}
    t2: {action: std.noop}
"""

HOOK = "https://example.com/hook"


UNFIT_HEADERS: tuple[object, ...] = (["X"], {"X": "a\nb"}, {"": "a"}, {"X": {}})


def webhook(*event_types: str, **more: object) -> dict[str, object]:
    """A receiver of these events, or of all."""
    return {"type": "webhook", "url": HOOK, "event_types": list(event_types or EVENT_TYPES), **more}


def world(text: str = CHAIN, **settings: Any) -> World:
    """A world that knows the definitions."""
    made = World(**settings)
    made.define(text)
    return made


def payloads(here: World) -> list[Mapping[str, Any]]:
    """What the receivers were told, in order."""
    told = [notice.payload.data for notice in here.notices]
    assert all(isinstance(each, dict) for each in told)
    return told  # type: ignore[return-value]


def events(here: World) -> list[str]:
    """The events, and the name of the task or workflow that each is about."""
    return [f"{each['event']} {each['name']}" for each in payloads(here)]


def test_a_run_is_told_from_its_launch_to_its_success() -> None:
    """Each event once, in the order in which they happened, with the state that was reached."""
    here = world()
    execution = here.start("wf", params={"notify": [webhook(headers={"X-Score": 17})]})
    here.run()

    assert events(here) == [
        "WORKFLOW_LAUNCHED wf",
        "TASK_LAUNCHED t1",
        "TASK_SUCCEEDED t1",
        "TASK_LAUNCHED t2",
        "TASK_SUCCEEDED t2",
        "WORKFLOW_SUCCEEDED wf",
    ]
    first, _, third, *_, last = payloads(here)
    assert (first["id"], first["state"], first["state_info"]) == (execution.id, "RUNNING", None)
    assert (third["id"], third["workflow_execution_id"]) == (f"{execution.id}.1", execution.id)
    assert (last["state"], last["output"]) == ("SUCCESS", {"sum": 1})
    assert "output" not in first
    assert [each["revision"] for each in payloads(here)] == sorted(each["revision"] for each in payloads(here))
    assert {notice.url for notice in here.notices} == {HOOK}
    assert {notice.headers["X-Score"] for notice in here.notices} == {"17"}
    assert len({notice.id for notice in here.notices}) == len(here.notices)


def test_each_receiver_is_told_of_its_own_events() -> None:
    """A list of event types chooses; noop is told of nothing."""
    here = world()
    receivers = [
        webhook("WORKFLOW_SUCCEEDED", url="https://example.com/one"),
        webhook("TASK_SUCCEEDED", "WORKFLOW_SUCCEEDED", url="https://example.com/two"),
        webhook(),
        {"type": "noop", "event_types": ["WORKFLOW_SUCCEEDED"]},
    ]
    here.start("wf", params={"notify": receivers})
    here.run()

    told: dict[str, list[str]] = {}
    for notice, payload in zip(here.notices, payloads(here), strict=True):
        told.setdefault(notice.url, []).append(payload["event"])
    assert told["https://example.com/one"] == ["WORKFLOW_SUCCEEDED"]
    assert told["https://example.com/two"] == ["TASK_SUCCEEDED", "TASK_SUCCEEDED", "WORKFLOW_SUCCEEDED"]
    assert len(told[HOOK]) == 6
    assert len(told) == 3


def test_without_receivers_nobody_is_told() -> None:
    """Neither without the parameter nor with an empty list."""
    here = world()
    here.start("wf")
    here.start("wf", params={"notify": []})
    here.run()
    assert here.notices == []


def test_a_failure_says_why() -> None:
    """Of the task and of the workflow."""

    def fail(execution: Execution, attempt: Attempt) -> Played:
        return Played("failed", error="out of tune")

    here = world(player=fail)
    here.start("wf", params={"notify": [webhook("TASK_FAILED", "WORKFLOW_FAILED")]})
    here.run()

    failed, ended = payloads(here)
    assert (failed["event"], failed["name"], failed["state_info"]) == ("TASK_FAILED", "t1", "out of tune")
    assert ended["event"] == "WORKFLOW_FAILED"
    assert "out of tune" in ended["state_info"]


def test_retries_are_one_run_of_the_task() -> None:
    """It was launched once and ended once, however many attempts it took."""
    outcomes = [Played("failed", error="no"), Played("failed", error="no"), Played()]
    text = "{version: '2.0', wf: {tasks: {t: {action: std.noop, retry: {count: 3, delay: 1}}}}}"
    here = world(text, player=lambda execution, attempt: outcomes[attempt.key[2] - 1])
    here.start("wf", params={"notify": [webhook()]})
    here.run()
    assert events(here) == ["WORKFLOW_LAUNCHED wf", "TASK_LAUNCHED t", "TASK_SUCCEEDED t", "WORKFLOW_SUCCEEDED wf"]


def test_waits_are_not_told() -> None:
    """A task that waits before is launched when it runs, one that waits after has ended when the wait has."""
    text = "{version: '2.0', wf: {tasks: {t: {action: std.noop, wait-before: 5, wait-after: 7}}}}"
    here = world(text)
    execution = here.start("wf", params={"notify": [webhook("TASK_LAUNCHED", "TASK_SUCCEEDED")]})
    here.run()
    began, ended = payloads(here)
    assert (began["event"], ended["event"]) == ("TASK_LAUNCHED", "TASK_SUCCEEDED")
    assert task(execution, "t").ended_s == here.now_s == execution.created.at_s + 12


def test_a_pause_is_told_when_it_is_quiet() -> None:
    """Not when it was asked for; the way back is RESUMED. A cancel is told when it is through."""
    here = world(player=lambda execution, attempt: HOLD)
    execution = here.start(
        "wf", params={"notify": [webhook("WORKFLOW_PAUSED", "WORKFLOW_RESUMED", "WORKFLOW_CANCELLED")]}
    )
    here.run()
    here.tell(execution.id, PauseRequested(at_s=here.now_s))
    assert (execution.state, events(here)) == ("PAUSING", [])

    (attempt,) = here.held.values()
    here.finish(execution, attempt, Played())
    assert (execution.state, events(here)) == ("PAUSED", ["WORKFLOW_PAUSED wf"])

    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    here.tell(execution.id, CancelRequested(at_s=here.now_s))
    assert events(here) == ["WORKFLOW_PAUSED wf", "WORKFLOW_RESUMED wf", "WORKFLOW_CANCELLED wf"]


def test_children_tell_the_same_receivers() -> None:
    """`notify` is inherited; the child's payload names its parent's task and the root."""
    text = """
version: '2.0'
wf:
  tasks:
    call: {workflow: inner}
inner:
  tasks:
    t: {action: std.noop}
"""
    here = world(text)
    execution = here.start("wf", params={"notify": [webhook("WORKFLOW_LAUNCHED", "WORKFLOW_SUCCEEDED")]})
    here.run()

    assert events(here) == [
        *("WORKFLOW_LAUNCHED wf", "WORKFLOW_LAUNCHED inner", "WORKFLOW_SUCCEEDED inner", "WORKFLOW_SUCCEEDED wf")
    ]
    outer, inner, *_ = payloads(here)
    assert (outer["task_execution_id"], outer["root_execution_id"]) == (None, execution.id)
    assert (inner["task_execution_id"], inner["root_execution_id"]) == (f"{execution.id}.1", execution.id)


@pytest.mark.parametrize(
    ("notify", "wrong"),
    [
        ("https://example.com", {"params.notify"}),
        ([webhook()] * 21, {"params.notify"}),
        (["https://example.com"], {"params.notify[0]"}),
        ([webhook(), {}], {"params.notify[1].type", "params.notify[1].event_types"}),
        ([webhook(type="zaqar")], {"params.notify[0].type"}),
        ([{"type": "webhook", "event_types": []}], {"params.notify[0].url"}),
        (
            [webhook(url="ftp://example.com"), webhook(url="https://"), webhook(url=17), webhook(url="http://a:port")],
            {f"params.notify[{n}].url" for n in range(4)},
        ),
        ([webhook(headers=given) for given in UNFIT_HEADERS], {f"params.notify[{n}].headers" for n in range(4)}),
        ([webhook("WORKFLOW_SUCCEEDED", "TASK_SUCCEDED")], {"params.notify[0].event_types"}),
        ([webhook() | {"event_types": "TASK_FAILED"}], {"params.notify[0].event_types"}),
        ([webhook(event_type=[])], {"params.notify[0].event_type"}),
    ],
)
def test_a_start_with_wrong_receivers_is_refused(notify: object, wrong: set[str]) -> None:
    """Every fault has its path, together with those of the input, and nothing is created."""
    here = world()
    with pytest.raises(InvalidRequest) as refused:
        here.start("wf", {"x": 1}, params={"notify": notify})
    assert {violation.subject for violation in refused.value.violations} == wrong | {"input.x"}
    assert here.executions == {}


REVERTS = """
version: '2.0'
wf:
  on-failure: revert
  tasks:
    t1: {action: std.echo output=1, revert: std.echo output="undone", on-success: t2}
    t2: {action: std.fail}
"""


def test_a_revert_is_told() -> None:
    """Each task that was reverted, then the workflow; the task that failed has nothing to revert."""
    here = world(REVERTS)
    wanted = webhook("TASK_REVERTED", "WORKFLOW_REVERTED", "WORKFLOW_REVERT_ERROR", "WORKFLOW_FAILED")
    execution = here.start("wf", params={"notify": [wanted]})
    here.run()
    assert execution.state == "REVERTED"
    assert events(here) == ["TASK_REVERTED t1", "WORKFLOW_REVERTED wf"]


def test_a_revert_that_fails_is_told() -> None:
    """The end in REVERT_ERROR is an event of its own, with the reason."""
    here = world(REVERTS.replace('std.echo output="undone"', "std.fail"))
    execution = here.start("wf", params={"notify": [webhook("WORKFLOW_REVERTED", "WORKFLOW_REVERT_ERROR")]})
    here.run()
    assert execution.state == "REVERT_ERROR"
    assert events(here) == ["WORKFLOW_REVERT_ERROR wf"]
    assert payloads(here)[0]["state"] == "REVERT_ERROR"
