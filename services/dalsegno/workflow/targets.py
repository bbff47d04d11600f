"""The target of a task: which executors may run its actions, by name or by their labels.

worker-1                        the executor of this name, or with a label of this value
zone=north                      with this label; `==` is the same
zone!=north                     without this label
zone in (north, east)           with one of these values; `notin`: with none of them
gpu=*                           with any value of the label; `!gpu`: without the label
zone=north, gpu=*, disk!=hdd    all of them
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

ANY = "*"

_NAME = r"[\w./-]{1,63}"
_TERM = re.compile(
    rf"!\s*(?P<absent>{_NAME})"
    rf"|(?P<key>{_NAME})\s*(?P<sign>==|!=|=)\s*(?P<value>[^=!()]*)"
    rf"|(?P<set>{_NAME})\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<name>(?!\S+\s+(?:in|notin)\b)[^=!()]+)",
    re.ASCII,
)
_FORMS = "it is a name, or label=value, label!=value, label in (a, b), label notin (a, b), !label, joined by commas"


class UnfitTarget(ValueError):
    """A target that is not of the form; the message says which part."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on an executor."""

    label: str
    """Empty: the value is the name of the executor, or the value of any label."""
    values: tuple[str, ...]
    """One of them, or `*` for any; empty: the label is absent."""
    is_negated: bool = False

    def holds(self, executor_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether an executor meets it."""
        if not self.label:
            return executor_id in self.values or any(each in self.values for each in labels.values())
        value = labels.get(self.label)
        if not self.values:
            return value is None
        return (value is not None and (value in self.values or ANY in self.values)) != self.is_negated


@lru_cache(maxsize=4096)
def parse_target(text: str) -> tuple[Term, ...]:
    """Return the conditions of a target, all of which must hold; none for an empty one. Raises UnfitTarget."""
    if not text:
        return ()
    return tuple(_parse_term(text, part.strip()) for part in re.split(r",(?![^()]*\))", text))


def is_meant(target: str, executor_id: str, labels: Mapping[str, str]) -> bool:
    """Return whether a target means this executor. An unfit one means an executor of exactly this name."""
    if not target or target == executor_id or target in labels.values():
        return True
    try:
        return all(term.holds(executor_id, labels) for term in parse_target(target))
    except UnfitTarget:
        return False


def _parse_term(text: str, part: str) -> Term:
    found = _TERM.fullmatch(part)
    if found is None:
        raise UnfitTarget(f"{part!r} is no target: {_FORMS}" if part else f"a part of {text!r} is empty: {_FORMS}")
    if found["absent"]:
        return Term(found["absent"], ())
    if found["key"]:
        return Term(found["key"], (found["value"].strip(),), found["sign"] == "!=")
    if found["set"]:
        values = tuple(each.strip() for each in found["values"].split(","))
        if "" in values:
            raise UnfitTarget(f"{part!r} has an empty value: {_FORMS}")
        return Term(found["set"], values, found["word"] == "notin")
    return Term("", (found["name"],))
