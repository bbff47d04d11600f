"""What undoes a task, and what a failure sets off."""

from __future__ import annotations

from dalsegno.definitions import reverts
from dalsegno.definitions.calls import Callee
from dalsegno.definitions.mistral.calls import read_call
from dalsegno.definitions.mistral.policies import read_retry
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.problems import Path
from dalsegno.workflow.model import Revert, Strategy
from dalsegno.workflow.scope import Template


def read_revert(reader: Reader, value: object, path: Path) -> Revert | None:
    """Read `revert` of a task or of task-defaults."""
    written = reverts.read_revert(reader, value, path)
    if written is None:
        return None
    keys = written.keys
    action, given = read_call(reader, Callee.REVERT, keys["action"], written.action_path, keys, path)

    def integer(key: str) -> Template | None:
        return reader.integer(keys[key], (*path, key)) if key in keys else None

    revert = Revert(
        action=action or reader.template("", path),
        input=given,
        when=written.when,
        retry=read_retry(reader, keys["retry"], (*path, "retry")) if "retry" in keys else None,
        timeout_s=integer("timeout") if keys.get("timeout") else None,
        safe_rerun=reader.boolean(keys["safe-rerun"], (*path, "safe-rerun")) if "safe-rerun" in keys else None,
        target=_read_target(reader, keys["target"], (*path, "target")) if "target" in keys else None,
        publish=reader.mapping_template(keys["publish"], (*path, "publish")) if "publish" in keys else None,
        concurrency=integer("concurrency"),
    )
    return None if action is None else revert


def _read_target(reader: Reader, value: object, path: Path) -> Template | None:
    text = reader.target(value, path)
    return None if text is None else reader.template(text, path)


def compile_strategy(reader: Reader, written: reverts.OnFailure) -> Strategy | None:
    """Compile what a failure sets off; None if nothing is reverted."""
    if not written.to:
        return None
    delay_s = None if written.delay is None else reader.integer(written.delay, (*written.path, "delay"))
    return Strategy(written.to, written.then, written.count, delay_s)
