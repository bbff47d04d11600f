"""Evaluate expressions that read secrets: what they make of one is a secret, and their errors name no values."""

from __future__ import annotations

from typing import TypeVar

from dalsegno.expressions.budget import CHARACTERS_PER_STEP
from dalsegno.expressions.evaluation import Source, shorten
from dalsegno.workflow.scope import EvaluationError, Scope
from dalsegno.workflow.secrets import Cipher, hide, show
from dalsegno.workflow.value import UnfitValue

Answer = TypeVar("Answer")


def evaluate(source: Source, scope: Scope, place: str, cipher: Cipher) -> object:
    """Return the value of an expression whose scope may hold secrets. It is a secret if a secret was read for it.
    Raises EvaluationError; of an expression that has read a secret, without the cause."""
    if source.path is not None and len(source.path) == 1:
        return source.evaluate(scope, place)  # a variable is passed on as it is
    reader = DecryptingScope(scope, cipher)
    try:
        found = source.evaluate(reader, place)
    except EvaluationError:
        if not reader.has_decrypted:
            raise
        raise _failure(source) from None
    if not reader.has_decrypted:
        return found
    try:
        return hide(found, cipher)
    except UnfitValue:
        raise _failure(source) from None


def _failure(source: Source) -> EvaluationError:
    told = "it failed; the cause is not shown, because it reads a secret"
    return EvaluationError(f"{shorten(source.text, 200)}: {told}")


class DecryptingScope:
    """A scope whose answers have their secrets decrypted. It notes whether there was one."""

    __slots__ = ("_cipher", "_counts", "_scope", "has_decrypted")

    def __init__(self, scope: Scope, cipher: Cipher, *, counts: bool = True) -> None:
        """`counts`: whether the event pays for what is decrypted."""
        self._scope = scope
        self._cipher = cipher
        self._counts = counts
        self.has_decrypted = False

    def encrypt(self, text: str) -> str:
        return self._cipher.encrypt(text)

    def decrypt(self, encrypted: str) -> str:
        if self._counts:
            self._scope.spend(len(encrypted) // CHARACTERS_PER_STEP + 1)
        return self._cipher.decrypt(encrypted)

    def _shown(self, answer: Answer) -> Answer:
        shown = show(answer, self)
        if shown is not answer:
            self.has_decrypted = True
        return shown  # type: ignore[return-value]

    @property
    def secrets(self) -> Cipher | None:
        return None

    def lasting(self) -> Scope:
        return DecryptingScope(self._scope.lasting(), self._cipher, counts=False)

    @property
    def steps_left(self) -> int:
        return self._scope.steps_left

    def spend(self, steps: int, *, is_moved: bool = False) -> None:
        self._scope.spend(steps, is_moved=is_moved)

    @property
    def at_s(self) -> float:
        return self._scope.at_s

    @property
    def seed(self) -> str:
        return self._scope.seed

    def variable(self, name: str) -> object:
        return self._shown(self._scope.variable(name))

    def variables(self) -> dict[str, object]:
        return self._shown(self._scope.variables())

    def task(self, name: str | None) -> dict[str, object] | None:
        return self._shown(self._scope.task(name))

    def item(self) -> object:
        return self._shown(self._scope.item())

    def result(self) -> object:
        return self._shown(self._scope.result())

    def status(self, name: str | None, route: int | None) -> str | None:
        return self._scope.status(name, route)

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        return self._shown(self._scope.run(name, route))

    def stored(self, environment: str, key: str) -> object:
        return self._shown(self._scope.stored(environment, key))

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        return self._shown(self._scope.tasks(execution_id, recursive, state, flat))

    def execution(self) -> dict[str, object]:
        return self._shown(self._scope.execution())

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        return self._shown(self._scope.executions(**criteria))

    def environment(self) -> dict[str, object]:
        return self._shown(self._scope.environment())

    def global_variable(self, name: str) -> object:
        return self._shown(self._scope.global_variable(name))
