"""The policies of a task, such as retry and timeout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX, read_inline
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.problems import Path, shown
from dalsegno.workflow.model import Policies, Retry
from dalsegno.workflow.scope import Template

POLICY_KEYS = (
    "retry",
    "wait-before",
    "wait-after",
    "timeout",
    "pause-before",
    "concurrency",
    "fail-on",
)

_RETRY_KEYS = ("count", "delay", "break-on", "continue-on")

NO_POLICIES = Policies()


def read_policies(reader: Reader, data: Mapping[str, Any], path: Path) -> Policies:
    """Read the policies of a task or of task-defaults. A value of 0 or false means none."""
    if not any(key in data for key in POLICY_KEYS):
        return NO_POLICIES

    def integer(key: str) -> Template | None:
        template = reader.integer(data[key], (*path, key)) if key in data else None
        return template if data.get(key) else None

    def boolean(key: str) -> Template | None:
        template = reader.boolean(data[key], (*path, key)) if key in data else None
        return template if data.get(key) else None

    return Policies(
        pause_before=boolean("pause-before"),
        wait_before_s=integer("wait-before"),
        wait_after_s=integer("wait-after"),
        timeout_s=integer("timeout"),
        retry=read_retry(reader, data["retry"], (*path, "retry")) if "retry" in data else None,
        fail_on=boolean("fail-on"),
        concurrency=integer("concurrency"),
    )


def merge_policies(own: Policies, defaults: Policies) -> Policies:
    """Return each policy of the task, else that of task-defaults."""
    if defaults is NO_POLICIES:
        return own
    if own is NO_POLICIES:
        return defaults
    return Policies(
        pause_before=own.pause_before or defaults.pause_before,
        wait_before_s=own.wait_before_s or defaults.wait_before_s,
        wait_after_s=own.wait_after_s or defaults.wait_after_s,
        timeout_s=own.timeout_s or defaults.timeout_s,
        retry=own.retry or defaults.retry,
        fail_on=own.fail_on or defaults.fail_on,
        concurrency=own.concurrency or defaults.concurrency,
    )


def read_retry(reader: Reader, value: object, path: Path) -> Retry | None:
    """Read a mapping of count, delay, break-on and continue-on, or the same in one line."""
    if isinstance(value, str) and value:
        inline = read_inline(value) if len(value) <= INLINE_LENGTH_MAX else None
        data = inline.parameters if inline else {}
        if inline and data:  # here the first parameter has no other name before it
            reader.warn_of_unparsed("" if inline.name in data else inline.name, path)
            reader.warn_of_unparsed(inline.unparsed, path)
    elif isinstance(value, dict):
        data = value
    else:
        reader.fault(path, f"must be a mapping or one line of text, not {shown(value)}", "retry: count=3 delay=1")
        return None
    reader.known_keys(data, _RETRY_KEYS, path, "retry")
    for key in ("count", "delay"):
        if key not in data:
            reader.fault(path, f"`{key}` is missing", "retry: count=3 delay=1")
    count = reader.integer(data["count"], (*path, "count")) if "count" in data else None
    delay_s = reader.integer(data["delay"], (*path, "delay")) if "delay" in data else None
    break_on = reader.expression(data["break-on"], (*path, "break-on")) if "break-on" in data else None
    continue_on = reader.expression(data["continue-on"], (*path, "continue-on")) if "continue-on" in data else None
    if count is None or delay_s is None:
        return None
    return Retry(count, delay_s, break_on, continue_on)
