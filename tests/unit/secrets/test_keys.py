"""The keys of secrets, and what they encrypt."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from dalsegno.secrets import keys
from dalsegno.secrets.cipher import NO_CIPHERS, StoreCiphers
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import (
    MARK,
    MASK,
    Undecryptable,
    hide,
    hide_like,
    is_secret,
    mask,
    recrypt,
    secret_members,
    show,
    show_text,
)
from dalsegno.workflow.value import Value

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def write(path: Path, *lines: str) -> Path:
    """Write a file for its owner only."""
    path.touch(0o600)
    path.write_text("\n".join(lines))
    return path


def text_of(key: bytes) -> str:
    """Return a key as a line of a file."""
    return base64.b64encode(key).decode()


def test_a_file_has_a_key_a_line(tmp_path: Path) -> None:
    """Comments and empty lines are ignored; the first key is the newest."""
    file = write(tmp_path / "keys", "# the keys", "", text_of(ONE), f"  {text_of(TWO)}  ")
    assert keys.read_file(file) == (ONE, TWO)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no key"), ("# only this", "no key"), ("abc", "line 1"), (text_of(ONE[:16]), "32 random bytes")],
)
def test_a_wrong_file_is_refused(text: str, told: str, tmp_path: Path) -> None:
    """The message has the line, and how to make a key."""
    with pytest.raises(keys.UnfitKeys, match=told) as refused:
        keys.read_file(write(tmp_path / "keys", text))
    assert "openssl rand -base64 32" in str(refused.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    file = write(tmp_path / "keys", text_of(ONE))
    file.chmod(0o640)
    with pytest.raises(keys.UnfitKeys, match="chmod 600"):
        keys.read_file(file)
    with pytest.raises(keys.UnfitKeys, match="cannot read"):
        keys.read_file(tmp_path / "missing")


def test_a_command_prints_the_keys() -> None:
    """Its output is read as a file is; what it says on failure is passed on."""
    assert keys.read_command(f"echo {text_of(ONE)}") == (ONE,)
    with pytest.raises(keys.UnfitKeys, match="ended with 3: no vault"):
        keys.read_command("echo no vault >&2; exit 3")


def test_a_file_is_made_once(tmp_path: Path) -> None:
    """It is for its owner only, and a second call leaves it."""
    file = tmp_path / "keys"
    keys.ensure_file(file)
    first = keys.read_file(file)
    keys.ensure_file(file)
    assert keys.read_file(file) == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_key_of_a_store_changes_its_wrapping() -> None:
    """After a rewrap only the newest key opens it; the key inside, and so every secret, is the same."""
    wrapped = keys.wrap(ONE, b"s" * 32)
    assert keys.unwrap([TWO, ONE], wrapped) == b"s" * 32
    with pytest.raises(keys.UnfitKeys, match="another key"):
        keys.unwrap([TWO], wrapped)
    again = keys.rewrap([TWO, ONE], wrapped)
    assert keys.unwrap([TWO], again) == b"s" * 32
    with pytest.raises(keys.UnfitKeys):
        keys.unwrap([ONE], again)


def test_a_cipher_is_of_one_namespace() -> None:
    """Equal texts are encrypted equally; another namespace, another key or an altered text decrypts nothing."""
    ciphers = StoreCiphers(ONE)
    cipher = ciphers.of("a")
    encrypted = cipher.encrypt('"pässword"')
    assert encrypted.startswith(MARK)
    assert encrypted == StoreCiphers(ONE).of("a").encrypt('"pässword"')
    assert encrypted != ciphers.of("b").encrypt('"pässword"')
    assert cipher.decrypt(encrypted) == '"pässword"'
    flipped = encrypted[:-1] + ("A" if encrypted[-1] != "A" else "B")
    others = [(ciphers.of("b"), encrypted), (StoreCiphers(TWO).of("a"), encrypted), (cipher, flipped)]
    others += [(cipher, MARK), (cipher, f"{MARK}AAAA"), (cipher, f"{MARK}A")]
    for other, text in others:
        with pytest.raises(Undecryptable):
            other.decrypt(text)
    assert (
        recrypt(f'["{encrypted}"]', cipher, ciphers.of("b"))
        == f'["{ciphers.of("b").encrypt(chr(34) + "pässword" + chr(34))}"]'
    )


def test_without_a_key_nothing_is_encrypted() -> None:
    """The error says how to start the engine."""
    with pytest.raises(EvaluationError, match="--secret-keys"):
        hide("x", NO_CIPHERS.of(""))
    assert show(f"{MARK}abc", NO_CIPHERS.of("")) == f"{MARK}abc"


def test_values_are_hidden_and_shown() -> None:
    """Of a value as data and as text: secrets inside are found, keys are left, the rest is the same object."""
    cipher = StoreCiphers(ONE).of("")
    secret = hide({"a": [1, "zwei"]}, cipher)
    assert is_secret(secret)
    assert hide(secret, cipher) == secret
    data = {"plain": [1, {"b": "c"}], "hidden": secret, secret: 1}
    shown = show(data, cipher)
    assert shown == {"plain": [1, {"b": "c"}], "hidden": {"a": [1, "zwei"]}, secret: 1}
    assert shown["plain"] is data["plain"]
    text = Value(data=data).text
    assert show_text(text, cipher) == Value(data=shown).text
    assert mask(text) == Value(data={"plain": [1, {"b": "c"}], "hidden": MASK, MASK: 1}).text
    assert secret_members(text) == ["hidden"]
    assert hide([secret, "x"], cipher) == hide([{"a": [1, "zwei"]}, "x"], cipher), "nothing is encrypted twice"
    assert hide_like({"a": secret, "b": 1}, Value(data={"a": "new", "b": "new"}), cipher).data == {
        "a": hide("new", cipher),
        "b": "new",
    }
