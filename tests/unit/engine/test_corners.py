"""Corners of the engine's parts that are seldom met."""

from __future__ import annotations

import gc
import secrets
import weakref

import pytest
from tests.unit.engine.test_conductor import Rig, Start

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.executors.progress import wrong_progress
from dalsegno.engine.executors.signatures import SIGNATURE_CHARACTERS_MAX, SigningKeys
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.changes import Signature
from dalsegno.workflow.refusals import SignatureInvalid


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_nothing_done_and_all_done_are_progress(fraction: float) -> None:
    """A fraction may be at either end."""
    assert list(wrong_progress(execution_pb2.ActionProgress(fraction=fraction))) == []


@pytest.mark.parametrize(("length", "reason"), [(0, "not genuine"), (1, "has more than 4096 characters")])
def test_the_length_of_a_signature(length: int, reason: str) -> None:
    """The longest one that is allowed is compared; a longer one is not."""
    signed = execution_pb2.SignedBody(
        scheme=execution_pb2.SIGNATURE_SCHEME_GITHUB, signature="x" * (SIGNATURE_CHARACTERS_MAX + length)
    )
    with pytest.raises(SignatureInvalid, match=reason):
        SigningKeys(secrets.token_hex(32)).check("e.1.0.1", 1, Signature.GITHUB, signed, 0.0)


def test_a_batch_is_freed_with_its_last_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch has loaded, megabytes at times, does not wait for a search for cycles."""
    rig, batches = Rig(), list[weakref.ref[Batch]]()
    rig.define()
    begin = Batch.__init__

    def noted(batch: Batch, *parts: object, **more: object) -> None:
        begin(batch, *parts, **more)  # type: ignore[arg-type]
        batches.append(weakref.ref(batch))

    monkeypatch.setattr(Batch, "__init__", noted)
    gc.disable()
    try:
        rig.carry_out(Start(1), Start(2))
        rig.finish_all()
        assert len(batches) > 2
        assert {batch() for batch in batches} == {None}
    finally:
        gc.enable()
