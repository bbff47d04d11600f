"""Task tokens: with one, anyone may complete a delegated action, whoever they are (P23)."""

from __future__ import annotations

import hmac
import secrets

from dalsegno.workflow.identity import AttemptKey, attempt_id, parse_attempt_id
from dalsegno.workflow.refusals import PermissionDenied


def new_key() -> str:
    """A key, kept in the store so that a token holds in every engine and after every restart (P12): made by the
    first engine that needs one."""
    return secrets.token_hex(32)


class Tokens:
    """Makes and checks tokens: the attempt, the delivery, and an HMAC-SHA256 over both."""

    def __init__(self, key: str) -> None:
        self._hmac = hmac.new(bytes.fromhex(key), digestmod="sha256")

    def make(self, attempt: str, delivery: int) -> str:
        """The token of a delivery of an attempt, named by its id."""
        text = f"{attempt}:{delivery}"
        signed = self._hmac.copy()  # quicker than one with the key each time
        signed.update(text.encode())
        return f"{text}:{signed.hexdigest()}"

    def read(self, token: str) -> tuple[str, AttemptKey, int]:
        """The execution, the attempt and the delivery of a token. Raises PermissionDenied when it is not genuine."""
        try:
            attempt, delivery, _ = token.split(":")
            execution_id, key = parse_attempt_id(attempt)
            expected = self.make(attempt_id(execution_id, key), int(delivery))
        except ValueError:
            raise PermissionDenied("the task token is not genuine") from None
        if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            raise PermissionDenied("the task token is not genuine")
        return execution_id, key, int(delivery)
