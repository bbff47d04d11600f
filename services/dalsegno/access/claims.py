"""What the claims of a token, or the names in a certificate, give to who shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dalsegno.access.grants import Grant, Role

Wanted = str | bool | int
"""What a claim must be, or have among its values."""

GRANTS_MAX = 100
"""The number of grants that are read from one token."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Gives grants to those whose claims are as it says.

    >>> rule = Rule((("groups", ("crew",)), ("realm.id", (7,))), (Grant(Role.VIEWER),))
    >>> [rule.applies_to({"groups": given, "realm": {"id": 7}}) for given in ("crew", ["cooks", "crew"], ["crews"])]
    [True, True, False]
    """

    when: tuple[tuple[str, tuple[Wanted, ...]], ...]
    """Claims, and the values of which each must have one."""
    grants: tuple[Grant, ...]

    def applies_to(self, claims: Mapping[str, Any]) -> bool:
        """Return whether the claims are as the rule says."""
        return all(_has_one(find_claim(claims, name), wanted) for name, wanted in self.when)


def find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim with this name, else the one at the path whose steps dots separate; None if there is neither.

    >>> find_claim({"a.b": 1, "a": {"b": 2, "c": 3}}, "a.b"), find_claim({"a": {"c": 3}}, "a.c"), find_claim({}, "a.b")
    (1, 3, None)
    """
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found


def given_by(rules: Iterable[Rule], claims: Mapping[str, Any]) -> tuple[Grant, ...]:
    """Return the grants of all rules that apply, each once. Without one: nothing."""
    found = (grant for rule in rules if rule.applies_to(claims) for grant in rule.grants)
    return tuple(dict.fromkeys(found))


def named_by(claims: Mapping[str, Any], name: str) -> tuple[Grant, ...]:
    """Return the grants that a claim itself names, `ROLE@PATTERN` each, without what cannot be read.

    The role of our own services is never among them: only the file of the operator gives that.
    """
    found = []
    for text in _values(find_claim(claims, name))[:GRANTS_MAX]:
        try:
            grant = Grant.parse(text) if isinstance(text, str) else None
        except ValueError:  # of a later version, or of another program
            continue
        if grant is not None and grant.role is not Role.SERVICE:
            found.append(grant)
    return tuple(dict.fromkeys(found))


def _has_one(found: Any, wanted: tuple[Wanted, ...]) -> bool:
    return any(type(each) is type(one) and each == one for each in _values(found) for one in wanted)


def _values(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]
