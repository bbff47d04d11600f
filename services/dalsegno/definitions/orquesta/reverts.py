"""Checkpoints, and what undoes a task: what is read of them, and the references to variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dalsegno.definitions import checkpoints, reverts
from dalsegno.definitions.orquesta.calls import read_call
from dalsegno.definitions.orquesta.parts import ReadRevert, Reference
from dalsegno.definitions.orquesta.policies import read_retry, read_safe_rerun
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Path


def read_checkpoint(
    reader: Reader, task: Mapping[str, Any], path: Path
) -> tuple[checkpoints.WrittenCheckpoint | None, tuple[Reference, ...]]:
    """Read the checkpoint of a task."""
    written = checkpoints.read_checkpoint(reader, task, path)
    if written is None:
        return None, ()
    references = reader.references(written.data, (*path, "checkpoint", "data"))
    if written.delay is not None:
        references += reader.number(written.delay, (*path, "checkpoint", "delay"))
    return written, references


def read_revert(
    reader: Reader, task: Mapping[str, Any], task_path: Path
) -> tuple[ReadRevert | None, tuple[Reference, ...]]:
    """Read `revert` of a task."""
    path = (*task_path, "revert")
    written = reverts.read_revert(reader, task["revert"], path) if "revert" in task else None
    if written is None:
        return None, ()
    keys = written.keys
    call, references = read_call(reader, keys, path, written.action_path)
    for key in ("timeout", "concurrency"):
        if key in keys:
            references += reader.number(keys[key], (*path, key))
    if "safe-rerun" in keys:
        references += read_safe_rerun(reader, keys["safe-rerun"], (*path, "safe-rerun"))
    if "target" in keys:
        reader.target(keys["target"], (*path, "target"))
        references += reader.references(keys["target"], (*path, "target"))
    if "publish" in keys:
        reader.mapping(keys["publish"], (*path, "publish"))
        references += reader.references(keys["publish"], (*path, "publish"))
    retry = read_retry(reader, keys["retry"], (*path, "retry")) if "retry" in keys else None
    return ReadRevert(call, retry, keys, path, written.when), references
