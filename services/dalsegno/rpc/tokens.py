"""Resume tokens: the position of a stream. They are signed, so that nobody can forge one, and name their rpc.

A token is the base64 of a JSON list, a full stop, and a MAC over the first part. Every api of a store has the same key.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Sequence

from dalsegno.workflow.refusals import InvalidResumeToken

TASK_TOKEN_KEY = "task_token_key"
"""The setting of the store with the key of task tokens, 32 bytes in hex; the key of resume tokens is derived."""

Part = str | int | float


class ResumeTokens:
    """Makes and checks the tokens of all streams."""

    def __init__(self, task_token_key: str) -> None:
        self._key = hmac.digest(bytes.fromhex(task_token_key), b"resume tokens", "sha256")

    def write(self, rpc: str, subject: str, *parts: Part) -> str:
        """Return the token of a stream of this rpc: its subject and its position.

        >>> tokens = ResumeTokens("00")
        >>> tokens.read(tokens.write("WatchExecution", "e", 7), "WatchExecution", "e", (int,))
        [7]
        """
        text = json.dumps([rpc, subject, *parts], separators=(",", ":")).encode()
        body = base64.urlsafe_b64encode(text).decode().rstrip("=")
        return f"{body}.{self._mac(body)}"

    def read(self, token: str, rpc: str, subject: str, shape: Sequence[type]) -> list[Part]:
        """Return the position of the stream. Raises InvalidResumeToken."""
        body, _, mac = token.partition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode("utf-8", "replace")):
            raise InvalidResumeToken.of("resume_token", "is not valid: send the token of the stream unchanged")
        parts: list[Part]
        made_by, about, *parts = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if made_by != rpc:
            raise InvalidResumeToken.of("resume_token", f"is from a stream of {made_by}, not of {rpc}")
        if about != subject:
            raise InvalidResumeToken.of("resume_token", "is from a stream about something else: another id, or filter")
        if tuple(map(type, parts)) != tuple(shape):
            raise InvalidResumeToken.of(
                "resume_token", "is from a server of another version: begin again without a token"
            )
        return parts

    def _mac(self, body: str) -> str:
        mac = hmac.digest(self._key, body.encode("utf-8", "replace"), "sha256")[:16]
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")
