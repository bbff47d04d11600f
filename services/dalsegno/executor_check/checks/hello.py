"""Hello: who the executor is and what it can do."""

from __future__ import annotations

import json
import re
import uuid

from dalsegno.executor_check.check import Check
from dalsegno.executor_check.scene import REQUIRED, Scene
from dalsegno.executor_check.steps import Connect, Hello

ACTION_BYTES_MAX = 1_000_000
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,63}")


def _find_wrong_identity(scene: Scene) -> str:
    hello = scene.line.hello
    if not 1 <= len(hello.executor_id) <= 255 or "\0" in hello.executor_id:
        return f"executor_id {hello.executor_id[:40]!r}"
    try:
        uuid.UUID(hello.session_id)
    except ValueError:
        return f"session_id {hello.session_id[:40]!r}"
    return ""


def _find_wrong_action(scene: Scene) -> str:
    names = [action.name for action in scene.line.hello.actions]
    if twice := {name for name in names if names.count(name) > 1}:
        return f"twice: {', '.join(sorted(twice))}"
    for action in scene.line.hello.actions:
        if not action.name or "\0" in action.name:
            return f"an action with the name {action.name!r}"
        if action.ByteSize() > ACTION_BYTES_MAX:
            return f"{action.name} has {action.ByteSize():,} bytes"
        parameters = [each.name for each in action.parameters]
        if len(parameters) != len(set(parameters)) or "" in parameters:
            return f"{action.name} has the parameters {parameters}"
        for each in action.parameters:
            try:
                json.loads(each.default or "null")
            except ValueError:
                return f"the default of {action.name}.{each.name} is not JSON: {each.default[:40]}"
    return ""


def _find_wrong_size(scene: Scene) -> str:
    hello = scene.line.hello
    if hello.slots < 1:
        return f"slots: {hello.slots}"
    if hello.credit < 1:
        return f"credit: {hello.credit}"
    if len(hello.labels) > 64:
        return f"{len(hello.labels)} labels"
    wrong = [key for key, value in hello.labels.items() if not _LABEL.fullmatch(key) or len(value) > 255]
    return f"the label {wrong[0]!r}" if wrong else ""


def _find_missing_action(scene: Scene) -> str:
    missing = [scene.names[role] for role in REQUIRED if scene.description_of(role) is None]
    return f"without {', '.join(missing)}" if missing else ""


CHECKS = (
    Check(
        "hello-comes-first",
        'ExecutorService.Connect: "Its first message is Hello, and there is one Hello only."',
        (Connect(),),
    ),
    Check(
        "hello-names-the-executor",
        "Hello: executor_id has 1 to 255 characters, session_id is a UUID in text form.",
        (Hello("an executor_id of 1 to 255 characters, a session_id that is a UUID", _find_wrong_identity),),
    ),
    Check(
        "hello-describes-actions",
        "Hello: each action once, ActionDescription: each parameter once, at most 1,000,000 bytes; Parameter: the "
        "default is JSON text.",
        (Hello("well-formed descriptions", _find_wrong_action),),
    ),
    Check(
        "hello-has-slots",
        "Hello: at least 1 slot, credit to begin with, at most 64 labels of letters, digits and `._-/`.",
        (Hello("slots and credit of at least 1, well-formed labels", _find_wrong_size),),
    ),
    Check(
        "hello-serves-the-check",
        "The check itself: it needs check.echo, check.sleep and check.fail (--action gives other names).",
        (Hello("descriptions of the actions that the check needs", _find_missing_action),),
    ),
)
