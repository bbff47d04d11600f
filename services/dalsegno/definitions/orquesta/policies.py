"""The policies of a task and of its revert: retries, and whether a lost action may run again."""

from __future__ import annotations

from dalsegno.definitions.orquesta.parts import Reference, Retries
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Path, shown

_RETRY_KEYS = dict.fromkeys(("count", "when", "delay"))


def read_safe_rerun(reader: Reader, value: object, path: Path) -> tuple[Reference, ...]:
    """Read whether an action may run again after the loss of its executor: true, false or an expression."""
    if isinstance(value, str) and value:
        return reader.references(value, path)
    if not isinstance(value, bool):
        reader.fault(path, f"must be true, false or an expression, not {shown(value)}")
    return ()


def read_retry(reader: Reader, value: object, path: Path) -> Retries | None:
    """Read `retry`. Like Orquesta, this does not check whether its variables are assigned."""
    if not isinstance(value, dict):
        reader.fault(path, f"must be a mapping of count, when and delay, not {shown(value)}", "count: 3")
        return None
    reader.known_keys(value, _RETRY_KEYS, path, "retry")
    if "count" not in value:
        reader.fault(path, "`count` is missing", "count: 3")
    for key in ("count", "delay"):
        if key in value:
            reader.number(value[key], (*path, key))
    if "when" in value:
        read_condition(reader, value["when"], (*path, "when"))
    when = value.get("when")
    return Retries(path, value.get("count", 0), when if isinstance(when, str) else None, value.get("delay"))


def read_condition(reader: Reader, value: object, path: Path) -> tuple[Reference, ...]:
    """Return the references of a condition."""
    text = reader.text(value, path)
    return () if text is None else reader.references(text, path)
