"""The files of a StackStorm pack that are not workflows: their kinds, and the names of workflows in them.

A pack has its workflows in `actions/workflows/` without a name. The name is in the metadata of the action that
runs the workflow: a file in `actions/` whose `entry_point` is the path of the workflow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

_RUNNER = re.compile(r"^runner_type\s*:", re.MULTILINE)
_WORKFLOW_RUNNERS = ("orquesta", "mistral-v2")
_METADATA_CHARACTERS_MAX = 64 * 1024

_KINDS = (
    ({"class_name", "entry_point"}, "a sensor"),
    ({"trigger", "action"}, "a rule"),
    ({"action_ref", "formats"}, "an alias"),
    ({"policy_type", "resource_ref"}, "a policy"),
    ({"name", "author", "email"}, "a pack"),
)
"""The kinds of files, except metadata of actions, by their keys."""


@dataclass(frozen=True, slots=True)
class ActionFile:
    """The metadata of an action that runs a workflow."""

    file: str
    name: str
    """pack.name, or only the name if the pack is unknown."""
    entry_point: str

    def is_of(self, file: str) -> bool:
        """Return whether the file contains its workflow: the entry point is relative to the metadata's folder."""
        expected = PurePosixPath(self.file).parent / self.entry_point
        return PurePosixPath(file) == expected


def explain_metadata(data: object) -> tuple[str, str] | None:
    """Return the description of a StackStorm file that is not a workflow, with a hint; None for other documents."""
    if not isinstance(data, dict) or any(key in data for key in ("tasks", "workflows", "actions")):
        return None
    runner, name = data.get("runner_type"), data.get("name")
    if isinstance(runner, str) and isinstance(data.get("entry_point", ""), str):
        told = f"this is StackStorm's metadata of the action `{str(name)[:255]}`, not a workflow"
        if runner not in _WORKFLOW_RUNNERS:
            return (
                told,
                f"its runner is {runner[:255]}: what it runs is no workflow; an executor can offer it as an action",
            )
        pack = data["pack"] if isinstance(data.get("pack"), str) else "pack"
        return (
            told,
            f"its workflow is in {data.get('entry_point', '')[:255]}: give that file, with --name {pack}.{name}",
        )
    for keys, kind in _KINDS:
        if keys <= data.keys():
            return f"this is StackStorm's metadata of {kind}, not a workflow", "leave it out"
    return None


def read_action_file(text: str, file: str) -> ActionFile | None:
    """Return the metadata of an action that runs a workflow; None for other files."""
    if len(text) > _METADATA_CHARACTERS_MAX or _RUNNER.search(text) is None:
        return None
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("runner_type") not in _WORKFLOW_RUNNERS:
        return None
    name, entry_point = data.get("name"), data.get("entry_point")
    if not isinstance(name, str) or not isinstance(entry_point, str) or not name or not entry_point:
        return None
    pack = _pack_of(data, file)
    return ActionFile(file, f"{pack}.{name}" if pack else name, entry_point)


def _pack_of(data: Mapping[str, Any], file: str) -> str:
    """Return the pack in the metadata, else the folder that contains `actions/`."""
    if isinstance(data.get("pack"), str):
        return str(data["pack"])
    folders = PurePosixPath(file).parts[:-1]
    return folders[-2] if len(folders) > 1 and folders[-1] == "actions" else ""
