"""Sealed texts: who can read them, and their keys."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from dalsegno.gateway.seal import BadKeyFile, Purpose, Seal


def new_key() -> str:
    """Return a key as a file has it."""
    return base64.b64encode(os.urandom(32)).decode()


def test_only_the_same_key_opens_for_the_same_purpose(tmp_path: Path) -> None:
    """What one gateway seals another one with the same file opens, for the purpose for which it was sealed; nobody
    else does, and no altered text is opened."""
    file = tmp_path / "keys"
    file.write_text(new_key())
    one, other, stranger = Seal(str(file)), Seal(str(file)), Seal()
    sealed = one.close(b"content", Purpose.SESSION)
    assert other.open(sealed, Purpose.SESSION) == b"content"
    assert other.open(sealed, Purpose.LOGIN) is None
    assert stranger.open(sealed, Purpose.SESSION) is None
    for text in ("", "A", "=", "é", "a b", "A" * 30, sealed[:-2], f"{sealed}A", sealed.swapcase(), f"{sealed}=\n"):
        assert one.open(text, Purpose.SESSION) is None
    for index in range(0, len(sealed), 7):
        other_letter = "A" if sealed[index] != "A" else "B"
        assert one.open(sealed[:index] + other_letter + sealed[index + 1 :], Purpose.SESSION) is None
    assert one.close(b"content", Purpose.SESSION) != sealed


def test_keys_are_replaced_without_an_end_of_sessions(tmp_path: Path) -> None:
    """The first key seals and all open, so that a new one is put before the old one, which goes later. A file with a
    fault leaves the keys from before in use."""
    old, new, file = new_key(), new_key(), tmp_path / "keys"

    def write(*lines: str) -> None:
        (tmp_path / "new").write_text("\n".join(lines) + "\n")
        os.replace(tmp_path / "new", file)

    write(old)
    seal = Seal(str(file))
    before = seal.close(b"1", Purpose.SESSION)
    write(new, old)
    after = seal.close(b"2", Purpose.SESSION)
    assert (seal.open(before, Purpose.SESSION), seal.open(after, Purpose.SESSION)) == (b"1", b"2")
    write("half")
    assert seal.open(after, Purpose.SESSION) == b"2"
    write(new)
    assert (seal.open(before, Purpose.SESSION), seal.open(after, Purpose.SESSION)) == (None, b"2")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it has 0 keys; 1 to 10 are taken"),
        (b"short", "line 1 is no key of 32 bytes in base64; `openssl rand -base64 32` makes one"),
        (b"\xff" * 44, "line 1 is no key"),
        (b"A\n" * 11, "it has 11 keys"),
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    """At the start, with what to do and without what is in it."""
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(BadKeyFile, match=told):
        Seal(str(tmp_path / "keys"))
    with pytest.raises(BadKeyFile, match="it cannot be read: No such file"):
        Seal(str(tmp_path / "none"))
