"""Task tokens. With a token anybody may complete a delegated action (P23)."""

from __future__ import annotations

import hmac
import secrets

from dalsegno.workflow.identity import AttemptKey, attempt_id, parse_attempt_id
from dalsegno.workflow.refusals import PermissionDenied


def new_key() -> str:
    """Return a new key. The first engine stores it, so that tokens are valid in every engine and after every restart
    (P12)."""
    return secrets.token_hex(32)


class Tokens:
    """Makes and checks tokens: the attempt, the delivery, and an HMAC-SHA256 over both."""

    def __init__(self, key: str) -> None:
        self._hmac = hmac.new(bytes.fromhex(key), digestmod="sha256")

    def make(self, attempt: str, delivery: int) -> str:
        """Return the token of a delivery of an attempt. `attempt` is its id."""
        text = f"{attempt}:{delivery}"
        signed = self._hmac.copy()  # faster than one with the key each time
        signed.update(text.encode())
        return f"{text}:{signed.hexdigest()}"

    def read(self, token: str) -> tuple[str, AttemptKey, int]:
        """Return the execution, the attempt and the delivery of a token. Raises PermissionDenied when it is not
        genuine."""
        try:
            attempt, delivery, _ = token.split(":")
            execution_id, key = parse_attempt_id(attempt)
            expected = self.make(attempt_id(execution_id, key), int(delivery))
        except ValueError:
            raise PermissionDenied("the task token is not genuine") from None
        if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            raise PermissionDenied("the task token is not genuine")
        return execution_id, key, int(delivery)
