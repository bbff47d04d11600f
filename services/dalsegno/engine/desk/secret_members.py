"""The field `secrets` of requests: the names of the members that are stored encrypted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dalsegno.rpc.convert import Fields
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import Cipher, hide_named
from dalsegno.workflow.value import UnfitValue, Value

SECRETS_MAX = 1_000
"""How many names of secrets a request may have."""


def secret_names(fields: Fields, names: Sequence[str], given: Collection[str]) -> None:
    """Check the field with the names of secrets. `given`: the names that have values. (The value of a misspelt name
    would be stored in clear.)"""
    if len(names) > SECRETS_MAX:
        fields.refuse("secrets", f"has {len(names):,} names; at most {SECRETS_MAX:,} are allowed")
    for index, name in enumerate(names[:SECRETS_MAX]):
        if fields.text(f"secrets[{index}]", name) not in given:
            fields.refuse(f"secrets[{index}]", f"is '{name:.100}', for which the request has no value")


def hide_members(value: Value, names: Collection[str], cipher: Cipher) -> Value:
    """Return an object with the members of these names encrypted. Raises InvalidRequest."""
    if not names:
        return value
    assert isinstance(value.data, dict)
    try:
        return Value(data=hide_named(value.data, frozenset(names), cipher))
    except (UnfitValue, EvaluationError) as error:
        raise InvalidRequest.of("secrets", str(error)) from None
