"""What a third party needs to report on a delivery: its token, the address with the token, and its signing key.

All three are made when the action is handed out, and are stored nowhere. In an input, CALLBACK_URL stands for the
address until then.
"""

from __future__ import annotations

from dalsegno.engine.executors.signatures import SigningKeys
from dalsegno.engine.executors.tokens import Tokens
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.scope import CALLBACK_URL
from dalsegno.workflow.value import VALUE_BYTES_MAX, byte_length

PATH = "/hooks/token/"

_NO_ADDRESS = (
    "callback_url() needs an address that third parties can reach: start the engine with --public-url, "
    "or give the task token to the third party"
)


class Callbacks:
    """Adds to a RunAction what its third party needs."""

    def __init__(self, key: str, public_url: str = "") -> None:
        """`key`: that of the task tokens, in hex. `public_url`: where third parties reach the gateway, without a
        slash at its end; empty: they cannot."""
        self.tokens = Tokens(key)
        self.signing_keys = SigningKeys(key)
        self._address = public_url + PATH if public_url else ""

    def obstacle(self, text: str) -> str:
        """Return why an action with this input, a JSON text, cannot be handed out; empty if it can."""
        if CALLBACK_URL not in text:
            return ""
        if not self._address:
            return _NO_ADDRESS
        longest = len(self._address) + TOKEN_CHARACTERS_MAX
        size = byte_length(text) + text.count(CALLBACK_URL) * (longest - len(CALLBACK_URL))
        if size > VALUE_BYTES_MAX:
            told = "with the address in place of callback_url()"
            return f"the input has {size:,} bytes {told}; at most {VALUE_BYTES_MAX:,} are allowed"
        return ""

    def add(self, message: wire.RunAction) -> None:
        """Add the token, the address and the signing key, and put the address in its places in the input."""
        name, delivery = message.action_execution_id, message.delivery
        message.task_token = token = self.tokens.make(name, delivery)
        message.signing_key = self.signing_keys.make(name, delivery)
        if self._address:
            message.callback_url = self._address + token
            if CALLBACK_URL in message.input:
                message.input = message.input.replace(CALLBACK_URL, message.callback_url)


TOKEN_CHARACTERS_MAX = 160
"""More than the longest token: an id of an attempt, a delivery, 64 digits."""
