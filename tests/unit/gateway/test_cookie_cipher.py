"""The encrypted texts in cookies: who can read them, and their keys."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from dalsegno.gateway.cookie_cipher import BadKeyFile, CookieCipher, Purpose


def new_key() -> str:
    """Return a key as a file has it."""
    return base64.b64encode(os.urandom(32)).decode()


def test_only_the_same_key_decrypts_for_the_same_purpose(tmp_path: Path) -> None:
    """What one gateway encrypts another one with the same file decrypts, for the purpose for which it was made; nobody
    else does, and no altered text is decrypted."""
    file = tmp_path / "keys"
    file.write_text(new_key())
    one, other, stranger = CookieCipher(str(file)), CookieCipher(str(file)), CookieCipher()
    encrypted = one.encrypt(b"content", Purpose.SESSION)
    assert other.decrypt(encrypted, Purpose.SESSION) == b"content"
    assert other.decrypt(encrypted, Purpose.LOGIN) is None
    assert stranger.decrypt(encrypted, Purpose.SESSION) is None
    for text in (
        "",
        "A",
        "=",
        "é",
        "a b",
        "A" * 30,
        encrypted[:-2],
        f"{encrypted}A",
        encrypted.swapcase(),
        f"{encrypted}=\n",
    ):
        assert one.decrypt(text, Purpose.SESSION) is None
    for index in range(0, len(encrypted), 7):
        other_letter = "A" if encrypted[index] != "A" else "B"
        assert one.decrypt(encrypted[:index] + other_letter + encrypted[index + 1 :], Purpose.SESSION) is None
    assert one.encrypt(b"content", Purpose.SESSION) != encrypted


def test_keys_are_replaced_without_an_end_of_sessions(tmp_path: Path) -> None:
    """The first key encrypts and all decrypt: a new one is put before the old one, which is removed later. A file with
    a fault leaves the keys from before in use."""
    old, new, file = new_key(), new_key(), tmp_path / "keys"

    def write(*lines: str) -> None:
        (tmp_path / "new").write_text("\n".join(lines) + "\n")
        os.replace(tmp_path / "new", file)

    write(old)
    cipher = CookieCipher(str(file))
    before = cipher.encrypt(b"1", Purpose.SESSION)
    write(new, old)
    after = cipher.encrypt(b"2", Purpose.SESSION)
    assert (cipher.decrypt(before, Purpose.SESSION), cipher.decrypt(after, Purpose.SESSION)) == (b"1", b"2")
    write("half")
    assert cipher.decrypt(after, Purpose.SESSION) == b"2"
    write(new)
    assert (cipher.decrypt(before, Purpose.SESSION), cipher.decrypt(after, Purpose.SESSION)) == (None, b"2")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "there is no key in it"),
        (b"short", "line 1 of it must be 32 random bytes in base64 .openssl rand -base64 32 makes a key"),
        (b"\xff" * 44, "line 1 of it must be"),
        (f"{new_key()}\n".encode() * 11, "it has 11 keys"),
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    """At the start, with what to do and without what is in it."""
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(BadKeyFile, match=told):
        CookieCipher(str(tmp_path / "keys"))
    with pytest.raises(BadKeyFile, match="it cannot be read: No such file"):
        CookieCipher(str(tmp_path / "none"))
