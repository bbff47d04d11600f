"""`dalsegno store rekey`: another key of the operator opens the secrets of a store."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from dalsegno.secrets import keys
from dalsegno.store.__main__ import main
from dalsegno.store.opening import open_store

OLD, NEW, STORE = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))


def write_keys(file: Path, *given: bytes) -> str:
    """Write a file of keys; return its path."""
    file.touch(0o600)
    file.write_text("".join(f"{base64.b64encode(each).decode()}\n" for each in given))
    return str(file)


def test_a_new_key_opens_the_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key of the store is encrypted with the first key of the file; a file without the present one is refused, and
    so is a store that has no secrets."""
    url = f"sqlite:///{tmp_path}/store.db"
    store = open_store(url)
    store.upgrade()
    both = write_keys(tmp_path / "both", NEW, OLD)
    assert main(["rekey", both, "--database", url]) == 2
    assert "this store has no secrets" in capsys.readouterr().err

    with store.write() as transaction:
        transaction.settle(keys.STORE_KEY, keys.wrap(OLD, STORE))
    assert main(["rekey", write_keys(tmp_path / "new", NEW), "--database", url]) == 2
    assert "another key" in capsys.readouterr().err
    assert main(["rekey", both, "--database", url]) == 0
    assert "the first key of the file opens the secrets now" in capsys.readouterr().out
    with store.read() as queries:
        wrapped = queries.setting(keys.STORE_KEY)
    store.close()

    assert wrapped is not None
    assert keys.unwrap([NEW], wrapped) == STORE
    with pytest.raises(keys.UnfitKeys):
        keys.unwrap([OLD], wrapped)
