"""The HMACs of tokens and signing keys."""

import hmac
import secrets

import pytest

from dalsegno.engine.executors.macs import Macs


@pytest.mark.parametrize("key_bytes", [0, 1, 32, 64])
def test_a_mac_is_that_of_the_standard_library(key_bytes: int) -> None:
    """A MAC is the HMAC-SHA256 that the standard library makes, for each text and also again."""
    key = secrets.token_bytes(key_bytes)
    macs = Macs(key)
    for text in (b"", b"a", b"attempt:1", secrets.token_bytes(200), b"a"):
        assert macs.of(text) == hmac.digest(key, text, "sha256")
