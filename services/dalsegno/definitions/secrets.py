"""The keys `secrets` and `reveal` of a workflow, and `secret` of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dalsegno.definitions.forms import Forms
from dalsegno.definitions.problems import SEMANTIC, Path, shown

SECRETS, REVEAL, SECRET = "secrets", "reveal", "secret"


def read_secrets(forms: Forms, workflow: Mapping[str, Any], path: Path) -> frozenset[str]:
    """Read the names of the inputs, variables and outputs that are secrets."""
    return frozenset(forms.texts(workflow[SECRETS], (*path, SECRETS))) if SECRETS in workflow else frozenset()


def read_reveal(forms: Forms, workflow: Mapping[str, Any], path: Path) -> frozenset[str]:
    """Read the names of the variables and outputs that are shown, whatever they are made of; warn of each."""
    if REVEAL not in workflow:
        return frozenset()
    names = forms.texts(workflow[REVEAL], (*path, REVEAL))
    secrets = read_secrets(forms, workflow, path)
    for index, name in enumerate(names):
        place = (*path, REVEAL, index)
        if name in secrets:
            forms.fault(place, f"{shown(name)} is in `{SECRETS}` too: it is a secret, or it is shown", "", SEMANTIC)
        else:
            told = "is shown to everybody who may read the execution, also if it is made of secrets"
            forms.warn(place, f"{shown(name)} {told}", "", SEMANTIC)
    return frozenset(names)


def read_secret(forms: Forms, task: Mapping[str, Any], path: Path) -> bool:
    """Read whether the result of a task is a secret."""
    if SECRET not in task:
        return False
    value = task[SECRET]
    if not isinstance(value, bool):
        forms.fault((*path, SECRET), f"must be true or false, not {shown(value)}", "secret: true")
    return value is True
